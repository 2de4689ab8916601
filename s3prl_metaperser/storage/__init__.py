"""Files that are whole or not there, locks, hashes, provenance, and where things lie."""
