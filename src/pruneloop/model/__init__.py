"""The model and its tokenizer: built from random weights, or loaded."""
