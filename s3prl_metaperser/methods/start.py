"""A start that another task has trained, in place of the initialisation: parameters, and how features are prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError


@dataclass(frozen=True)
class Start:
    """What is carried of a trained model.

    Attributes:
        source: its checkpoint, for messages.
        sha256: of its parameters, as its own results have it.
        classes: that it tells apart, C' of them.
        head: its parameters by the head's names (:data:`.meta.model.PARAMETERS`), the classifier's for C' classes.
        upstream: the upstream's state where it was fine-tuned; else empty.
        statistics: features are standardised by ``given`` ones, by the training split's ``own``, or not at all.
        mean, scale: those given, [L, D].
        clamp: z-scores were cut off there; 0: nowhere.
        audio: the first 16 digits of the SHA-256 of each file that it learned from.
        rows: this task's class -> its row among ``classes``; see :meth:`matched`.
    """

    source: Path
    sha256: str
    classes: tuple[str, ...]
    head: Mapping[str, Tensor]
    upstream: Mapping[str, Tensor] = field(default_factory=dict)
    statistics: Literal["given", "own", "none"] = "none"
    mean: Tensor | None = None
    scale: Tensor | None = None
    clamp: float = 0.0
    audio: frozenset[str] = frozenset()
    rows: Mapping[int, int] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(L, D) of the features that its head takes."""
        return len(self.head["weights"]), self.head["projector.weight"].shape[1]

    def matched(self, label_set: LabelSet, words: Mapping[str, str]) -> dict[int, int]:
        """This task's class -> row of the start's class of the same name.

        Args:
            words: further names of this task's classes, such as a corpus's emotions in common words.
        """
        places: dict[int, int] = {}
        named = {other: own for own, other in words.items()}
        for row, name in enumerate(self.classes):
            own = label_set.lookup(name) or named.get(name)
            if own in label_set.classes:
                places.setdefault(label_set.classes.index(own), row)
        return places

    def fill(self, module: nn.Module) -> None:
        """Put everything into a head, or into a whole model; classes without a row stay as they were drawn."""
        head = dict(getattr(module, "head", module).named_parameters())
        with torch.no_grad():
            for name, value in self.head.items():
                if name.startswith("classifier."):
                    for place, row in self.rows.items():
                        head[name][place] = value[row]
                else:
                    head[name].copy_(value)
            if self.upstream:
                module.get_submodule("upstream").load_state_dict(dict(self.upstream))

    def check_shape(self, layers: int, size: int) -> None:
        """Raise a UserError where features have another shape than its head takes."""
        if (layers, size) != self.shape:
            raise UserError(
                f"metarc.initialisation: {self.source} takes {self.shape[0]} layer(s) of {self.shape[1]} features, and "
                f"there are {layers} of {size} here. Use the upstream, -s and -l that it was trained with."
            )


def said_of_classes(start: Start, classes: Sequence[str]) -> str:
    """Which classes begin with what was learned."""
    taken = [f"{classes[place]} ({start.classes[row]})" for place, row in sorted(start.rows.items())]
    drawn = [name for place, name in enumerate(classes) if place not in start.rows]
    unused = [name for row, name in enumerate(start.classes) if row not in start.rows.values()]
    said = f"{len(taken)} of {len(classes)} classes are its own: {', '.join(taken) or 'none'}"
    if drawn:
        said += f"; {len(drawn)} start as drawn: {', '.join(drawn)}"
    return said + (f"; of its classes {len(unused)} have no counterpart: {', '.join(unused)}" if unused else "")
