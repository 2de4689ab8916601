"""Few-shot, listener-personalised speech emotion recognition: adapt to K samples of a rater who trained nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from s3prl_metaperser.config.options import PoolOptions
from s3prl_metaperser.config.validator import Positive, build
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.methods import DEFAULT_SYSTEM, systems
from s3prl_metaperser.protocol.pools import fold_names
from s3prl_metaperser.protocol.splits import MOST_FOLDS, SCENARIOS
from s3prl_metaperser.registry import Registry
from s3prl_metaperser.storage.resources import downstream_folder
from s3prl_metaperser.tasks import DEFAULT_TASK, Task
from s3prl_metaperser.tasks.axes import Axis

_EXPERT = "downstream_expert"


def _folds(options: Mapping[str, Any]) -> tuple[str, ...]:
    """A fold for each test rater, or those of the rater pools; without either as many as a corpus has at most."""
    data = (options.get(_EXPERT) or {}).get("datarc") or {}
    pools = build(PoolOptions, data.get("pools") or {}, "options.downstream_expert.datarc.pools")
    if pools.test is not None:
        return tuple(fold_names(pools))
    raters = data.get("test_raters")
    count = len(raters) if isinstance(raters, list) and raters else MOST_FOLDS
    return tuple(f"fold{number}" for number in range(1, count + 1))


_Scenario = Literal["seen", "unseen", "unseen_utterances", "unseen_speakers"]
AXES = (
    Axis("scenario", "scenarios", f"{_EXPERT}.datarc.scenario", _Scenario, lambda _: SCENARIOS, "data"),
    Axis("fold", "folds", f"{_EXPERT}.datarc.fold", str, _folds, "unit", closed=True),
    Axis("shots", "shots", f"{_EXPERT}.evalrc.shots", Positive, lambda _: (32,), "test", letter="K"),
)


def _systems(scope: str) -> Registry[Any]:
    return systems(scope == "finetuned")


def _metrics(label_set: LabelSet) -> tuple[str, ...]:
    from s3prl_metaperser.evaluation.metrics import main_metrics

    return tuple(metric.name for metric in main_metrics(label_set))


def _configuration(scope: str) -> Path:
    """The file with every option's default; with ``-f`` another."""
    return downstream_folder(DEFAULT_TASK) / ("config_finetuned.yaml" if scope == "finetuned" else "config.yaml")


TASK = Task(
    name=DEFAULT_TASK,
    title="Listener-personalised speech emotion recognition",
    unit="rater",
    axes=AXES,
    systems=_systems,
    default_system=DEFAULT_SYSTEM,
    metrics=_metrics,
    sections=("verdicts", "tables", "figures", "cite", "details", "marginals", "appendix", "missing", "origin"),
    run="s3prl_metaperser.run.cell:run_cell",
    configuration=_configuration,
    stages=("features", "initialisation"),
    keeps_checkpoints=True,
)
