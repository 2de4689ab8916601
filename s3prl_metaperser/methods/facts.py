"""Facts about a system, known without running it: the options that affect its numbers, its cost, how it is shown.

The grid, the plan and the report ask :func:`s3prl_metaperser.methods.facts_of`; none of them knows a system by name.
Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Scope = Literal["frozen", "finetuned"]
SCOPES: tuple[Scope, ...] = ("frozen", "finetuned")

EXPERT = "downstream_expert"
#: Options in groups, by what a system does with them. A name stands for all options below it.
INITIALISATION = (f"{EXPERT}.initrc",)
FEW_SHOT = (f"{EXPERT}.fewrc",)
NUMBERS = (f"{EXPERT}.outputrc",)
CLIPPING = ("runner.gradient_clipping",)
META_TRAINING = (f"{EXPERT}.metarc", "optimizer", "runner.total_steps", "runner.eval_step", *CLIPPING)
FINE_TUNING = (f"{EXPERT}.tunerc",)
#: Whether a system starts from the initialisation; or the experiment of another task that it starts from instead.
START = f"{EXPERT}.metarc.initialisation"
#: By which the validation rater chooses an outer step, and under the protocol ``tuned`` how a system adapts.
CRITERION = f"{EXPERT}.metarc.criterion"

#: Utterances of the validation rater that choose SSL-E's step; their forward passes are what choosing costs.
HELD_OUT = 320


@dataclass(frozen=True)
class Facts:
    """Facts about one system. The defaults are safe for a system that declares nothing.

    Attributes:
        summary: one line for ``metaperser list systems``.
        scopes: where it can be run: ``frozen``, ``finetuned`` (``-f``).
        uses: options that can change its numbers, besides ``datarc``, ``modelrc`` and ``evalrc``; an option, or a
            section with all its options. None: any option can. In the scope ``finetuned`` the options of
            fine-tuning are added.
        initialised: whether it starts from the initialisation that cells share; or the option that says so.
        learns: whether it has parameters and runs the upstream.
        trains: what follows the initialisation: nothing; ``batches`` (``initrc``'s number of batches, in outer steps);
            ``episodes`` (outer steps through inner steps).
        adapts_by: what ``evalrc.steps`` adapts, and so the protocol ``tuned`` chooses: nothing; ``classifier`` (on
            fixed embeddings, at ``fewrc.classifier_lr``); everything, by an ``optimizer`` or at meta-learned ``rates``.
            Or what is chosen in place of steps: how far a few ``numbers`` follow the labels (``outputrc``), or only
            the ``sharpness`` of predictions.
        adaptations: how many times it adapts to K samples for one episode, where it adapts by something.
        zero_shot: scope -> the system whose numbers show what adapting to a rater gains; None: the one that every
            system of the scope is held against (:func:`.zero_shot_of`).
        colour: in figures; None: the next free one.
        table1: its place among the rows of Table 1; None: after the paper's rows, by name.
        guest: whether it stands among fine-tuned systems although its upstream is always frozen (Table 1).
        parts: part of the method -> the option that switches it on (Table 2).
        fixed: option -> this system's value, which overrides the configuration.
        variant_of: the system that this one is with some options fixed.
        trained_as: the system whose trained state this one uses, step and all; itself where none is named.
    """

    summary: str = ""
    scopes: tuple[Scope, ...] = SCOPES
    uses: tuple[str, ...] | None = None
    initialised: bool | str = False
    learns: bool = True
    trains: Literal["", "batches", "episodes"] = ""
    adapts_by: Literal["", "classifier", "optimizer", "rates", "numbers", "sharpness"] = ""
    adaptations: float = 1.0
    zero_shot: Mapping[str, str] | None = None
    colour: str | None = None
    table1: int | None = None
    guest: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, bool | float | str] = field(default_factory=dict)
    variant_of: str = ""
    trained_as: str = ""

    def shares_initialisation(self, config: Mapping[str, Any]) -> bool:
        """Whether a cell with this configuration starts from the initialisation that cells share.

        Args:
            config: the whole configuration, as nested mappings.
        """
        if self.start(config) is not None:
            return False
        if isinstance(self.initialised, bool):
            return self.initialised
        return bool(self.fixed.get(self.initialised, _value(config, self.initialised)))

    def start(self, config: Mapping[str, Any]) -> str | None:
        """The experiment that a cell with this configuration starts from in place of the initialisation, if any."""
        if not self.initialised or not self.fixed.get(START, True):
            return None
        given = _value(config, START)
        return given if isinstance(given, str) else None

    def matters(self, option: str, scope: str, config: Mapping[str, Any]) -> bool:
        """Whether an option can change this system's numbers.

        Args:
            option: such as ``downstream_expert.metarc.inner_lr``; not of ``datarc``, ``modelrc`` or ``evalrc``, which
                always can.
            scope: ``frozen`` or ``finetuned``.
            config: the whole configuration.
        """
        if option == START and self.start(config) is not None:
            return True
        if option in self.fixed:
            return False
        if option == CRITERION and self.adapts_by and _value(config, f"{EXPERT}.evalrc.protocol") == "tuned":
            return True
        if self.uses is None:
            return True
        used = self.uses
        if isinstance(self.initialised, str) and not self.shares_initialisation(config):
            used = tuple(name for name in used if name not in INITIALISATION)
        if scope == "finetuned" and self.learns:
            used += options_of_initialisation(scope)[1:] if INITIALISATION[0] in used else FINE_TUNING
        return below(option, used)


def options_of_initialisation(scope: str) -> tuple[str, ...]:
    """Options that the shared initialisation depends on, besides ``datarc`` and ``modelrc``."""
    return INITIALISATION + (CLIPPING + FINE_TUNING if scope == "finetuned" else ())


def below(option: str, names: tuple[str, ...]) -> bool:
    """Whether an option is one of ``names``, or in a section that is."""
    return any(option == name or option.startswith(f"{name}.") for name in names)


def _value(config: Mapping[str, Any], option: str) -> Any:
    value: Any = config
    for key in option.split("."):
        value = value[key]
    return value
