"""What s3prl needs to run on today's torch, and its hub of upstreams. It imports nothing to its right."""
