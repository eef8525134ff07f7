"""Runs on this machine: a supervisor per run, a process per rank."""
