"""From a checkpoint to features and global video features."""
