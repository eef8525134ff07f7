"""``tspctl watch``: runs on a live screen."""
