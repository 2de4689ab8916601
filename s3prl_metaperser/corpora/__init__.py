"""Corpora: label sets, utterances, ratings, and one file for each reader, behind one registry.

A reader is a callable ``read(root: pathlib.Path, **options) -> Corpus``, or a :class:`Reader` with more facts. Another
package adds one by an entry point in the group ``s3prl_metaperser.corpora`` (docs/adding_a_corpus.md).
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from s3prl_metaperser.config.options import DataOptions
from s3prl_metaperser.corpora import ratings_csv
from s3prl_metaperser.corpora.base import Corpus, Ledger, Problem, Rating, Suggestions, Utterance
from s3prl_metaperser.corpora.contents import Contents
from s3prl_metaperser.corpora.emotions import in_common
from s3prl_metaperser.corpora.exports import Export, Labels
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.label_sets import LABEL_SETS
from s3prl_metaperser.corpora.people import Who
from s3prl_metaperser.corpora.rated_rows import Reading
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError, shown, unknown_name
from s3prl_metaperser.registry import Registry
from s3prl_metaperser.storage.paths import cache_root, user_path

__all__ = [
    "CORPORA",
    "LABEL_SETS",
    "Corpus",
    "LabelSet",
    "Ledger",
    "Problem",
    "Rating",
    "Reader",
    "Suggestions",
    "Utterance",
    "acted_corpora",
    "acted_corpus",
    "labels_without_audio",
    "load_corpus",
    "open_corpus",
    "read_labels",
    "reader_of",
    "root_of",
    "stored_corpus",
]

CORPORA: Registry[Reader | Callable[..., Corpus]] = Registry(
    "corpus",
    "s3prl_metaperser.corpora",
    expected=("a function or a Reader", lambda _, found: callable(found) and not isinstance(found, type)),
)
CORPORA.register("iemocap", "s3prl_metaperser.corpora.iemocap:READER", "the IEMOCAP release")
CORPORA.register("demo", "s3prl_metaperser.demo.reader:READER", "synthetic speech, made on first use")
CORPORA.register("demo_corpora", "s3prl_metaperser.demo.domain_reader:READER", "ten in real layouts, made on first use")
CORPORA.register("crema_d", "s3prl_metaperser.corpora.crema_d:READER", "CREMA-D's raters: finishedResponses.csv")
CORPORA.register("label_studio", "s3prl_metaperser.corpora.label_studio:READER", "an export: JSON, JSON-MIN or CSV")
CORPORA.register("msp_podcast", "s3prl_metaperser.corpora.msp_podcast:READER", "MSP-Podcast's workers: labels.txt")
CORPORA.register("potato", "s3prl_metaperser.corpora.potato:READER", "a project: annotation_output/USER")
CORPORA.register("prodigy", "s3prl_metaperser.corpora.prodigy:READER", "a dataset: prodigy db-out, JSONL")
CORPORA.register("audformat", "s3prl_metaperser.corpora.audformat:READER", "a database: db.yaml and tables as CSV")
CORPORA.register("whiser", "s3prl_metaperser.corpora.whiser:READER", "WHiSER's workers: as MSP-Podcast's")
CORPORA.register("msp_improv", "s3prl_metaperser.corpora.msp_improv:READER", "MSP-IMPROV's workers: Evalution.txt")
CORPORA.register("emozionalmente", "s3prl_metaperser.corpora.emozionalmente:READER", "its evaluators: evaluations.csv")
CORPORA.register("speechocean762", "s3prl_metaperser.corpora.speechocean762:READER", "five experts' scores of learners")
CORPORA.register(
    "acted_corpora", "s3prl_metaperser.corpora.together:READER", "several corpora of acted emotions as one"
)
CORPORA.register("ratings_csv", "s3prl_metaperser.corpora.ratings_csv:READER", "ratings.csv: file,rater,label")

for _name, _summary in (
    ("aesdd", "acted Greek"),
    ("cafe", "acted Canadian French"),
    ("emodb", "acted German (Berlin)"),
    ("ravdess", "acted North American English, speech alone"),
    ("tess", "acted Canadian English, two actresses"),
    ("savee", "acted British English, four men"),
    ("shemo", "Persian radio plays"),
    ("emovo", "acted Italian"),
    ("nemo", "acted Polish"),
    ("urdu", "Urdu talk shows"),
    ("esd", "acted Mandarin and English"),
    ("jl_corpus", "acted New Zealand English"),
    ("meld", "an American comedy series"),
    ("emov_db", "acted English, four speakers"),
):
    CORPORA.register(_name, f"s3prl_metaperser.corpora.acted.{_name}:READER", f"{_summary}; labels without raters")


def reader_of(name: str) -> Reader:
    """The reader of a corpus by its registered name.

    Raises:
        UserError: unknown name.
    """
    found = CORPORA.get(name)
    return found if isinstance(found, Reader) else Reader(found)


def declared_options(name: str) -> type:
    """The options that a corpus's reader declares, as a dataclass."""
    return reader_of(name).options


