"""penny: one lab out of unequal computers."""
__version__ = "0.1.0"
