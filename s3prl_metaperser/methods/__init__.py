"""The systems that are compared, one class each, behind one table. docs/adding_a_system.md shows how to add one."""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.methods.facts import (
    CLIPPING,
    EXPERT,
    FEW_SHOT,
    INITIALISATION,
    META_TRAINING,
    NUMBERS,
    Facts,
    Scope,
)
from s3prl_metaperser.methods.outputs import MARK, OUTPUTS, PARTS, on_top, parts_of
from s3prl_metaperser.registry import Registry

if TYPE_CHECKING:
    from s3prl_metaperser.methods.base import System

__all__ = [
    "DEFAULT_SYSTEM",
    "FINETUNED_SYSTEMS",
    "OUTPUTS",
    "SYSTEMS",
    "Facts",
    "facts_of",
    "parts_of",
    "register",
    "systems",
    "table2_rows",
    "trained_as",
    "zero_shot_of",
]

DEFAULT_SYSTEM = "Meta-PerSER"


class Systems(Registry["type[System]"]):
    """The systems of one scope.

    Args:
        scope: ``frozen`` or ``finetuned``.
        groups: entry-point groups of other packages' systems; for a name in two groups the first group counts.
    """

    def __init__(self, kind: str, scope: Scope, *groups: str):
        super().__init__(kind, *groups, expected=("a System, whose facts are Facts", _is_system))
        self.scope = scope

    def get(self, name: str) -> type[System]:
        """The class behind ``name``, with its name, scope and facts.

        Raises:
            UserError: the name is unknown here, or the system does not serve this scope.
        """
        base, outputs = parts_of(name)
        if outputs and self.knows(name):
            made = importlib.import_module(f"{_HERE}.output_only").on_top_of  # imports torch, and this module
            return made(self.get(base), name, outputs, facts_of(name))
        loaded = super().get(name)
        facts = self.declared(name) or Facts(scopes=(self._group_of(name),))
        if self.scope not in facts.scopes:
            raise UserError(f"{name} does not serve the scope {self.scope}. Its facts name: {', '.join(facts.scopes)}.")
        content: dict[str, Any] = {"name": name, "scope": self.scope, "facts": facts}
        if facts.trained_as:
            content["system"] = self.get(facts.trained_as)
        return type(loaded.__name__, (loaded,), {**content, "__doc__": loaded.__doc__, "__module__": loaded.__module__})

    def declared(self, name: str) -> Facts | None:
        """The facts that a system was registered with, or that its class has."""
        return self._entry(name).facts or super().get(name).facts

    def _entry(self, name: str) -> Any:
        """Also of a system with its outputs adapted (``Linear-Zero+bias``)."""
        base, outputs = parts_of(name)
        if outputs and base in self.names():
            facts = facts_of(name)
            return dataclasses.replace(super()._entry(base), summary=facts.summary, facts=facts)
        before, mark, last = name.rpartition(MARK)
        if mark and name not in self.names() and parts_of(before)[0] in self.names():
            raise unknown_name(OUTPUTS.kind, last, OUTPUTS.names())
        return super()._entry(name)

    def _group_of(self, name: str) -> Scope:
        """The scope of the group that a system comes from, for a class that declares none."""
        frozen = SYSTEMS._entry(name) if name in SYSTEMS.names() else None
        return "frozen" if frozen and frozen.target == self._entry(name).target else self.scope

    def _add(self, name: str, entry: Any, error: type[Exception]) -> None:
        known = self._entries.get(name)
        if known is None or known.package is None or known.package != entry.package:
            super()._add(name, entry, error)


def _is_system(name: str, found: Any) -> bool:
    from s3prl_metaperser.methods.base import System

    return isinstance(found, type) and issubclass(found, System) and isinstance(found.facts, Facts | None)


#: An entry of the first group serves both scopes if its class's facts say so, one of the second ``-f`` alone.
_GROUPS = ("s3prl_metaperser.systems", "s3prl_metaperser.finetuned_systems")
SYSTEMS = Systems("system", "frozen", _GROUPS[0])
FINETUNED_SYSTEMS = Systems("system with -f", "finetuned", _GROUPS[1], _GROUPS[0])
_FACTS: dict[str, Facts] = {}
#: Scope -> the system that uses no sample of the rater.
_ZERO_SHOT = {"frozen": "Linear-Zero", "finetuned": "Entire-Zero"}


def systems(finetuned: bool) -> Systems:
    """The systems of a scope: on a frozen upstream, or with ``-f``."""
    return FINETUNED_SYSTEMS if finetuned else SYSTEMS


def register(name: str, target: str, facts: Facts) -> None:
    """Add a system in the scopes that its facts name; ``target`` is ``package.module:Class``.

    Raises:
        ValueError: the name is taken.
    """
    for scope in facts.scopes:
        systems(scope == "finetuned").register(name, target, facts.summary, facts=facts)
    _FACTS[name] = facts


