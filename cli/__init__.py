"""The command tspctl."""

DISTRIBUTION = "tspctl"
"""Whose package this is: others are called ``cli`` too (tspctl.py)."""
