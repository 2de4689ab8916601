"""Options, the validator that checks them, the YAML files that set them, and ``-o``."""