def facts_of(name: str) -> Facts:
    """The facts that a system declares; those of another package's system are its class's attribute ``facts``.

    A system that declares none, or is not installed here (as one of another's results may be), is taken to depend on
    every option; a variant of a known system (``Meta-PerSER:mine``) costs what that system does.

    >>> facts_of("Linear-Few").uses
    ('downstream_expert.initrc', 'downstream_expert.fewrc')
    """
    if name in _FACTS:
        return _FACTS[name]
    system, outputs = parts_of(name)
    if outputs:
        return on_top(facts_of(system), outputs)
    for registry in (FINETUNED_SYSTEMS, SYSTEMS):
        if name in registry.names():
            return registry.declared(name) or Facts()
    base = name.partition(":")[0]
    if base != name and base in _FACTS:
        known = _FACTS[base]
        return Facts(learns=known.learns, trains=known.trains, adapts_by=known.adapts_by, variant_of=base)
    return Facts()


def trained_as(name: str) -> str:
    """The system as which one is trained: with its outputs adapted, or as another variant, the state is the same.

    >>> trained_as("Linear-Few+bias+map")
    'Linear-Few'
    """
    base = parts_of(name)[0]
    return facts_of(base).trained_as or base


def zero_shot_of(name: str, scope: str) -> str | None:
    """The system without a sample of the rater, against which a system's adaptation is measured in a scope.

    >>> zero_shot_of("Meta-PerSER", "frozen")
    'Linear-Zero'
    """
    declared = facts_of(name).zero_shot
    return (_ZERO_SHOT if declared is None else declared).get(scope)


def table2_rows() -> dict[str, tuple[str, ...]]:
    """Table 2's rows: system -> the parts that are on in it, in the paper's order."""
    parts = _META.parts.items()
    rows = {name: facts for name, facts in _FACTS.items() if facts.variant_of == DEFAULT_SYSTEM}
    return {name: tuple(part for part, option in parts if facts.fixed[option]) for name, facts in rows.items()}


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


_HERE = "s3prl_metaperser.methods"
_ENTIRE: tuple[Scope, ...] = ("finetuned",)


def _add(name: str, target: str, facts: Facts, **changes: Any) -> None:
    """Register a system of this room, its facts with changes."""
    register(name, f"{_HERE}.{target}", dataclasses.replace(facts, **changes))


def _twins(target: str, facts: Facts, frozen: tuple[str, str, int], entire: tuple[str, str, int]) -> None:
    """One class under two names: name, summary and row of Table 1 in each scope."""
    for scope, (name, summary, row) in (("frozen", frozen), ("finetuned", entire)):
        guest = facts.guest and scope == "frozen"
        _add(name, target, facts, scopes=(scope,), summary=summary, table1=row, guest=guest)


_none = Facts(uses=(), learns=False)
_zero = Facts(uses=INITIALISATION, initialised=True)
_few = Facts(uses=(*INITIALISATION, *FEW_SHOT), initialised=True, adapts_by="optimizer", guest=True)
_batches = Facts(uses=(*INITIALISATION, *FEW_SHOT, *CLIPPING), trains="batches", adapts_by="classifier")
_heads = Facts(uses=(*INITIALISATION, *CLIPPING, *NUMBERS), trains="batches")
_skene = dataclasses.replace(_zero, uses=(*INITIALISATION, *NUMBERS), adapts_by="numbers")
_floor = "standard-normal logits: the floor of every table"
_add("Random", "random_logits:Random", _none, summary=_floor, colour="#8a8f98", table1=1)
_frequent = "the listener's most frequent labels, whatever is heard: a floor"
_add("Most-Frequent", "floors:MostFrequent", _none, summary=_frequent)
_calibrated = "zero-shot with one temperature, of the validation rater: a floor"
_add("Calibrated-Zero", "floors:CalibratedZero", _zero, summary=_calibrated)
_twins(
    "few:Zero",
    _zero,
    ("Linear-Zero", "consensus labels, no adaptation (section 2.4)", 4),
    ("Entire-Zero", "SSL-E, no adaptation (section 2.4)", 4),
)
_twins(
    "few:Few",
    _few,
    ("Linear-Few", "consensus labels, then K samples (section 2.4)", 2),
    ("Entire-Few", "SSL-E, then K samples (section 2.4)", 3),
)
_twins(
    "similarity:Similarity",
    _zero,
    ("Linear-Sim", "cosine to class centres (section 2.4, eq. 1)", 6),
    ("Entire-Sim", "SSL-E, class centres (section 2.4, eq. 1)", 6),
)
_own = "a classifier a rater, at test a new one (section 2.4)"
_add("Multi-Few", "multi_few:MultiFew", _batches, summary=_own, table1=5)
_latent = "one latent judgement, a table a rater (Dawid and Skene 1979); a new table for the listener"
_add("Dawid-Skene", "dawid_skene:DawidSkene", _skene, summary=_latent, colour="#1b7837")
_mixed = {"summary": "the same, the listener's table a mixture of the raters'", "trained_as": "Dawid-Skene"}
_add("Dawid-Skene:mixture", "dawid_skene:DawidSkeneMixture", _skene, **_mixed)
_nearest = "the classifier of the training rater who answers most alike"
_add("Nearest-Rater", "rater_heads:NearestRater", _heads, summary=_nearest, adapts_by="sharpness")
_mixture = "the training raters' classifiers, mixed by likelihood"
_add("Rater-Mixture", "rater_heads:RaterMixture", _heads, summary=_mixture, adapts_by="numbers")
_vector = "a vector a rater beside the projector, at test a new one"
_add("Rater-Embedding", "rater_embedding:RaterEmbedding", _batches, summary=_vector)
_answers = "what the training raters answered to the very clip, nothing heard: a floor of the scenario seen"
_add("No-Audio", "no_audio:NoAudio", _none, summary=_answers, scopes=("frozen",), guest=True)
_add(DEFAULT_SYSTEM, "meta_perser:MetaPerSER", _META)
for _name, _summary in _ROWS.items():
    register(f"{DEFAULT_SYSTEM}:{_name}", f"{_HERE}.meta_perser:MetaPerSER", _row(_name, _summary))


