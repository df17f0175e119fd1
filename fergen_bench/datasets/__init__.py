"""Readers: the layouts in which people have datasets → the prepared form."""
