"""Result files, read together: which belong to one table, and which must not be mixed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.options import flat, options_that_affect
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.evaluation.results import read_result, scored_episodes
from s3prl_metaperser.evaluation.shape import arrays_fit, shape_faults
from s3prl_metaperser.evaluation.statistics import Scored

RESULT = "result_test.json"
PROTOCOLS = ("paper", "tuned")

#: Options that may differ between the folds of one cell.
FREE_OPTIONS = {"downstream_expert.datarc.fold", *options_that_affect("summary", "speed", "files")}


@dataclass(frozen=True, order=True)
class Setting:
    """What systems must share to be compared: all of a cell but the system."""

    corpus: str
    upstream: str
    scope: str
    scenario: str
    shots: int
    protocol: str

    def __str__(self) -> str:
        return (
            f"{self.corpus}, {self.upstream} ({self.scope}), {self.scenario}, K={self.shots}, protocol {self.protocol}"
        )


@dataclass(frozen=True, order=True)
class Cell:
    """One number of a table: everything that names it but the fold, which is averaged over.

    Attributes:
        scope: ``frozen`` or ``finetuned``.
        scenario: ``seen`` or ``unseen``.
        shots: K.
        protocol: ``paper`` or ``tuned``.
    """

    corpus: str
    upstream: str
    scope: str
    scenario: str
    system: str
    shots: int
    protocol: str

    @property
    def setting(self) -> Setting:
        """The cell without its system."""
        return Setting(self.corpus, self.upstream, self.scope, self.scenario, self.shots, self.protocol)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Cell:
        """The cell of a result file's content."""
        cell = content["cell"]
        return cls(*(cell[n] for n in ("corpus", "upstream", "scope", "scenario", "system", "shots", "protocol")))

    def __str__(self) -> str:
        return f"{self.system}: {self.setting}"


def load_results(folder: Path, protocol: str | None = None) -> list[dict[str, Any]]:
    """Every ``result_test.json`` below a folder, checked for fitting together; ``previous-*`` folders are skipped.

    Args:
        folder: searched with all its subfolders.
        protocol: ``paper`` or ``tuned``: leave out results of the other one. By default both being there is an error.

    Returns:
        The files' contents, each with its path under ``file``, in the order of cells and folds.

    Raises:
        UserError: there are no results, a file cannot be read, is not whole or has another schema, there are two files
            for one cell and fold, or files disagree in what one table must share (see :func:`check_compatible`). The
            message names the files and the difference.
    """
    if protocol not in (None, *PROTOCOLS):
        raise unknown_name("protocol", protocol, PROTOCOLS)
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder.")
    paths = [path for path in sorted(Path(folder).rglob(RESULT)) if not set_aside(path.relative_to(folder))]
    results = [{**read_whole(path), "file": str(path)} for path in paths]
    if protocol is not None:
        results = [content for content in results if content["cell"]["protocol"] == protocol]
    if not results:
        kind = "" if protocol is None else f" of protocol {protocol}"
        raise UserError(f"{folder} holds no {RESULT}{kind}. Run -m evaluate first, or name another folder.")
    check_compatible(results)
    return sorted(results, key=lambda content: (Cell.of(content), content["cell"]["fold"]))


def read_whole(path: Path) -> dict[str, Any]:
    """A result file that has every key, no value of another type, and predictions that fit its episodes.

    Raises:
        UserError: as :func:`.read_result`; or naming the key that is at fault.
    """
    content = read_result(path)
    what = "does not have a row of probabilities and ticks for each query utterance"
    for key, fault in shape_faults(content) or [("episodes", what)] * (not arrays_fit(content)):
        raise UserError(f"{path}: {key} {fault}. `metaperser validate --all {path.parent}` says all; evaluate again.")
    return content


def group(results: Iterable[Mapping[str, Any]]) -> dict[Cell, dict[str, list[Scored]]]:
    """Cell -> test rater -> its episodes. The raters are the folds."""
    cells: dict[Cell, dict[str, list[Scored]]] = {}
    for content in results:
        cells.setdefault(Cell.of(content), {}).update(scored_episodes(content))
    return cells


