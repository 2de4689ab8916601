"""Emotion recognition in a corpus that nothing was learned from: domain generalisation (Gandhi et al.)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3prl_metaperser.config.domain_options import DomainOptions, Statistics
from s3prl_metaperser.config.validator import Positive
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.generalise import BASELINE, GENERALISERS
from s3prl_metaperser.registry import Registry
from s3prl_metaperser.storage.resources import downstream_folder
from s3prl_metaperser.tasks import Task
from s3prl_metaperser.tasks.axes import Axis

_EXPERT = "downstream_expert"
NAME = "domain_generalized_emotion"


AXES = (
    Axis(
        "scenario",
        "scenarios",
        f"{_EXPERT}.datarc.scenario",
        str,
        lambda _: tuple(f"scn{n}" for n in range(1, 8)),
        "data",
    ),
    Axis("statistics", "statistics", f"{_EXPERT}.modelrc.statistics", Statistics, lambda _: ("source",), "data"),
    Axis("trial", "trials", f"{_EXPERT}.datarc.trial", Positive, lambda _: tuple(range(1, 11)), "unit"),
)


def _systems(scope: str) -> Registry[Any]:
    return GENERALISERS


def _metrics(label_set: LabelSet) -> tuple[str, ...]:
    from s3prl_metaperser.evaluation.metrics import ACCURACY, BALANCED_ACCURACY, MACRO_F1_UNION, NATS

    return tuple(metric.name for metric in (BALANCED_ACCURACY, ACCURACY, MACRO_F1_UNION, NATS))


def _configuration(scope: str) -> Path:
    return downstream_folder(NAME) / "config.yaml"


TASK = Task(
    name=NAME,
    title="Emotion recognition in a corpus that nothing was learned from",
    unit="trial",
    axes=AXES,
    systems=_systems,
    default_system=BASELINE,
    metrics=_metrics,
    sections=("s3prl_metaperser.report.domains:sections", "origin"),
    run="s3prl_metaperser.run.domains:run_cell",
    options=DomainOptions,
    configuration=_configuration,
    keeps_checkpoints=True,
)
