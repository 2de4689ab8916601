"""Which corpora results are of: one reader reads many, and one corpus may be drawn anew with other seeds.

A result names its reader and has a hash of its labels. Results of one reader with different labels are of different
corpora where the options that they were read with say so; such corpora get names of their own, in words. Where only the
seed differs with which a corpus is drawn, they are replicates of one. Where nothing differs but the hash, the labels
have changed in between, and nothing tells the results apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.options import flat, options_that_affect, sections_of_readers
from s3prl_metaperser.corpora.replicates import drawn_by
from s3prl_metaperser.evaluation.result import Result

_DATA = "downstream_expert.datarc"
#: Options of a corpus that say which part of it is used, not which corpus it is.
_OF_SPLITS = tuple(
    f"{_DATA}.{name}"
    for name in ("corpus", "root", "scenario", "fold", "test_raters", "test_sessions", "validation_session", "pools")
)


def told_apart(results: Sequence[Result]) -> list[Result]:
    """Results whose corpora have names of their own: ``ratings_csv (fluency)`` and ``ratings_csv (prosodic)``.

    Those of a reader whose results are all of one corpus keep its name, and so do those that nothing tells apart.
    """
    by_name: dict[str, list[Result]] = {}
    for result in results:
        by_name.setdefault(result.cell.corpus, []).append(result)
    names: dict[tuple[str, str], str] = {}
    for name, mine in by_name.items():
        for corpus, words in _words(name, mine).items():
            names[name, corpus] = f"{name} ({words})" if words else name
    return [
        result.changed(cell=dataclasses.replace(result.cell, corpus=names[result.cell.corpus, result.hashes.corpus]))
        for result in results
    ]


def reader_of(corpus: str) -> str:
    """The reader's name in a name of :func:`told_apart`.

    >>> reader_of("ratings_csv (fluency)"), reader_of("demo")
    ('ratings_csv', 'demo')
    """
    return corpus.partition(" (")[0]


def _words(name: str, results: Sequence[Result]) -> dict[str, str]:
    """Hash of labels -> what tells this corpus from the others; all empty for replicates of one, or where nothing
    does."""
    facts: dict[str, dict[str, Any]] = {}
    for result in results:
        mine, known = dict(_facts(name, result)), facts.get(result.hashes.corpus)
        facts[result.hashes.corpus] = mine if known is None else {k: v for k, v in known.items() if mine.get(k) == v}
    shared = set.intersection(*(set(known) for known in facts.values()))
    several = {key for key in shared if len({repr(known[key]) for known in facts.values()}) > 1}
    differing = [key for key in next(iter(facts.values())) if key in several]
    seed = drawn_by(name)
    if differing == [seed]:
        return dict.fromkeys(facts, "")
    words: dict[str, list[str]] = {corpus: [] for corpus in facts}
    for key in [key for key in differing if key != seed]:  # the first that do, unless they leave two alike
        if len({tuple(said) for said in words.values()}) < _groups(facts, seed):
            for corpus, known in facts.items():
                words[corpus].append(_said(key, known[key]))
    alike = len({tuple(said) for said in words.values()}) < _groups(facts, seed)
    return {corpus: "" if alike else ", ".join(said) for corpus, said in words.items()}


def _groups(facts: Mapping[str, Mapping[str, Any]], seed: str) -> int:
    """How many corpora there are, replicates counted once."""
    return len({repr({k: v for k, v in known.items() if k != seed}) for known in facts.values()} if seed else facts)


def _facts(name: str, result: Result) -> Iterator[tuple[str, Any]]:
    """What may tell a corpus from others, the most telling first."""
    yield "label set", result.answers.name
    others = sections_of_readers() - {name}
    skipped = options_that_affect("speed", "files", "summary")
    for option, value in flat({"downstream_expert": {"datarc": result.option("datarc", default={})}}):
        below = option.removeprefix(f"{_DATA}.").partition(".")[0]
        if option not in skipped and not option.startswith(_OF_SPLITS) and below not in others:
            yield option, value
    root = result.option("datarc", "root")
    yield "folder", Path(root).name if root else None
    yield "root", root


def _said(key: str, value: Any) -> str:
    if key in ("label set", "folder", "root"):
        return str(value)
    return f"{key.rpartition('.')[2]} {'none' if value is None else value}"
