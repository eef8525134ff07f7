"""``tspctl tensorboard``: histories of runs as TensorBoard's event files."""
