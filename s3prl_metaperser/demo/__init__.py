"""The demo corpus: synthetic speech with known emotions and known raters, in IEMOCAP's layout."""

from __future__ import annotations

from s3prl_metaperser.demo.raters import VARIANTS
from s3prl_metaperser.demo.write import RECIPE_VERSION, write_demo_corpus

__all__ = ["RECIPE_VERSION", "VARIANTS", "write_demo_corpus"]
