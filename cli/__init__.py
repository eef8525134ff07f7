"""The command tspctl."""
