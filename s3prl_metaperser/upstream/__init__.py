"""Upstreams by their s3prl hub names, exact batching, and the pooled feature store."""