def _neighbour(
    name: str,
    target: str,
    summary: str,
    facts: Facts = _META,
    *,
    colour: str | None = None,
    steps: int | None = None,
    **metarc: bool | float,
) -> None:
    """Meta-PerSER from the initialisation, its outer loss on other samples, with something else changed.

    Args:
        steps: of meta-testing, where the system fixes them.
        metarc: further options that it fixes.
    """
    fixed = {"initialisation": True, "combined_set": False, **metarc}
    options = {f"{EXPERT}.metarc.{option}": value for option, value in fixed.items()}
    options |= {} if steps is None else {f"{EXPERT}.evalrc.steps": steps}
    own = dataclasses.replace(facts, summary=summary, colour=colour, fixed=options)
    _add(name, target, own, initialised=True, table1=None, parts={})


_neighbour(
    "Meta-Rates", "meta_learners:MetaRates", "inner rates meta-learned, theta is not", colour="#a6761d", lslr=True
)
_neighbour(
    "FOMAML",
    "meta_perser:MetaPerSER",
    "meta-learned without second-order gradients",
    colour="#7570b3",
    derivative_annealing=True,
    annealed_fraction=1.0,
)
_neighbour("ANIL", "meta_learners:ANIL", "the inner loop adapts the classifier alone", colour="#66a61e")
_neighbour(
    "Reptile",
    "reptile:Reptile",
    "the initialisation moves to where raters' inner steps end",
    combined_set=True,
    lslr=False,
    derivative_annealing=True,
    annealed_fraction=1.0,
)
_neighbour(
    "Meta-SGD",
    "meta_sgd:MetaSGD",
    "one inner step, at a learned rate for each number",
    lslr=True,
    derivative_annealing=False,
    inner_steps=1,
    steps=1,
)
for _name, _target, _summary in (
    ("LoRA", "lora:LoRA", "low-rank additions to the upstream's matrices adapt, and nothing else"),
    ("Hyper-LoRA", "lora:HyperLoRA", "an embedding adapts, from which a hypernetwork writes low-rank additions"),
):
    _neighbour(_name, _target, _summary, dataclasses.replace(_META, scopes=_ENTIRE))
#: A classifier is computed from embeddings, in no steps: no gradient goes through an inner loop.
_COMPUTED = dataclasses.replace(_META, adapts_by="classifier")
for _name, _target, _summary in (
    ("ProtoNet", "protonet:ProtoNet", "nearest class mean of the K samples, in a meta-learned space"),
    ("Ridge-MAP", "ridge_map:RidgeMAP", "most probable last layer, its prior's mean and strength meta-learned"),
    ("Meta-Map", "meta_map:MetaMap", "the state meta-trained under its own +map"),
):
    _neighbour(
        _name,
        _target,
        _summary,
        _COMPUTED,
        steps=1,
        lslr=True,
        inner_steps=1,
        derivative_annealing=True,
        annealed_fraction=1.0,
    )

#: For each listener the way to adapt that the K labels call for, by cross-validation.
for _name in ("Linear-Few", "Entire-Few", DEFAULT_SYSTEM, "Ridge-MAP", "Meta-Map"):
    _add(
        f"{_name}:chosen",
        "chosen:Chosen",
        _FACTS[_name],
        summary=f"zero-shot, a few numbers or {_name}, as cross-validation on the K labels says",
        adaptations=_FACTS[_name].adaptations * (1 + PARTS["finetuned"]),
        uses=(*(_FACTS[_name].uses or ()), *NUMBERS),
        trained_as=_name,
        colour=None,
        table1=None,
        guest=False,
        parts={},
    )
