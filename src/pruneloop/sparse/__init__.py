"""Weights with many zeros in a small file, and what reads it."""