def load_corpus(name: str, root: str | Path, **options: Any) -> Corpus:
    """Read the corpus ``name`` from ``root``.

    Raises:
        UserError: unknown name or option, missing folder, or nothing usable in it.

    Examples:
        >>> corpus = load_corpus("iemocap", demo)
        >>> corpus.label_set.kind, len(corpus.classes), len(corpus.utterances)
        ('multi', 9, 120)
    """
    reader = reader_of(name)
    corpus = reader.read(user_path(root), **reader.checked(name, options))
    if not isinstance(corpus, Corpus):
        raise UserError(f"The reader of corpus {name!r} returned {shown(corpus)}, expected a Corpus. Fix its package.")
    return corpus


def acted_corpora() -> list[str]:
    """The corpora that have one label an utterance which is no listener's: what was acted, or settled on."""
    return [name for name in CORPORA.names() if reader_of(name).card is not None]


def acted_corpus(name: str, root: str | Path, merge: Mapping[str, str] | None = None, **options: Any) -> Corpus:
    """A corpus's acted labels in the five common emotions; see :func:`.emotions.in_common`.

    Args:
        merge: changes of the corpus's own map of its classes to the five.

    Raises:
        UserError: as :func:`load_corpus`; a corpus without such labels.
    """
    card = reader_of(name).card
    if card is None:
        known = ", ".join(acted_corpora())
        raise UserError(f"Corpus {name!r} has raters' labels alone. Corpora with acted labels: {known}.")
    return in_common(load_corpus(name, root, **{**card.options, **options}), card.emotions, merge)


def stored_corpus(name: str, root: str | Path, **options: Any) -> Corpus:
    """The corpus as it is on disk, whatever other options it was made or read with: for its labels alone.

    Raises:
        UserError: unknown name or option, missing folder, or nothing usable in it.
    """
    reader = reader_of(name)
    if reader.stored is None:
        anywhere = {"outside": True} if hasattr(reader.options, "outside") else {}
        return load_corpus(name, root, **{**anywhere, **options})
    checked = reader.checked(name, options)
    return reader.stored(user_path(root), **{option: checked[option] for option in options})


def read_labels(
    path: Path,
    label_set: LabelSet,
    *,
    audio: Path | None = None,
    who: Who | None = None,
    outside: bool = False,
    duplicates: str = "error",
    unknown_labels: Literal["error", "drop"] | None = None,
    **options: Any,
) -> Corpus:
    """Labels of a given set, of listeners: a table, or what an annotation tool exports, whichever it is.

    Args:
        path: the table, or the export's file or folder.
        audio: the folder that files are relative to; by default the table's or export's.
        who, outside, duplicates, unknown_labels: as a :class:`.Reading` has them.
        options: of the tool's reader: ``answer``, and what its ``find`` takes.

    Raises:
        UserError: an option that this form does not have, or as the reader of that form.
    """
    reading = Reading(
        who=who or Who(), duplicates=duplicates, outside=outside, unknown_labels=unknown_labels, audio=audio
    )
    name, export = _tools_export(path, options)
    if export is None:
        return ratings_csv.read_table(path, reading, label_set)
    return export.corpus(name, reading, label_set, answer=options.get("answer"))


