"""TSP and TAC: training and extraction, what runs in the pod."""

DISTRIBUTION = "tspctl"
"""Whose package this is (tspctl.py)."""
