"""Options: their types, the YAML that sets them, and ``-o``."""
