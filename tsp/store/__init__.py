"""Where bytes lie: a local folder or a bucket of an S3-compatible server, behind the same verbs."""
