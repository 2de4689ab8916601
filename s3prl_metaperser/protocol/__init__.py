"""Who learns from what: labels, splits, the leakage check, episodes and their loader."""
