"""A run in a store: its files, states and records. Torch-free, shared by laptop and pod."""
