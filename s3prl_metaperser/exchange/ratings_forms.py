"""A corpus's ratings in the forms of others: crowd-kit's table, labelling tools' files, LeWiDi's and PersEval's splits.

What a rater answered is written as it is, ticks joined as the form has it; files are named, never copied. Splits are
this project's own (:func:`.make_split`): nobody's ratings stand in two parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.corpora import Corpus, Rating, Reader, load_corpus
from s3prl_metaperser.corpora.base import by_utterance
from s3prl_metaperser.corpora.exports import Given, Labels
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.exchange.publishing import Form, Told
from s3prl_metaperser.protocol.episodes import make_episodes
from s3prl_metaperser.protocol.splits import Split, make_split
from s3prl_metaperser.storage.atomic import write_json, write_text
from s3prl_metaperser.storage.csv_text import csv_text
from s3prl_metaperser.storage.disk import writing
from s3prl_metaperser.storage.hashing import file_hash
from s3prl_metaperser.storage.json_files import read_json

#: LeWiDi's and PersEval's question.
ASKED = "what the annotator hears in speech"


def _corpus(source: Path, told: Told) -> Corpus:
    name = told.options.get("corpus")
    if not name:
        raise UserError("Which reader reads the corpus? Name it: --corpus NAME (`metaperser list corpora`).")
    return load_corpus(name, source, **told.options.get("reading", {}))


def _split(corpus: Corpus, told: Told) -> Split:
    return make_split(corpus, scenario=told.options.get("scenario") or "seen", fold=told.options.get("fold") or "fold1")


def _file(corpus: Corpus, utterance: str) -> str:
    """Its path below the corpus's folder."""
    path = corpus.utterance(utterance).path
    return (path.relative_to(corpus.root) if path.is_relative_to(corpus.root) else path).as_posix()


def _answer(rating: Rating, joined: str) -> str:
    return f"{rating.value:g}" if rating.value is not None else joined.join(rating.ticks)


def _without(mark: str, ratings: Iterable[Rating]) -> None:
    """Refuse raters whose names a form cannot tell apart."""
    for rater in dict.fromkeys(rating.rater for rating in ratings):
        if mark in rater:
            raise UserError(
                f"The rater {shown(rater)} has a {mark!r} in the name, by which this form tells raters apart."
            )


# ------------------------------------------------------------------ tables


def write_crowd_kit(source: Path, out: Path, told: Told) -> list[str]:
    """``ratings.csv``: ``task,worker,label``, a row a tick, as crowd-kit's aggregations take it."""
    corpus = _corpus(source, told)
    rows = [
        [_file(corpus, r.utterance), r.rater, label]
        for r in corpus.ratings
        for label in ([_answer(r, "")] if r.value is not None else r.ticks)
    ]
    write_text(out / "ratings.csv", csv_text([["task", "worker", "label"], *rows], as_written=True))
    return [f"{out / 'ratings.csv'}: {len(rows)} rows of {len(corpus.raters())} workers"]


CROWD_KIT = Form("corpus", write_crowd_kit)


def write_labels(writer: Reader, source: Path, out: Path, told: Told) -> list[str]:
    """The form of a labelling tool or of a database of labels, by the reader that reads it back."""
    corpus = _corpus(source, told)
    given = [Given(_file(corpus, r.utterance), r.rater, _parts(r), {}) for r in corpus.ratings]
    assert writer.write is not None
    place = out / f"ratings{writer.writes}" if writer.writes else out
    if writer.writes:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
    elif out.is_dir():
        out.rmdir()  # empty, as was checked
    writer.write(place, Labels(corpus.label_set, "answer", given))
    return [f"{place}: {len(given)} answers of {len(corpus.raters())} raters to {len(corpus.utterances)} files"]


def _parts(rating: Rating) -> tuple[str, ...]:
    if rating.shares is not None:
        return tuple(f"{tick}:{share:g}" for tick, share in zip(rating.ticks, rating.shares, strict=True))
    return (f"{rating.value:g}",) if rating.value is not None else rating.ticks


# ------------------------------------------------------------------ splits


def write_lewidi(source: Path, out: Path, told: Told) -> list[str]:
    """LeWiDi's ``NAME_train.json``, ``NAME_dev.json`` and ``NAME_test.json``, and what is known of the annotators."""
    corpus = _corpus(source, told)
    split = _split(corpus, told)
    _without(",", corpus.ratings)
    said = []
    for part, ratings in (("train", split.train), ("dev", split.validation), ("test", split.test)):
        items = {name: _item(corpus, name, own, part) for name, own in by_utterance(ratings).items()}
        write_json(out / f"{corpus.name}_{part}.json", items)
        said.append(f"{out / f'{corpus.name}_{part}.json'}: {len(items)} items, {len(ratings)} annotations")
    write_json(
        out / f"{corpus.name}_annotators_meta.json", {r: dict(corpus.traits.get(r, {})) for r in corpus.raters()}
    )
    return said


LEWIDI = Form("corpus", write_lewidi)


