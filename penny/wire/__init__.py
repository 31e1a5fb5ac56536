"""Formats on the wire: bytes or text to values and back, without a clock, a socket, a file or a log."""
