"""From raw videos and annotations to a data set that trains."""
