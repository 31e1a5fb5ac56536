"""Layer 0: what every part of penny stands on. Standard library only; imports nothing else of penny."""
