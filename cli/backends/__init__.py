"""Backends: a cluster, or this machine."""
