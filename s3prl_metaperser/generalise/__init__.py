"""Systems of domain generalisation, one file each, behind one table. docs/adding_a_system.md shows how to add one.

Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.methods.facts import EXPERT, Facts
from s3prl_metaperser.methods.outputs import MARK
from s3prl_metaperser.registry import Registry

if TYPE_CHECKING:
    from s3prl_metaperser.generalise.base import Generaliser

__all__ = ["AVERAGES", "BASELINE", "GENERALISERS", "TRAINING", "Facts", "nulls"]

#: What others are compared with.
BASELINE = "Deep-All"

#: What every system goes by that learns.
TRAINING = (
    *("optimizer", "runner.total_steps", "runner.epochs", "runner.gradient_clipping", "runner.eval_step"),
    *(f"{EXPERT}.generalrc.{name}" for name in ("loss_mean", "class_weights", "average", "ema_decay", "selection")),
    *(f"{EXPERT}.generalrc.{name}" for name in ("rate_factor", "seed_set")),
    f"{EXPERT}.augmentrc",
)
_OPTION = f"{EXPERT}.generalrc"
#: Averages of the weights of many steps, around any system that learns: ``Deep-All+swad``.
AVERAGES = {
    "ema": "an exponential average of its weights",
    "dense": "the mean of its weights over the second half of steps",
    "swad": "the mean of its weights over the valley of the loss on the sources' validation speakers",
}


class Generalisers(Registry["type[Generaliser]"]):
    """The systems, each also with its weights averaged."""

    def get(self, name: str) -> type[Generaliser]:
        """The class behind ``name``, with its name and facts.

        Raises:
            UserError: the name is unknown.
        """
        loaded = super().get(name)
        facts = self._entry(name).facts or getattr(loaded, "facts", None) or Facts()
        content = {"name": name, "facts": facts, "__doc__": loaded.__doc__, "__module__": loaded.__module__}
        return type(loaded.__name__, (loaded,), content)

    def _entry(self, name: str) -> Any:
        base, mark, last = name.rpartition(MARK)
        if not mark or last not in AVERAGES or base not in self.names():
            return super()._entry(name)
        entry = super()._entry(base)
        facts = entry.facts or Facts()
        fixed = {**facts.fixed, f"{_OPTION}.average": last}
        summary = f"{entry.summary}; {AVERAGES[last]}"
        own = dataclasses.replace(facts, summary=summary, fixed=fixed, colour=None)
        return dataclasses.replace(entry, summary=summary, facts=own)


def _is_generaliser(name: str, found: Any) -> bool:
    base = importlib.import_module(f"{__name__}.base").Generaliser
    return isinstance(found, type) and issubclass(found, base)


GENERALISERS = Generalisers(
    "system of domain generalisation", "s3prl_metaperser.generalisers", expected=("a Generaliser", _is_generaliser)
)


def _register(name: str, target: str, summary: str, *options: str, colour: str | None = None, **facts: Any) -> None:
    """Add a system.

    Args:
        options: of ``generalrc``, beyond those that every system goes by.
    """
    uses = (*TRAINING, *(f"{_OPTION}.{option}" for option in options))
    own = Facts(**{"summary": summary, "uses": uses, "trains": "batches", "colour": colour, **facts})
    GENERALISERS.register(name, f"{__name__}.{target}", summary, facts=own)


_NULLS: dict[str, str] = {}


def nulls() -> dict[str, str]:
    """Rows that differ from a system by chance or by its rate alone -> that system.

    >>> nulls()["Deep-All:again"]
    'Deep-All'
    """
    return dict(_NULLS)


def _null(base: str, row: str, summary: str, **general: Any) -> None:
    """A row that is a system with something of ``generalrc`` fixed that is not its idea."""
    entry = GENERALISERS._entry(base)
    fixed = {**entry.facts.fixed, **{f"{_OPTION}.{option}": value for option, value in general.items()}}
    own = dataclasses.replace(entry.facts, summary=f"{base} {summary}", fixed=fixed, variant_of=base, colour=None)
    GENERALISERS.register(f"{base}:{row}", entry.target, own.summary, facts=own)
    _NULLS[f"{base}:{row}"] = base


_register(
    "Majority",
    "majority:Majority",
    "the shares of the classes in the sources, whatever is heard: a floor",
    uses=(),
    learns=False,
    trains="",
    colour="#8a8f98",
)
_register("Deep-All", "deep_all:DeepAll", "all sources as one training set", colour="#0072b2")
for _name, _weights, _summary in (
    ("Deep-All:balanced", "balanced", "Deep-All, all classes as if they were equally frequent"),
    ("Deep-All:logit-adjusted", "logit_adjustment", "Deep-All with the classes' log shares added to the logits"),
):
    _register(_name, "deep_all:DeepAll", _summary, fixed={f"{_OPTION}.class_weights": _weights}, variant_of="Deep-All")
_register(
    *("RSC", "rsc:RSC", "the features that matter most are muted in training (Huang et al. 2020)"),
    *("drop_features", "drop_samples"),
    colour="#cc79a7",
)
_DIVIDED = ("meta_test_domains", "choose")
_META = (*_DIVIDED, "inner_lr", "order", "micro_batch")
_register(
    "MLDG",
    "mldg:MLDG",
    "a step on some sources must help on the others, too (Li et al. 2018)",
    *_META,
    colour="#009e73",
)
_register(
    *("DA-MLDG", "mldg:DAMLDG", "MLDG, its second loss times the domain-shift margin (Gandhi et al., Eq. 2-3)"),
    *(*_META, "margin"),
    colour="#d55e00",
)
_register(
    *("DA-MLDG:attached", "mldg:DAMLDG", "DA-MLDG, the margin differentiated as well"),
    *(*_META, "margin"),
    fixed={f"{_OPTION}.margin.gradient": "attached"},
    variant_of="DA-MLDG",
)
_register(
    *(
        "MLDG:public",
        "mldg:Public",
        "what the public code of MLDG and DA-MLDG computes: Deep-All without one source a step",
    ),
    *_DIVIDED,
    fixed={f"{_OPTION}.choose": "by_size", f"{_OPTION}.loss_mean": "pooled", f"{_OPTION}.meta_test_domains": 1},
    variant_of="MLDG",
)
_PENALTY = ("penalty", "anneal_steps")
for _name, _target, _summary, _options in (
    ("GroupDRO", "groupdro:GroupDRO", "the worst source counts most (Sagawa et al. 2020)", ("group_lr",)),
    ("CORAL", "coral:CORAL", "equal covariances of the features (Sun and Saenko 2016)", (*_PENALTY, "means")),
    ("IRM", "irm:IRM", "one classifier that is optimal in every source (Arjovsky et al. 2019)", _PENALTY),
    ("V-REx", "vrex:VREx", "equal losses in all sources (Krueger et al. 2021)", _PENALTY),
    ("Fish", "fish:Fish", "gradients of the sources that agree (Shi et al. 2021)", ("inner_lr",)),
    ("Fishr", "fishr:Fishr", "equal variances of gradients (Rame et al. 2022)", (*_PENALTY, "variance_decay")),
    ("Mixup", "mixup:Mixup", "between samples of all sources (Zhang et al. 2018)", ("mixup_alpha",)),
    (
        "MixStyle",
        "mixstyle:MixStyle",
        "one recording's style on another's content (Zhou et al. 2021)",
        ("mixstyle_alpha",),
    ),
    ("SD", "sd:SD", "small logits: spectral decoupling (Pezeshki et al. 2021)", _PENALTY),
    (
        "DANN",
        "dann:DANN",
        "features that do not tell the source, or the speaker (Ganin et al. 2016)",
        (*_PENALTY, "adversary"),
    ),
):
    _alike = {f"{_OPTION}.loss_mean": "domain"} if _name in ("GroupDRO", "Fish") else {}  # they go by sources' means
    _register(_name, _target, _summary, *_options, fixed=_alike)
#: Rows that say what a difference means where there is none: other seeds, and twice the rate, of what is compared.
_null("Deep-All", "again", "with other seeds: what differs between the two is chance", seed_set=1)
_null("MLDG:public", "again", "with other seeds: what differs between the two is chance", seed_set=1)
_null("Deep-All", "twice", "at twice the rate, which is what a second loss term amounts to", rate_factor=2.0)
