"""The systems that are compared, one file each, behind one registry. docs/adding_a_system.md shows how to add one."""

from __future__ import annotations

from s3prl_metaperser.registry import Registry

__all__ = ["DEFAULT_SYSTEM", "FINETUNED_SYSTEMS", "SYSTEMS", "systems"]

DEFAULT_SYSTEM = "Meta-PerSER"

_HERE = "s3prl_metaperser.methods"
_ROWS = {  # Table 2 (section 4.3)
    "none": "MAML from a random head, no part on (Table 2, row 1)",
    "INI": "from SSL-E (Table 2; section 2.3.1)",
    "INI+CSMT": "from SSL-E, combined-set meta-training (Table 2; section 2.3.2)",
    "INI+DA": "from SSL-E, derivative annealing (Table 2; section 2.3.3)",
    "INI+LSLR": "from SSL-E, learned rates per layer and step (Table 2; section 2.3.3)",
    "all": "all four parts on, whatever metarc says (Table 2, last row)",
}


def _table_2(registry: Registry, prefix: str = "") -> None:
    for parts, summary in _ROWS.items():
        attribute = prefix + parts.upper().replace("+", "_")
        registry.register(f"{DEFAULT_SYSTEM}:{parts}", f"{_HERE}.ablations:{attribute}", summary)


SYSTEMS = Registry("system", "s3prl_metaperser.systems")
SYSTEMS.register("Random", f"{_HERE}.random_logits:Random", "standard-normal logits: the floor of every table")
SYSTEMS.register("Linear-Zero", f"{_HERE}.linear_zero:LinearZero", "consensus labels, no adaptation (section 2.4)")
SYSTEMS.register("Linear-Few", f"{_HERE}.linear_few:LinearFew", "consensus labels, then K samples (section 2.4)")
SYSTEMS.register("Linear-Sim", f"{_HERE}.linear_sim:LinearSim", "cosine to class centres (section 2.4, eq. 1)")
SYSTEMS.register("Multi-Few", f"{_HERE}.multi_few:MultiFew", "a classifier a rater, at test a new one (section 2.4)")
SYSTEMS.register("Meta-PerSER", f"{_HERE}.meta_perser:MetaPerSER", "MAML with CSMT, DA and LSLR (section 2.3)")
_table_2(SYSTEMS)

FINETUNED_SYSTEMS = Registry("system with -f", "s3prl_metaperser.finetuned_systems")
FINETUNED_SYSTEMS.register("Random", f"{_HERE}.random_logits:Random", "standard-normal logits")
FINETUNED_SYSTEMS.register("Entire-Zero", f"{_HERE}.entire:EntireZero", "SSL-E, no adaptation (section 2.4)")
FINETUNED_SYSTEMS.register("Entire-Few", f"{_HERE}.entire:EntireFew", "SSL-E, then K samples (section 2.4)")
FINETUNED_SYSTEMS.register("Entire-Sim", f"{_HERE}.entire_sim:EntireSim", "SSL-E, class centres (section 2.4, eq. 1)")
FINETUNED_SYSTEMS.register(
    "Multi-Few", f"{_HERE}.multi_few_entire:MultiFewEntire", "a classifier a rater (section 2.4)"
)
FINETUNED_SYSTEMS.register(
    "Meta-PerSER", f"{_HERE}.meta_perser_entire:MetaPerSEREntire", "MAML over the whole model (section 2.3)"
)
_table_2(FINETUNED_SYSTEMS, "ENTIRE_")


def systems(finetuned: bool) -> Registry:
    """The systems of a scope: on a frozen upstream, or with ``-f``."""
    return FINETUNED_SYSTEMS if finetuned else SYSTEMS
