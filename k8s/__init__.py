"""The cluster client: values, release, status, logs."""
