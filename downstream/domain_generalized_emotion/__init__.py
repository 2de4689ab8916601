"""What s3prl sees of domain generalisation."""
