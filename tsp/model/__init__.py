"""Encoders, heads and losses. Stands by itself."""
