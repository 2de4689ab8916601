"""The paper's numbers (benchmarks/paper/tables.yaml), and which of our cells each belongs beside."""

from __future__ import annotations

import functools
from typing import Any

from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.report.tables import ABSENT, Absent, Value
from s3prl_metaperser.storage import resources

UPSTREAMS = ("wavlm_base", "wav2vec2_base", "hubert_base")
SCENARIOS = ("seen", "unseen")
SHOTS = (2, 4, 8, 16, 32, 64)
#: K, corpus and scope of Table 1.
TABLE1_SHOTS, CORPUS, SCOPE = 32, "iemocap", "finetuned"

#: s3prl's hub name -> the paper's upstream.
_HUB_NAMES = {
    "wavlm_base": "wavlm_base",
    "hubert_base": "hubert_base",
    "hubert": "hubert_base",
    "wav2vec2_base_960": "wav2vec2_base",
    "wav2vec2": "wav2vec2_base",
}
METRIC_NAMES = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "unweighted_accuracy": "UA"}


@functools.cache
def published() -> dict[str, Any]:
    """The content of tables.yaml, percent; each triple is (macro-F1, micro-F1, UA)."""
    return read_yaml(resources.folder("benchmarks/paper") / "tables.yaml")


def paper_upstream(name: str) -> str:
    """The paper's name of an upstream of s3prl's hub; the same name where the paper has none like it."""
    return _HUB_NAMES.get(name, name)


def table1(scenario: str, upstream: str, system: str, metric: str) -> Value | Absent:
    """A number of Table 1."""
    block = published()["table1"].get(scenario, {}).get(upstream, {})
    return _number(block.get(system), metric)


def table2(row: str, scenario: str, upstream: str, metric: str) -> Value | Absent:
    """A number of Table 2, rows ``none`` and ``all_four``; the other rows' tick marks are lost in the text."""
    if scenario != "unseen" or row not in ("none", "all_four"):
        return ABSENT
    return _number(published()["table2"][row].get(upstream), metric)


def table2_unordered(upstream: str, metric: str) -> list[float]:
    """The four numbers of Table 2 whose rows cannot be told apart, in the printed order."""
    rows = (published()["table2"][f"row{number}"].get(upstream) for number in range(2, 6))
    return [row[METRICS.index(metric)] for row in rows if row]


def table_a4(scenario: str, upstream: str, shots: int, metric: str) -> Value | Absent:
    """A number of Table A4."""
    return _number(published()["table_a4"].get(scenario, {}).get(upstream, {}).get(shots), metric)


def figure2(scenario: str, shots: int, metric: str) -> Value | Absent:
    """Table A4 averaged over the three upstreams: what Figure 2 draws."""
    found = [table_a4(scenario, upstream, shots, metric) for upstream in UPSTREAMS]
    if any(isinstance(value, Absent) for value in found):
        return ABSENT
    return Value(sum(value.mean for value in found) / len(found))


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


def _number(triple: list[float] | None, metric: str) -> Value | Absent:
    return ABSENT if triple is None else Value(float(triple[METRICS.index(metric)]))
