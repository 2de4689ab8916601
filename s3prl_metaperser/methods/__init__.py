"""The systems that are compared, one file each, behind one registry."""

from __future__ import annotations

from s3prl_metaperser.registry import Registry

__all__ = ["DEFAULT_SYSTEM", "SYSTEMS"]

DEFAULT_SYSTEM = "Meta-PerSER"

SYSTEMS = Registry("system", "s3prl_metaperser.systems")
_HERE = "s3prl_metaperser.methods"
SYSTEMS.register("Random", f"{_HERE}.random_logits:Random", "standard-normal logits: the floor of every table")
SYSTEMS.register("Linear-Zero", f"{_HERE}.linear_zero:LinearZero", "consensus labels, no adaptation")
SYSTEMS.register("Linear-Few", f"{_HERE}.linear_few:LinearFew", "consensus labels, then K samples (section 2.4)")
SYSTEMS.register("Meta-PerSER", f"{_HERE}.meta_perser:MetaPerSER", "MAML with CSMT, DA and LSLR (section 2.3)")
