"""The result file: everything that a table, figure or test is computed from. docs/results.md explains its keys."""

from __future__ import annotations

import functools
import hashlib
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s3prl_metaperser.corpora.label_set import plain_counts
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import METRICS, multilabel_scores
from s3prl_metaperser.evaluation.schema import SCHEMA
from s3prl_metaperser.evaluation.statistics import Interval, Scored, intervals
from s3prl_metaperser.protocol.episodes import EpisodeList
from s3prl_metaperser.storage.atomic import write_json

if TYPE_CHECKING:
    from s3prl_metaperser.evaluation.meta_testing import EpisodeResult

PACKAGES = (
    "s3prl",
    "torch",
    "torchaudio",
    "transformers",
    "huggingface_hub",
    "numpy",
    "scikit-learn",
    "safetensors",
)


def result_content(
    *,
    cell: Mapping[str, Any],
    classes: Sequence[str],
    raters: Mapping[str, Any],
    episodes: EpisodeList,
    results: Sequence[EpisodeResult],
    hashes: Mapping[str, str],
    options: Mapping[str, Any],
    selected_step: int,
    engine: str,
    seconds: float,
    draws: int,
    tuned: Mapping[str, Any] | None = None,
    trajectory: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The content of a result file, as plain JSON values.

    Args:
        tuned: what the protocol ``tuned`` chose, and among what (:meth:`.Selection.record`).
        trajectory: the same episodes after other numbers of steps (:func:`.trajectory.trajectory`).
    """
    scored = {episodes.rater: [Scored(r.query, r.probabilities, r.ticks) for r in results]}
    spans = intervals(scored, draws)
    per_episode = []
    for episode, result in zip(episodes.episodes, results, strict=True):
        per_episode.append(
            {
                "seed": result.seed,
                "support": list(episode.support),
                "query": list(result.query),
                "probabilities": [[float(p) for p in row] for row in result.probabilities],
                "ticks": plain_counts(result.ticks),
                "loss": result.loss,
                "metrics": multilabel_scores(result.probabilities, result.ticks / result.ticks.sum(1, keepdims=True)),
            }
        )
    return {
        "schema": SCHEMA,
        "cell": dict(cell),
        "classes": list(classes),
        "raters": dict(raters),
        "counts": {
            "shots_requested": episodes.shots,
            "shots_used": len(episodes.episodes[0].support),
            "queries_requested": episodes.queries,
            "queries_used": episodes.queries_used,
            "episodes": len(results),
        },
        "metrics": {name: {"mean": s.mean, "low": s.low, "high": s.high} for name, s in spans.items()},
        "selected_step": selected_step,
        "tuned": None if tuned is None else dict(tuned),
        "engine": engine,
        "episodes": per_episode,
        "trajectory": None if trajectory is None else [dict(point) for point in trajectory],
        "hashes": {**hashes, "episodes": episodes.key, "code": code_hash()},
        "options": dict(options),
        "versions": versions(),
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(),
    }


def write_result(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result file, whole or not at all."""
    write_json(path, content)


def read_result(path: Path) -> dict[str, Any]:
    """Read a result file.

    Raises:
        UserError: not a result file, or of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a result file ({error}).") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise UserError(f"{path} has result schema {found!r}, this version reads {SCHEMA}. Evaluate again.")
    return content


def scored_episodes(content: Mapping[str, Any]) -> dict[str, list[Scored]]:
    """Rater -> episodes of a result file, for :mod:`s3prl_metaperser.evaluation.statistics`."""
    episodes = [Scored(e["query"], np.asarray(e["probabilities"]), np.asarray(e["ticks"])) for e in content["episodes"]]
    return {content["raters"]["test"]: episodes}


def table(spans: Mapping[str, Interval | Mapping[str, float]], title: str) -> str:
    """One table of the metrics, in percent, with 95 % intervals."""
    names = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "unweighted_accuracy": "UA"}
    lines = [title, f"{'metric':<10} {'mean':>6}   95 % interval"]
    for name in METRICS:
        span = spans[name] if isinstance(spans[name], Mapping) else vars(spans[name])
        lines.append(
            f"{names[name]:<10} {100 * span['mean']:>6.1f}   {100 * span['low']:.1f} to {100 * span['high']:.1f}"
        )
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Versions of Python, this package and what numbers depend on."""
    found = {"python": sys.version.split()[0]}
    for package in ("s3prl-metaperser", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def peak_memory() -> int:
    """Peak resident memory of this process, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@functools.cache
def code_hash() -> str:
    """SHA-256 over the package's own Python files."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
