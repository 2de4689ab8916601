"""The paper's tables as data: what their rows are (benchmarks/paper/report.yaml) and its numbers (tables.yaml)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from s3prl_metaperser.config.validator import build
from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.report.tables import ABSENT, Absent, Value
from s3prl_metaperser.storage import resources


@dataclass(frozen=True)
class Unordered:
    """Rows of the paper that cannot be told apart, and the note that gives them."""

    rows: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class TableSpec:
    """One table of results; report.yaml explains the fields."""

    name: str
    title: str
    rows: Literal["systems", "parts", "shots"]
    paper: str
    about: str = ""
    average: bool = False
    scenarios: tuple[str, ...] | None = None
    shots: tuple[int, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)
    unordered: Unordered = Unordered()


@dataclass(frozen=True)
class QuestionSpec:
    """One family of paired comparisons."""

    title: str
    rows: Literal["systems", "parts"]
    against: Literal["method", "zero-shot", "first part"]


@dataclass(frozen=True)
class MarginalSpec:
    """One table of what raters tick: of all sessions (``seen``) or of the test sessions."""

    name: str
    scenario: Literal["seen", "unseen"]


@dataclass(frozen=True)
class ReportSpec:
    """What the report shows, and what the paper's numbers are of."""

    about: str
    bibtex: str
    task: str
    corpus: str
    scope: str
    shots: int
    metrics: tuple[str, ...]
    scenarios: tuple[str, ...]
    upstreams: Mapping[str, tuple[str, ...]]
    corpora: tuple[str, ...]
    tables: Mapping[str, TableSpec]
    questions: Mapping[str, QuestionSpec]
    marginals: Mapping[str, MarginalSpec]


@functools.cache
def spec() -> ReportSpec:
    """The content of report.yaml."""
    path = resources.folder("benchmarks/paper") / "report.yaml"
    return build(ReportSpec, read_yaml(path), path.name)


@functools.cache
def published() -> dict[str, Any]:
    """The content of tables.yaml, percent; each triple has the order of :attr:`ReportSpec.metrics`."""
    return read_yaml(resources.folder("benchmarks/paper") / "tables.yaml")


def has_its_rows(corpus: str) -> bool:
    """Whether a corpus's tables have every row of the paper's."""
    return corpus in spec().corpora


def paper_upstream(name: str) -> str:
    """The paper's name of an upstream of s3prl's hub; the same name where the paper has none like it."""
    return next((known for known, names in spec().upstreams.items() if name in names), name)


def place_of_upstream(name: str) -> tuple[int, str]:
    """For sorting: the paper's upstreams in its order, then others by name."""
    order, known = list(spec().upstreams), paper_upstream(name)
    return (order.index(known) if known in order else len(order), name)


def has_upstream(name: str) -> bool:
    """Whether the paper has numbers of an upstream of s3prl's hub."""
    return paper_upstream(name) in spec().upstreams


def number(table: TableSpec, metric: str, *, scenario: str, upstream: str, row: str) -> Value | Absent:
    """The paper's number beside one of ours.

    Args:
        upstream: the paper's name; of a table that is averaged over upstreams any.
        row: the row's name.
    """
    upstreams: Sequence[str] = tuple(spec().upstreams) if table.average else (upstream,)
    if metric not in spec().metrics or (table.scenarios and scenario not in table.scenarios):
        return ABSENT
    triples = [triple(table, scenario=scenario, upstream=name, row=table.known.get(row, row)) for name in upstreams]
    found = [each[spec().metrics.index(metric)] for each in triples if each]
    return Value(sum(found) / len(found)) if len(found) == len(upstreams) else ABSENT


def triple(table: TableSpec, **place: str) -> list[float]:
    """The numbers at a place of tables.yaml; empty where the paper has none."""
    value: Any = published()
    for key in table.paper.split("."):
        name = key.format(**place)
        value = value.get(int(name) if name.isdigit() else name) if isinstance(value, dict) else None
    return [float(one) for one in value or ()]


def test_raters() -> list[str]:
    """The raters that the paper tests."""
    return [name for name in published()["table_a1"] if name != "classes"]


def marginal(table: str, rater: str, name: str) -> Value | Absent:
    """A number of Table A1 or A2 (``table_a1``, ``table_a2``): a class's share, or ``ticks_per_utterance``."""
    content = published()[table]
    entry = content.get(rater) if rater != "classes" else None
    if entry is None:
        return ABSENT
    if name == "ticks_per_utterance":
        return Value(entry[name], decimals=2)
    if name not in content["classes"]:
        return ABSENT
    return Value(entry["marginals"][content["classes"].index(name)])
