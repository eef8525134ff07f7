"""A run as its backend and its store tell it."""
