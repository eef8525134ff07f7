"""TSP and TAC: training and extraction; the code that runs in the pod."""

DISTRIBUTION = "tspctl"
"""Whose package this is (tspctl.py)."""
