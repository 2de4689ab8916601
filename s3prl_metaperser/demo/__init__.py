"""The demo corpus: synthetic speech with known emotions and known raters, in IEMOCAP's layout; and ten corpora of acted
speech in the layouts of real ones."""

from __future__ import annotations

from s3prl_metaperser.demo.domains import VARIANTS as DOMAIN_VARIANTS
from s3prl_metaperser.demo.raters import VARIANTS
from s3prl_metaperser.demo.write import RECIPE_VERSION, write_demo_corpus
from s3prl_metaperser.demo.write_domains import roots, write_demo_corpora

__all__ = ["DOMAIN_VARIANTS", "RECIPE_VERSION", "VARIANTS", "roots", "write_demo_corpora", "write_demo_corpus"]
