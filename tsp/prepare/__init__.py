"""From raw videos and annotations to a data set that is ready for training."""
