"""Buckets of S3-compatible servers."""
