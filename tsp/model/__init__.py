"""Encoders, heads and losses; self-contained."""
