"""Forms in which results, models, ratings and tasks are given away, behind one registry; nothing is sent anywhere.

A form is a :class:`Form`: what it is made of, and a function that writes it into a new folder. Another package adds one
by an entry point in the group ``s3prl_metaperser.forms``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.registry import Registry

if TYPE_CHECKING:
    from s3prl_metaperser.evaluation.result import Result

RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")


@dataclass(frozen=True)
class Told:
    """What only who publishes knows.

    Attributes:
        organization: who publishes; a name, as a hub has it where there is one.
        model_id: ``ORGANIZATION/NAME`` of the one model that is published.
        dataset_id: ``ORGANIZATION/NAME`` of the benchmark's data set on a hub.
        licence: of what is published, as an SPDX id or in words.
        relationship: of whoever evaluated to the model, one of :data:`RELATIONSHIPS`.
        options: further options of a form, such as a corpus's.
    """

    organization: str = ""
    model_id: str = ""
    dataset_id: str = ""
    licence: str = ""
    url: str = ""
    relationship: str = "first_party"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for option, value in (("--model-id", self.model_id), ("--dataset-id", self.dataset_id)):
            if value and not re.fullmatch(r"[\w.+-]+/[\w.+-]+", value):
                raise UserError(f"Bad value {value!r} for {option}, expected ORGANIZATION/NAME as on a hub.")

    def needed(self, name: Literal["organization", "dataset_id", "licence", "url"], why: str) -> str:
        """A fact that a form cannot do without.

        Raises:
            UserError: it was not given.
        """
        value: str = getattr(self, name)
        if not value:
            raise UserError(f"{why} Add --{name.replace('_', '-')}.")
        return value


@dataclass(frozen=True)
class Form:
    """A form.

    Attributes:
        of: what it is made of: a folder of ``results``, a ``model`` folder, a ``corpus``, or the folder of a ``task``.
        write: (source, new folder, what was told) -> the files, and lines to print.
    """

    of: Literal["results", "model", "corpus", "task"]
    write: Callable[[Path, Path, Told], list[str]]


FORMS: Registry[Form] = Registry(
    "form", "s3prl_metaperser.forms", expected=("a Form", lambda _, found: isinstance(found, Form))
)
for _name, _where, _summary in (
    ("every_eval_ever", "every_eval_ever:FORM", "results: Every Eval Ever 0.3.0, with a line for each prediction"),
    ("hf_eval_results", "hub_cards:RESULTS", "results: a hub's .eval_results/NAME.yaml and eval.yaml"),
    ("crowd_kit", "ratings_forms:CROWD_KIT", "a corpus's ratings: crowd-kit's table of task, worker and label"),
    ("lewidi", "ratings_forms:LEWIDI", "a corpus's ratings: LeWiDi's JSON for train, dev and test"),
    ("perseval", "ratings_forms:PERSEVAL", "a corpus's ratings: PersEval's training, adaptation and test sets"),
    ("croissant", "ratings_forms:CROISSANT", "an exported task: Croissant's data card of each instance"),
    ("onnx", "onnx_files:FORM", "an exported model or a listener: head.onnx, and upstream.onnx where it can be"),
    ("hf_model", "hub_cards:MODEL", "an exported model: its folder with a model card, README.md"),
):
    FORMS.register(_name, f"s3prl_metaperser.exchange.{_where}", _summary)


#: What :func:`written` means, for a form that says it.
DATED = "dates are those of the result files (results record none): copy results with their times, as cp -p does"


def written(results: Iterable[Result]) -> datetime:
    """When the last of some results' files was written, in UTC; two runs of a result agree, so it holds no date."""
    return datetime.fromtimestamp(max(result.file.stat().st_mtime for result in results if result.file), UTC)


def slug(text: str) -> str:
    """A name as paths and ids on hubs may have it.

    >>> slug("Meta-PerSER:INI+DA (own)")
    'Meta-PerSER-INI+DA-own'
    """
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).strip("-.") or "unnamed"
