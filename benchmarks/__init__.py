"""Timings and errors of our code compared with the published system, each in one run."""