def _item(corpus: Corpus, utterance: str, ratings: Sequence[Rating], part: str) -> dict[str, Any]:
    known = corpus.utterance(utterance)
    counts = np.stack([np.asarray(corpus.label_set.counts(rating.answer), dtype=np.float64) for rating in ratings])
    shares = (counts / counts.sum(1, keepdims=True)).mean(0)
    return {
        "annotation task": ASKED,
        "text": {"audio": _file(corpus, utterance)},
        "number of annotators": len(ratings),
        "annotators": ",".join(rating.rater for rating in ratings),
        "number of annotations": len(ratings),
        "annotations": {rating.rater: _answer(rating, ",") for rating in ratings},
        "soft_label": dict(zip(corpus.classes, shares.tolist(), strict=True)),
        "split": part,
        "lang": known.language,
        "other_info": {"speaker": known.speaker, "session": known.session},
    }


def write_perseval(source: Path, out: Path, told: Told) -> list[str]:
    """PersEval's three sets under ``user_adaptation: test``: training annotators, K labels of each test user, the rest.

    Texts are recordings. The K labels are those of the benchmark's own first episode of each test rater.
    """
    corpus = _corpus(source, told)
    split, shots = _split(corpus, told), int(told.options.get("shots") or 32)
    support: set[tuple[str, str]] = set()
    query: set[tuple[str, str]] = set()
    for rater, own in split.ratings_of("test").items():
        asked = {"corpus": corpus.fingerprint(), "scenario": split.scenario, "fold": split.fold}
        drawn = make_episodes(
            own,
            **asked,
            shots=shots,
            queries=len(own),
            seeds=[0],
            queries_from=split.queries,
            by_rater_alone=split.pooled,
        ).episodes[0]
        support |= {(rater, name) for name in drawn.support}
        query |= {(rater, name) for name in drawn.query}
    sets = {
        "training_set": list(split.train),
        "adaptation_set": [r for r in split.test if (r.rater, r.utterance) in support],
        "test_set": [r for r in split.test if (r.rater, r.utterance) in query],
    }
    content = {
        "name": corpus.name,
        "label": "answer",
        "labels": {"answer": list(corpus.classes)},
        "user_adaptation": "test",
        "extended": split.scenario == "seen",
        "named": bool(corpus.traits),
        **{name: _set(corpus, ratings) for name, ratings in sets.items()},
    }
    write_json(out / f"{corpus.name}.json", content)
    counted = ", ".join(f"{len(ratings)} in the {name.replace('_', ' ')}" for name, ratings in sets.items())
    return [f"{out / f'{corpus.name}.json'}: {counted}"]


PERSEVAL = Form("corpus", write_perseval)


def _set(corpus: Corpus, ratings: Sequence[Rating]) -> dict[str, Any]:
    users = sorted({rating.rater for rating in ratings})
    return {
        "users": {user: {name: [value] for name, value in corpus.traits.get(user, {}).items()} for user in users},
        "texts": {name: {"audio": _file(corpus, name)} for name in by_utterance(ratings)},
        "annotation": [
            {"user": r.rater, "instance_id": r.utterance, "label": {"answer": _answer(r, ";")}} for r in ratings
        ],
    }


# ------------------------------------------------------------------ a task's data set


def write_croissant(source: Path, out: Path, told: Told) -> list[str]:
    """Croissant's ``croissant.json`` for each instance of an exported task, to stand beside ``preprocessed``."""
    found = sorted(source.glob("*/preprocessed/metadata.json")) or sorted(source.glob("preprocessed/metadata.json"))
    if not found:
        raise UserError(
            f"{source}: no preprocessed/metadata.json in it. `metaperser export-task` writes such a folder."
        )
    licence = told.needed("licence", "A data card states a licence.")
    said = []
    for path in found:
        name = path.parent.parent.name
        rows: Mapping[str, Mapping[str, Any]] = read_json(path)
        keys = list(dict.fromkeys(key for row in rows.values() for key in row))
        plain = [key for key in keys if all(isinstance(row.get(key, ""), str) for row in rows.values())]
        card = _croissant(name, licence, told, file_hash(path), plain)
        write_text(out / name / "croissant.json", json.dumps(card, indent=1, ensure_ascii=False) + "\n")
        said.append(f"{out / name / 'croissant.json'}: {len(rows)} records of {len(plain)} fields")
    return said


CROISSANT = Form("task", write_croissant)


def _croissant(name: str, licence: str, told: Told, sha256: str, keys: Sequence[str]) -> dict[str, Any]:
    """Croissant 1.0's card of ``preprocessed/metadata.json``, whose rows are an object's values."""
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"questions/{key}",
            "name": key,
            "dataType": "sc:Text",
            "source": {"fileObject": {"@id": "metadata"}, "extract": {"jsonPath": f"$.*.{json.dumps(key)}"}},
        }
        for key in keys
    ]
    return {
        "@context": read_yaml(Path(__file__).with_name("croissant_context.yaml")),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{ASKED}: an instruction, clips that a listener has labelled, and one more to be labelled.",
        "license": licence,
        "url": told.needed("url", "A data card says where the data set is."),
        "version": "1.0.0",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "metadata",
                "name": "metadata",
                "contentUrl": "preprocessed/metadata.json",
                "encodingFormat": "application/json",
                "sha256": sha256,
            }
        ],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "questions", "name": "questions", "field": fields}],
    }
