"""Alternate fine-tuning and global magnitude pruning of Korean text classifiers."""

__version__ = "0.1.0"
