"""Timings and errors of ours beside the published system's, each in one run."""
