"""The cluster client: values, release, status, logs."""

DISTRIBUTION = "tspctl"
"""Whose package this is: others are called ``k8s`` too (tspctl.py)."""
