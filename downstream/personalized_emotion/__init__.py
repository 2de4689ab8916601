"""What s3prl sees of s3prl_metaperser."""
