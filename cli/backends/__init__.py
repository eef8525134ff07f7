"""Where runs live: a cluster, or this machine."""