def check_compatible(results: Sequence[Mapping[str, Any]]) -> None:
    """Refuse results that one report must not mix.

    All results share the protocol; those of one corpus its labels (hash) and classes; those of one corpus and upstream
    the upstream's checkpoint and, in one scope, what features are made of; those of one setting (see :class:`Setting`)
    Q, the seeds and in each fold the raters and episodes, whatever the scope, and, in one scope and under ``paper``,
    the steps; those of one cell all options but those that only say where and how fast it ran. Folds may differ in
    their training seed. A cell and fold has one file.

    Raises:
        UserError: naming two files and their difference.
    """
    _agree(
        results,
        lambda c: (),
        {"protocol": lambda c: c["cell"]["protocol"]},
        "Report them one by one: --protocol paper, or tuned.",
    )
    shared = {"corpus hash": lambda c: c["hashes"]["corpus"], "classes": lambda c: c["classes"]}
    _agree(results, lambda c: c["cell"]["corpus"], shared)
    _agree(results, lambda c: (Cell.of(c), c["cell"]["fold"]), {}, single=True)
    shared = {"upstream checkpoint": lambda c: c["hashes"]["upstream_checkpoint"]}
    _agree(results, lambda c: (c["cell"]["corpus"], c["cell"]["upstream"]), shared)
    shared = {"what features are made of": lambda c: c["hashes"]["features"]}
    _agree(results, lambda c: (c["cell"]["corpus"], c["cell"]["upstream"], c["cell"]["scope"]), shared)
    shared = {"queries (Q)": lambda c: c["cell"]["queries"], "seeds": lambda c: c["cell"]["seeds"]}
    _agree(results, _in_any_scope, shared)
    paired = {
        "test rater": lambda c: c["raters"]["test"],
        "validation rater": lambda c: c["raters"]["validation"],
        "training raters": lambda c: c["raters"]["train"],
        "episodes": lambda c: c["hashes"]["episodes"],
    }
    _agree(results, lambda c: (_in_any_scope(c), c["cell"]["fold"]), paired)
    steps = {"steps": lambda c: c["cell"]["steps"]}
    _agree([c for c in results if c["cell"]["protocol"] == "paper"], lambda c: Cell.of(c).setting, steps)
    _agree(results, Cell.of, {"standardized": lambda c: c["cell"]["standardized"]})
    _same_options(results)


def _in_any_scope(content: Mapping[str, Any]) -> Setting:
    """The setting but for its scope: Linear-Few, always frozen, is compared with fine-tuned systems."""
    return replace(Cell.of(content).setting, scope="any scope")


def _agree(results, by, values, hint: str = "Move one away, or evaluate again.", *, single: bool = False) -> None:
    """Within each group, every value is that of the group's first file."""
    first: dict[Any, Mapping[str, Any]] = {}
    for content in results:
        known = first.setdefault(by(content), content)
        if known is content:
            continue
        if single:
            raise UserError(
                f"{known['file']} and {content['file']} are both of one cell, {Cell.of(content)}, "
                f"{content['cell']['fold']}. Move one away."
            )
        for name, value in values.items():
            if value(known) != value(content):
                raise UserError(_different(known, content, name, value(known), value(content)) + " " + hint)


def _same_options(results: Sequence[Mapping[str, Any]]) -> None:
    first: dict[Cell, Mapping[str, Any]] = {}
    for content in results:
        known = first.setdefault(Cell.of(content), content)
        one, other = dict(flat(known["options"])), dict(flat(content["options"]))
        for name in sorted(one.keys() | other.keys()):
            if name not in FREE_OPTIONS and one.get(name) != other.get(name):
                raise UserError(
                    _different(known, content, f"option {name}", one.get(name), other.get(name))
                    + " The folds of one cell need the same options: run one of them again."
                )


def _different(one, other, name: str, here: Any, there: Any) -> str:
    return (
        f"{one['file']} and {other['file']} do not go together: {name} is {_short(here)} in the first and "
        f"{_short(there)} in the second."
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def set_aside(path: Path) -> bool:
    return any(part.startswith("previous-") for part in path.parts[:-1])
