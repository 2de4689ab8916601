"""Results in the form of Every Eval Ever 0.3.0: a JSON file for each system in a setting, and a line a prediction.

A file has each metric's mean over listeners with its 95 % interval, each listener's own, and how often all of an
utterance's answer is met (``exact``), which is what a line's score adds up to. Folders and names are those of its data
store: ``data/COLLECTION/DEVELOPER/MODEL/UUID.json`` and ``UUID_samples.jsonl``. Equal results get equal names.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s3prl_metaperser.corpora import CORPORA, reader_of
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import load_results, scored_of
from s3prl_metaperser.evaluation.metrics import Metric, main_metrics
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.result_keys import Cell
from s3prl_metaperser.evaluation.statistics import LEVEL, Interval, Scored, influences, mean_intervals
from s3prl_metaperser.exchange.publishing import DATED, Form, Told, slug, written
from s3prl_metaperser.storage.atomic import write_json, write_text
from s3prl_metaperser.storage.hashing import file_hash

SCHEMA = "0.3.0"
LIBRARY = "s3prl-metaperser"
_HOW = "Student's t over listeners with shared utterances counted (see the library's docs/statistics.md)"
_EXACT = Metric("exact_match", "exact", (), lambda *_: math.nan, words="share of utterances whose whole answer is met")
_HOW_ONE = "over the utterances of one listener, by influence functions"


def write(source: Path, out: Path, told: Told) -> list[str]:
    """Write all results below a folder.

    Raises:
        UserError: no results, results that do not go together, or several systems under one ``--model-id``.
    """
    told.needed("organization", "Every Eval Ever wants to know who provides the results.")
    cells: dict[tuple[Cell, int], list[Result]] = {}
    for result in load_results(source):
        cells.setdefault((result.key, result.cell.training_seed), []).append(result)
    if told.model_id and len({(cell.system, cell.upstream, cell.scope) for cell, _ in cells}) > 1:
        raise UserError(f"{source} holds several systems, and --model-id {told.model_id} is one. Leave it out.")
    rows = sum(_write(results, out, told) for results in cells.values())
    return [
        f"{out / 'data'}: {len(cells)} evaluations, {rows} predictions",
        DATED,
        "check it in that folder's parent: every_eval_ever validate 'data/*/*/*/*.json' 'data/*/*/*/*.jsonl'",
    ]


FORM = Form("results", write)


def _write(results: Sequence[Result], out: Path, told: Told) -> int:
    """One cell. Returns how many lines its predictions have."""
    first, scored = results[0], scored_of(results)
    model_id = told.model_id or f"{slug(told.organization)}/{_model(first)}"
    name = _uuid([first.key, first.cell.training_seed, *sorted(result.hashes.episodes for result in results)], model_id)
    place = "/".join(("data", slug(first.task), *map(slug, model_id.split("/")), name))
    made = int(written(results).timestamp())
    evaluation = f"{_evaluation(first)}/{model_id}/{made}"
    lines = list(_samples(first, scored, evaluation, model_id))
    samples = out / f"{place}_samples.jsonl"
    write_text(samples, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines))
    write_json(
        out / f"{place}.json",
        {
            "schema_version": SCHEMA,
            "evaluation_id": evaluation,
            "evaluation_timestamp": str(made),
            "retrieved_timestamp": str(int(time.time())),
            "source_metadata": _source(told),
            "eval_library": {"name": LIBRARY, "version": first.versions.get(LIBRARY, "unknown")},
            "model_info": {
                "name": f"{first.cell.system} on {first.cell.upstream} ({first.cell.scope})",
                "id": model_id,
                "developer": model_id.partition("/")[0],
                "additional_details": _model_details(first),
            },
            "evaluation_results": list(_scores(first, scored)),
            "detailed_evaluation_results": {
                "format": "jsonl",
                "file_path": f"{place}_samples.jsonl",
                "hash_algorithm": "sha256",
                "checksum": file_hash(samples),
                "total_rows": len(lines),
            },
        },
    )
    return len(lines)


def _model(result: Result) -> str:
    return slug("-".join((result.cell.system, result.cell.upstream, *(["f"] * (result.cell.scope == "finetuned")))))


def _uuid(parts: Sequence[object], model_id: str) -> str:
    digest = hashlib.sha256("\n".join(map(str, [*parts, model_id])).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _evaluation(result: Result) -> str:
    cell = result.cell
    return slug(f"{cell.corpus}-{cell.scenario}-k{cell.shots}-{cell.protocol}-seed{cell.training_seed}")


def _source(told: Told) -> dict[str, Any]:
    link = {"source_organization_url": told.url} if told.url else {}
    return {
        "source_name": LIBRARY,
        "source_type": "evaluation_run",
        "source_organization_name": told.organization,
        **link,
        "evaluator_relationship": told.relationship,
    }


def _model_details(result: Result) -> dict[str, str]:
    cell, hashes = result.cell, result.hashes
    return {
        "deployment_type": "self_deployed",
        "model_availability": "unknown",
        "system": cell.system,
        "upstream": cell.upstream,
        "upstream_checkpoint_sha256": hashes.upstream_checkpoint,
        "scope": cell.scope,
        "training_seed": str(cell.training_seed),
        **({"parameters_sha256": hashes.parameters} if hashes.parameters else {}),
        **({"doubts": "; ".join(result.doubts)} if result.doubts else {}),
    }


def _data(result: Result) -> dict[str, Any]:
    cell, hashes = result.cell, result.hashes
    reader = reader_of(cell.corpus) if CORPORA.knows(cell.corpus) else None
    link = reader.card.source if reader and reader.card else ""
    where = {"source_type": "url", "url": [link]} if link.startswith("http") else {"source_type": "other"}
    details = {
        "scenario": cell.scenario,
        "support_samples": str(cell.shots),
        "episodes_sha256": hashes.episodes,
        "labels_sha256": hashes.corpus,
        **({"audio_sha256": hashes.audio} if hashes.audio else {}),
        "protocol": cell.protocol,
        "classes": ", ".join(result.classes),
    }
    return {"dataset_name": cell.corpus, **where, "additional_details": details}


def _scores(result: Result, scored: Mapping[str, Sequence[Scored]]) -> Iterator[dict[str, Any]]:
    name, data = _evaluation(result), _data(result)
    everyone = {rater: influences(episodes) for rater, episodes in scored.items()}
    whose: list[tuple[str, Mapping[str, Interval]]] = [("mean", mean_intervals(everyone))]
    whose += [(rater, mean_intervals({rater: own})) for rater, own in everyone.items()]

    def entry(what: str, who: str, config: dict[str, Any], score: float, uncertainty: dict[str, Any]) -> dict[str, Any]:
        return {
            "evaluation_result_id": f"{what}/{who}",
            "evaluation_name": f"{name} {what} {who}",
            "source_data": data,
            "metric_config": config,
            "score_details": {"score": score, "uncertainty": uncertainty},
        }

    for metric in main_metrics(result.answers):
        for who, spans in whose:
            if (span := spans.get(metric.name)) is not None and math.isfinite(span.mean):
                of = "mean over listeners" if who == "mean" else f"listener {who}"
                config = _config(metric, f"{metric.words or metric.title}; {of}")
                yield entry(metric.name, who, config, span.mean, _uncertainty(span, who))
    for rater, episodes in scored.items():
        met = np.concatenate([_met(episode) for episode in episodes])
        yield entry("exact", rater, _config(_EXACT, _EXACT.words), float(met.mean()), {"num_samples": len(met)})


def _config(metric: Metric, description: str) -> dict[str, Any]:
    low, high = (value if math.isfinite(value) else f"{'-' * (value < 0)}Infinity" for value in metric.bounds)
    return {
        "evaluation_description": description,
        "metric_id": metric.name,
        "metric_name": metric.title,
        "metric_unit": "proportion" if metric.unit == "percent" else metric.unit or "points",
        "lower_is_better": not metric.higher_is_better,
        "score_type": "continuous",
        "min_score": low,
        "max_score": high,
    }


def _uncertainty(span: Interval, who: str) -> dict[str, Any]:
    if not (math.isfinite(span.low) and math.isfinite(span.high)):
        return {}
    method = _HOW if who == "mean" else _HOW_ONE
    return {"confidence_interval": {"lower": span.low, "upper": span.high, "confidence_level": LEVEL, "method": method}}


def _met(episode: Scored) -> np.ndarray:
    """Whether all of each answer is met, [Q]."""
    return (_decided(episode) == episode.label_set.answered(episode.counts)).all(-1)


def _decided(episode: Scored) -> np.ndarray:
    if episode.threshold is not None:
        return np.asarray(episode.probabilities) > episode.threshold
    return episode.label_set.decide(episode.probabilities, episode.smoothing)


def _samples(
    result: Result, scored: Mapping[str, Sequence[Scored]], evaluation: str, model_id: str
) -> Iterator[dict[str, Any]]:
    name, names = _evaluation(result), np.array(result.classes, dtype=object)
    how = {"multi": "above 1/C", "soft": "above 1/C", "single": "argmax", "ordinal": "nearest level"}
    for rater, episodes in scored.items():
        for number, episode in enumerate(episodes):
            given, meant, met = _decided(episode), episode.label_set.answered(episode.counts), _met(episode)
            for row, utterance in enumerate(episode.query):
                answer = "; ".join(names[given[row]])
                reference = sorted(names[meant[row]])
                shares = dict(zip(result.classes, np.asarray(episode.probabilities)[row].tolist(), strict=True))
                asked = f"recording {utterance} for listener {rater}, after {result.counts.shots_used} answers"
                yield {
                    "schema_version": SCHEMA,
                    "evaluation_id": evaluation,
                    "model_id": model_id,
                    "evaluation_name": f"{name} exact {rater}",
                    "evaluation_result_id": f"exact/{rater}",
                    "sample_id": f"{rater}/{number}/{utterance}",
                    "sample_hash": hashlib.sha256((asked + "; ".join(reference)).encode()).hexdigest(),
                    "interaction_type": "single_turn",
                    "input": {"raw": asked, "reference": reference, "choices": list(result.classes)},
                    "output": {"raw": [json.dumps(shares, ensure_ascii=False)]},
                    "answer_attribution": [
                        {
                            "turn_idx": 0,
                            "source": "output.raw",
                            "extracted_value": answer,
                            "extraction_method": how[episode.label_set.kind],
                            "is_terminal": True,
                        }
                    ],
                    "evaluation": {"score": float(met[row]), "is_correct": bool(met[row])},
                }
