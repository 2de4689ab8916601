#!/usr/bin/env python
"""s3prl's launcher with ``-d personalized_emotion`` in it; runs from any directory, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from s3prl_metaperser.s3prl_plugin.launcher import main

if __name__ == "__main__":
    sys.exit(main())
