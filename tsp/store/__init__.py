"""Storage: local folders and buckets of S3-compatible servers, with the same interface."""
