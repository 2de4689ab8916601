"""The systems that are compared, one file each, behind one registry. docs/adding_a_system.md shows how to add one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from s3prl_metaperser.methods.facts import (
    CLIPPING,
    EXPERT,
    FEW_SHOT,
    INITIALISATION,
    META_TRAINING,
    Facts,
)
from s3prl_metaperser.registry import Registry

if TYPE_CHECKING:
    from s3prl_metaperser.methods.base import System

__all__ = ["DEFAULT_SYSTEM", "FINETUNED_SYSTEMS", "SYSTEMS", "Facts", "facts_of", "systems", "table2_rows"]

DEFAULT_SYSTEM = "Meta-PerSER"

_HERE = "s3prl_metaperser.methods"
_META = Facts(
    "MAML with CSMT, DA and LSLR (section 2.3)",
    uses=(*INITIALISATION, *META_TRAINING),
    initialised=f"{EXPERT}.metarc.initialisation",
    trains="episodes",
    adapts_by="rates",
    colour="#d55e00",
    table1=7,
    parts={
        "INI": f"{EXPERT}.metarc.initialisation",
        "CSMT": f"{EXPERT}.metarc.combined_set",
        "DA": f"{EXPERT}.metarc.derivative_annealing",
        "LSLR": f"{EXPERT}.metarc.lslr",
    },
)
#: Table 2 (section 4.3): row -> what it is. The parts that a row names are on, all others off.
_ROWS = {
    "none": "MAML from a random head, no part on (Table 2, row 1)",
    "INI": "from SSL-E (Table 2; section 2.3.1)",
    "INI+CSMT": "from SSL-E, combined-set meta-training (Table 2; section 2.3.2)",
    "INI+DA": "from SSL-E, derivative annealing (Table 2; section 2.3.3)",
    "INI+LSLR": "from SSL-E, learned rates per layer and step (Table 2; section 2.3.3)",
    "all": "all four parts on, whatever metarc says (Table 2, last row)",
}


def _row(name: str, summary: str) -> Facts:
    named = tuple(_META.parts) if name == "all" else tuple(name.split("+"))
    fixed = {option: part in named for part, option in _META.parts.items()}
    return dataclasses.replace(
        _META, summary=summary, fixed=fixed, variant_of=DEFAULT_SYSTEM, colour=None, table1=None, parts={}
    )


_zero = Facts("consensus labels, no adaptation (section 2.4)", ("frozen",), INITIALISATION, initialised=True, table1=4)
_few = Facts(
    "consensus labels, then K samples (section 2.4)",
    ("frozen",),
    (*INITIALISATION, *FEW_SHOT),
    initialised=True,
    adapts_by="optimizer",
    table1=2,
    guest=True,
)
_sim = dataclasses.replace(_zero, summary="cosine to class centres (section 2.4, eq. 1)", table1=6)
_entire = ("finetuned",)
_FACTS = {
    "Random": Facts(
        "standard-normal logits: the floor of every table", uses=(), learns=False, colour="#8a8f98", table1=1
    ),
    "Linear-Zero": _zero,
    "Entire-Zero": dataclasses.replace(_zero, summary="SSL-E, no adaptation (section 2.4)", scopes=_entire),
    "Linear-Few": _few,
    "Entire-Few": dataclasses.replace(
        _few, summary="SSL-E, then K samples (section 2.4)", scopes=_entire, table1=3, guest=False
    ),
    "Linear-Sim": _sim,
    "Entire-Sim": dataclasses.replace(_sim, summary="SSL-E, class centres (section 2.4, eq. 1)", scopes=_entire),
    "Multi-Few": Facts(
        "a classifier a rater, at test a new one (section 2.4)",
        uses=(*INITIALISATION, *FEW_SHOT, *CLIPPING),
        trains="batches",
        adapts_by="classifier",
        table1=5,
    ),
    DEFAULT_SYSTEM: _META,
    **{f"{DEFAULT_SYSTEM}:{name}": _row(name, summary) for name, summary in _ROWS.items()},
}
_FILES = {
    "frozen": {
        "Random": "random_logits:Random",
        "Linear-Zero": "linear_zero:LinearZero",
        "Linear-Few": "linear_few:LinearFew",
        "Linear-Sim": "linear_sim:LinearSim",
        "Multi-Few": "multi_few:MultiFew",
        DEFAULT_SYSTEM: "meta_perser:MetaPerSER",
    },
    "finetuned": {
        "Random": "random_logits:Random",
        "Entire-Zero": "entire:EntireZero",
        "Entire-Few": "entire:EntireFew",
        "Entire-Sim": "entire_sim:EntireSim",
        "Multi-Few": "multi_few_entire:MultiFewEntire",
        DEFAULT_SYSTEM: "meta_perser_entire:MetaPerSEREntire",
    },
}


def _registry(kind: str, group: str, scope: str, prefix: str) -> Registry[type[System]]:
    registry: Registry[type[System]] = Registry(kind, group)
    for name, target in _FILES[scope].items():
        registry.register(name, f"{_HERE}.{target}", _FACTS[name].summary)
    for row, summary in _ROWS.items():
        attribute = prefix + row.upper().replace("+", "_")
        registry.register(f"{DEFAULT_SYSTEM}:{row}", f"{_HERE}.ablations:{attribute}", summary)
    return registry


SYSTEMS = _registry("system", "s3prl_metaperser.systems", "frozen", "")
FINETUNED_SYSTEMS = _registry("system with -f", "s3prl_metaperser.finetuned_systems", "finetuned", "ENTIRE_")


def systems(finetuned: bool) -> Registry[type[System]]:
    """The systems of a scope: on a frozen upstream, or with ``-f``."""
    return FINETUNED_SYSTEMS if finetuned else SYSTEMS


def facts_of(name: str) -> Facts:
    """The facts that a system declares; those of another package's system are its class's attribute ``facts``.

    A system that declares none, or is not installed here (as one of another's results may be), is taken to depend on
    every option; a variant of a known system (``Meta-PerSER:mine``) costs what that system does.

    >>> facts_of("Linear-Few").uses
    ('downstream_expert.initrc', 'downstream_expert.fewrc')
    """
    if name in _FACTS:
        return _FACTS[name]
    for registry in (SYSTEMS, FINETUNED_SYSTEMS):
        if name in registry.names():
            return getattr(registry.get(name), "facts", Facts())
    base = name.partition(":")[0]
    if base != name and base in _FACTS:
        return dataclasses.replace(
            _FACTS[base], uses=None, initialised=False, variant_of=base, colour=None, table1=None
        )
    return Facts()


def table2_rows() -> dict[str, tuple[str, ...]]:
    """Table 2's rows: system -> the parts that are on in it, in the paper's order."""
    parts = _META.parts.items()
    rows = {name: facts for name, facts in _FACTS.items() if facts.variant_of == DEFAULT_SYSTEM}
    return {name: tuple(part for part, option in parts if facts.fixed[option]) for name, facts in rows.items()}
