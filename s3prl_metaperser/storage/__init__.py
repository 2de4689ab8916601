"""Files that exist whole or not at all, locks, hashes, provenance, and where files are."""