def exported_labels(
    path: Path,
    *,
    labels: Mapping[str, str] | str | None = None,
    audio: Path | None = None,
    who: Who | None = None,
    **options: Any,
) -> Labels:
    """What listeners answered and what they skipped, in a table or in what an annotation tool exports.

    Args:
        path, audio, options: as in :func:`read_labels`.
        labels: as in :func:`.ratings_csv.read`.
        who: whose labels they are, of a table that does not say it.

    Raises:
        UserError: as :func:`read_labels`, or there is no answer.
    """
    _, export = _tools_export(path, options)
    return (export or ratings_csv.find(path, who)).labels(labels, options.get("answer"), audio)


def writers() -> dict[str, Reader]:
    """The kinds of corpora in whose form labels can be written, by name."""
    return {name: reader for name in CORPORA.names() if (reader := reader_of(name)).write is not None}


def _tools_export(path: Path, options: Mapping[str, Any]) -> tuple[str, Export | None]:
    """What an annotation tool's export holds, and which reader recognised it; "" and None for a table."""
    if not path.exists():
        raise UserError(f"{path}: there is no such file of labels. Correct its name.")
    readers = ((name, reader_of(name)) for name in CORPORA.names())
    name, reader = next(((n, r) for n, r in readers if r.recognises and r.find and r.recognises(path)), ("", None))
    known = ["answer", *list(inspect.signature(reader.find).parameters)[1:]] if reader and reader.find else []
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {path.name}", option, known or ["none"])
    finding = {option: value for option, value in options.items() if option != "answer"}
    return name, reader.find(path, **finding) if reader and reader.find else None


def labels_without_audio(name: str, options: Mapping[str, Any]) -> Corpus | None:
    """The corpus of these options without audio; None where its labels cannot be had without its folder."""
    reader = reader_of(name) if name in CORPORA.names() else None
    if reader is None or reader.labels_only is None:
        return None
    return reader.labels_only(reader.checked(name, options))


def reader_options(data: DataOptions) -> dict[str, Any]:
    """The options that a configuration gives to the reader of its corpus."""
    section = getattr(data, data.corpus, None)  # datarc.demo, whose reader is called demo
    known = [f.name for f in dataclasses.fields(declared_options(data.corpus))]
    common = {name: value for name, value in vars(data).items() if name in known}
    return {**(vars(section) if dataclasses.is_dataclass(section) else {}), **common, **data.reader_options}


def root_of(data: DataOptions) -> Path | None:
    """The folder of the corpus that the options name; None where they give none and the reader does not make it."""
    if data.root:
        return user_path(data.root)
    reader = reader_of(data.corpus)
    if reader.home is None:
        return None
    return reader.home(cache_root(data.cache_dir), reader.checked(data.corpus, reader_options(data)))


def open_corpus(data: DataOptions) -> Corpus:
    """The corpus that the options name, for training; one that its reader makes is made on first use.

    Raises:
        UserError: unknown corpus, no root, or a corpus with problems that would change results.
    """
    root = root_of(data)
    if root is None:
        raise UserError(
            f"Corpus {data.corpus!r} needs its folder: -o config.downstream_expert.datarc.root=DIR, or set datarc.root "
            "in the configuration file."
        )
    corpus = load_corpus(data.corpus, root, **reader_options(data))
    serious = [problem for problem in corpus.problems if problem.serious]
    if serious:
        shown = "\n  ".join(f"{problem.path}: {problem.what}" for problem in serious[:5])
        more = f"\n  and {len(serious) - 5} more" if len(serious) > 5 else ""
        raise UserError(
            f"Corpus {corpus.name!r} has {len(serious)} problem(s) that would change results:\n  {shown}{more}\n"
            f"`metaperser validate --corpus {data.corpus} --root {root}` lists them all."
        )
    return Contents(corpus, cache_root(data.cache_dir)).without_equal() if data.equal_audio == "first" else corpus
