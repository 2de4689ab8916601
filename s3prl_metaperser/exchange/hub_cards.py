"""For a hub of models and data sets: results beside a model, a benchmark's ``eval.yaml``, a model with its page.

The forms are those of Hugging Face's documentation (eval-results, eval.yaml, model cards). Nothing is uploaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import by_cell, load_results, scored_of
from s3prl_metaperser.evaluation.metrics import METRICS, main_metrics
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.result_keys import Setting
from s3prl_metaperser.evaluation.statistics import intervals
from s3prl_metaperser.exchange.publishing import DATED, Form, Told, slug, written
from s3prl_metaperser.listener.card import Card
from s3prl_metaperser.storage.atomic import write_text

LIBRARY = "s3prl_metaperser"
_KINDS = {"multi": "one class or more", "single": "one class", "soft": "a share for each class", "ordinal": "a level"}


def write_results(source: Path, out: Path, told: Told) -> list[str]:
    """``MODEL/.eval_results/NAME.yaml`` for each system, upstream and scope, and ``benchmark/eval.yaml``.

    Raises:
        UserError: no results, or no ``--dataset-id``.
    """
    dataset = told.needed("dataset_id", "A result names the benchmark's data set on the hub.")
    cells = by_cell(load_results(source))
    tested: dict[Any, set[str]] = {}
    for key, results in cells.items():
        tested.setdefault(key.setting, set()).update(rater for result in results for rater in result.raters.tested)
    by_model: dict[str, list[dict[str, Any]]] = {}
    for key, results in cells.items():
        model = slug("-".join((key.system, key.upstream, *(["f"] * (key.scope == "finetuned")))))
        by_model.setdefault(model, []).append(_entry(results, dataset, told, len(tested[key.setting])))
    for model, entries in by_model.items():
        _write_yaml(out / model / ".eval_results" / f"{slug(dataset.rpartition('/')[2])}.yaml", entries)
    tasks = dict.fromkeys(_task_id(key.setting) for key in cells)
    _write_yaml(
        out / "benchmark" / "eval.yaml",
        {
            "name": dataset.rpartition("/")[2],
            "description": "What one listener hears: a system is given K of their labelled recordings, then others.",
            "evaluation_framework": LIBRARY.replace("_", "-"),
            "tasks": [{"id": task, "config": "default", "split": "test"} for task in tasks],
        },
    )
    return [
        f"{out}: {len(by_model)} models with {len(cells)} results; copy .eval_results into a model's repository",
        f"{out / 'benchmark' / 'eval.yaml'}: {len(tasks)} tasks, for the root of {dataset}. The hub keeps the list of "
        "frameworks: ask there for this one.",
        DATED,
    ]


RESULTS = Form("results", write_results)


def _task_id(setting: Setting) -> str:
    return slug(f"{setting.corpus}-{setting.scenario}-k{setting.shots}-{setting.protocol}")


def _entry(results: Sequence[Result], dataset: str, told: Told, of: int) -> dict[str, Any]:
    """One value.

    Args:
        of: how many listeners were tested with any system of the setting.
    """
    first, scored = results[0], scored_of(results)
    metric = main_metrics(first.answers)[0]
    span = intervals(scored)[metric.name]
    low, high = metric.shown(span.low), metric.shown(span.high)
    alone = " for further utterances of one listener" if len(scored) == 1 else ""
    who = f"{len(scored)} listeners" if len(scored) == of else f"INCOMPLETE: {len(scored)} of {of} listeners"
    notes = [f"{metric.heading}", f"95 % interval {low} to {high}{alone}", who, *first.doubts]
    return {
        "dataset": {"id": dataset, "task_id": _task_id(first.key.setting)},
        "value": round(span.mean * metric.scale, 4),
        "date": written(results).date().isoformat(),
        **({"source": {"url": told.url, "name": "results"}} if told.url else {}),
        "notes": "; ".join(notes),
    }


def _write_yaml(path: Path, content: Any) -> None:
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


# ------------------------------------------------------------------ a model with its page


def write_model(source: Path, out: Path, told: Told) -> list[str]:
    """A copy of a model folder with ``README.md``, as a model's repository has it.

    Raises:
        UserError: not a model folder, or a listener's: what one person hears is theirs.
    """
    from s3prl_metaperser.listener.folder import CARD, TENSORS, read_folder
    from s3prl_metaperser.storage.disk import writing

    folder = read_folder(source)
    card = folder.card
    if card.kind == "listener":
        raise UserError(
            f"{source} is one listener's: what a person hears is theirs. Publish the model that it was adapted from."
        )
    metadata = yaml.safe_dump(_metadata(card, told), sort_keys=False, allow_unicode=True, width=120)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name in (CARD, TENSORS):
            shutil.copyfile(folder.path / name, out / name)
    write_text(out / "README.md", f"---\n{metadata}---\n\n{_page(card, told)}")
    return [f"{out}: README.md, {CARD} and {TENSORS}, ready for a model's repository"]


MODEL = Form("model", write_model)


def _metadata(card: Card, told: Told) -> dict[str, Any]:
    """What stands above a model card (huggingface_hub's ``ModelCardData``)."""
    licence, corpus = told.licence, card.training.corpus
    known = licence if licence and licence == slug(licence).lower() else "other"
    named = {"license_name": licence or "not-stated"} if known == "other" else {}
    scores = {name: each["mean"] for name, each in _scores(card)}
    found: dict[str, Any] = {
        "license": known,
        **named,
        "library_name": LIBRARY,
        "pipeline_tag": "audio-classification",
        "tags": ["speech-emotion-recognition", "personalization", "meta-learning", "s3prl"],
        "datasets": [told.dataset_id] if told.dataset_id else [slug(corpus)],
        "metrics": list(scores),
        "base_model": card.upstream.name,
    }
    if scores:
        task = {"type": "audio-classification", "name": "what one listener hears"}
        data = {"type": told.dataset_id or slug(corpus), "name": corpus, "split": "test"}
        values = [_value(name, mean) for name, mean in scores.items()]
        name = (told.model_id or card.system).rpartition("/")[2]
        found["model-index"] = [{"name": name, "results": [{"task": task, "dataset": data, "metrics": values}]}]
    return found


def _scores(card: Card) -> Iterator[tuple[str, dict[str, float]]]:
    for name, each in (card.metrics or {}).items():
        if isinstance(each, dict) and "mean" in each:
            yield name, each


def _value(name: str, mean: float) -> dict[str, Any]:
    """A metric of ``model-index``, in the unit of :func:`write_results`: percent where tables are in percent."""
    metric = METRICS.get(name) if METRICS.knows(name) else None
    if metric is None:
        return {"type": name, "name": name, "value": mean}
    return {"type": name, "name": metric.heading, "value": round(mean * metric.scale, 4)}


def _page(card: Card, told: Told) -> str:
    upstream, training, how, answers = card.upstream, card.training, card.adaptation, card.label_set
    scope = "the whole model adapts" if card.scope == "finetuned" else "a head on a frozen upstream adapts"
    facts = [
        ("System", f"{card.system} ({scope})"),
        ("Upstream", f"{upstream.name}, weights with SHA-256 {upstream.checkpoint}"),
        ("Answers", f"{_KINDS[answers.kind]} of {', '.join(answers.classes)}"),
        ("Trained on", f"{training.corpus}, {training.train_raters} listeners"),
        ("Adaptation", f"{how.shots} labelled recordings of a listener, {how.steps} steps"),
    ]
    lines = [f"# {told.model_id or card.system + ' on ' + upstream.name}", ""]
    lines += ["Speech emotion recognition that adapts to one listener.", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in facts)]
    if metrics := card.metrics:
        where = ", ".join(f"{key} {metrics[key]}" for key in ("scenario", "fold", "shots", "queries") if key in metrics)
        whose = "further recordings of this listener alone"
        tested = f"Tested on one listener of whom nothing was learned before ({where}); 95 % intervals are for {whose}."
        lines += ["", tested, ""]
        lines += ["| metric | mean | 95 % interval |", "|---|---|---|"]
        for name, each in _scores(card):
            metric = METRICS.get(name) if METRICS.knows(name) else None
            show = metric.shown if metric else lambda value: f"{value:.3f}"
            heading = metric.heading if metric else name
            lines.append(f"| {_cell(heading)} | {show(each['mean'])} | {show(each['low'])} to {show(each['high'])} |")
    lines += ["", "With s3prl_metaperser installed:", "", "```bash"]
    lines += ["metaperser adapt . --ratings my_ratings.csv --out LISTENER   # file,label: your own recordings"]
    lines += ["metaperser predict LISTENER clips/*.wav", "```", "", "## Licences", ""]
    lines += [
        f"- {name}: {_cell(told.licence if name == 'model' and told.licence else text)}"
        for name, text in card.licences.items()
    ]
    lines += ["", "## What it is not", ""]
    lines += ["A guess at what one person would tick, not a fact about who speaks. Not for decisions about people."]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
