"""What a run is: configuration, sizing, store, records. Torch-free, shared by laptop and pod."""
