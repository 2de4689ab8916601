"""Where things that can be made again are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root(cache_dir: str | None = None) -> Path:
    """``datarc.cache_dir``, else ``$METAPERSER_CACHE``, else ``~/.cache/s3prl_metaperser``."""
    chosen = cache_dir or os.environ.get("METAPERSER_CACHE") or Path.home() / ".cache" / "s3prl_metaperser"
    return Path(chosen).expanduser().resolve()
