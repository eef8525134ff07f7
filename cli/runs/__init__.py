"""A run as its backend and its store show it."""
