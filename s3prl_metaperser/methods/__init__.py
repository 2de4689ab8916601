"""The systems that are compared, one file each, behind one registry."""

from __future__ import annotations

from s3prl_metaperser.registry import Registry

__all__ = ["DEFAULT_SYSTEM", "FINETUNED_SYSTEMS", "SYSTEMS", "systems"]

DEFAULT_SYSTEM = "Meta-PerSER"

SYSTEMS = Registry("system", "s3prl_metaperser.systems")
_HERE = "s3prl_metaperser.methods"
SYSTEMS.register("Random", f"{_HERE}.random_logits:Random", "standard-normal logits: the floor of every table")
SYSTEMS.register("Linear-Zero", f"{_HERE}.linear_zero:LinearZero", "consensus labels, no adaptation")
SYSTEMS.register("Linear-Few", f"{_HERE}.linear_few:LinearFew", "consensus labels, then K samples (section 2.4)")
SYSTEMS.register("Meta-PerSER", f"{_HERE}.meta_perser:MetaPerSER", "MAML with CSMT, DA and LSLR (section 2.3)")

FINETUNED_SYSTEMS = Registry("system with -f", "s3prl_metaperser.finetuned_systems")
FINETUNED_SYSTEMS.register("Random", f"{_HERE}.random_logits:Random", "standard-normal logits")
FINETUNED_SYSTEMS.register("Entire-Zero", f"{_HERE}.entire:EntireZero", "SSL-E, no adaptation (section 2.4)")
FINETUNED_SYSTEMS.register("Entire-Few", f"{_HERE}.entire:EntireFew", "SSL-E, then K samples (section 2.4)")
FINETUNED_SYSTEMS.register("Meta-PerSER", f"{_HERE}.meta_perser_entire:MetaPerSEREntire", "MAML over the whole model")


def systems(finetuned: bool) -> Registry:
    """The systems of a scope: on a frozen upstream, or with ``-f``."""
    return FINETUNED_SYSTEMS if finetuned else SYSTEMS
