"""Who is in which part of somebody else's split, from the files in which splits are given away.

- EmoBox: ``..._train_fold_1.jsonl``, an object a line with ``key`` and ``wav``.
- SpeechBrain: ``train.json``, one object with an object for each utterance (``wav``).
- EMO-SUPERB and other tables: CSV with a column for the file and one for the part (``Split_Set``).
- LeWiDi: ``..._train.json``, one object with an object for each item (``annotators``, ``split``).
- Lists: ``train.txt``, a file a line, or Kaldi's ``name path``.

What stands in a file counts first; which part a file is about may also be said by its name, or by whoever names it
(``test=FILE``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3prl_metaperser.corpora import csv_rows
from s3prl_metaperser.corpora.folders import FOREIGN_SUFFIXES, SUFFIXES
from s3prl_metaperser.corpora.people import fold
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.json_files import parse_json
from s3prl_metaperser.storage.paths import user_path

TRAIN, VALID, TEST = PARTS = "train", "valid", "test"
#: What others call them, as :func:`.people.fold` has it.
_PART_OF = {
    **dict.fromkeys(("train", "training", "trn", "tr"), TRAIN),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development", "devel", "cv"), VALID),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "test1", "test2", "test3"), TEST),
}
#: Suffixes of a split's files; of one name in several forms the first counts.
_FORMS = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".lst", ".scp")
_KEYS = {
    "file": ("wav", "audio", "path", "file", "filename", "audiopath", "wavpath", "filepath", "audiofile", "wavfile"),
    "name": ("key", "id", "uttid", "utteranceid", "utterance", "name", "itemid", "clip"),
    "part": ("split", "splitset", "part", "partition", "subset", "set"),
    "speaker": ("speaker", "speakerid", "spk", "spkid", "spkr", "spkrid", "actor", "actorid", "talker"),
    "session": ("session", "sessionid", "ses", "sess"),
    "raters": ("annotators", "annotations", "rater", "raterid", "annotator", "annotatorid", "worker", "workerid"),
}
_AUDIO = (*SUFFIXES, *FOREIGN_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Item:
    """One utterance of a part.

    Attributes:
        part: one of :data:`PARTS`, or what its file calls it.
        file: as it is written; where there is no path, the item's name.
        speaker, session: as written; empty where nothing says it.
        raters: who answered it, where the file says so.
    """

    part: str
    file: str
    speaker: str = ""
    session: str = ""
    raters: tuple[str, ...] = ()


@dataclass
class SplitFiles:
    """A split as somebody has published it.

    Attributes:
        name: its folder or file.
        passed_over: files beside its own that name no part.
    """

    name: str
    items: list[Item] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def read_splits(given: Sequence[str]) -> list[SplitFiles]:
    """The splits in files and folders; each folder with files of parts is one, and so is a file that has several parts.

    Args:
        given: files, folders, or ``PART=FILE``, which together are one split.

    Raises:
        UserError: a file that is none of the forms, or is damaged; nothing that has two parts.
    """
    named = [re.fullmatch(r"([A-Za-z]+)=(.+)", text) for text in given]
    if any(named) and not all(named):
        raise UserError("Either all files are named with their part, such as train=FILE test=FILE, or none.")
    if all(named):
        split = SplitFiles(", ".join(given))
        for match in filter(None, named):
            part = _PART_OF.get(match[1].lower(), match[1].lower())
            split.items += read_part(user_path(match[2]), part)
        return _complete([split])
    splits: dict[str, SplitFiles] = {}
    for file, folder in _files(given):
        own = _part_in_name(file.name)
        items = list(read_part(file, own)) if own or file.suffix.lower() in (".csv", ".tsv", ".json", ".jsonl") else []
        at = splits.setdefault(str(file if len({item.part for item in items}) > 1 else folder), SplitFiles(""))
        at.items += [item for item in items if item.part]
        if not any(item.part for item in items):
            at.passed_over.append(file.name)
    for name, split in splits.items():
        split.name = name
    return _complete(list(splits.values()))


def _complete(splits: list[SplitFiles]) -> list[SplitFiles]:
    """Those with two parts or more."""
    whole = [split for split in splits if len({item.part for item in split.items}) > 1]
    if not whole:
        found = sorted({item.part for split in splits for item in split.items})
        raise UserError(
            f"No split with two parts is here{f' ({found[0]} alone)' if found else ''}. Name the parts: "
            "metaperser audit-split train=FILE test=FILE."
        )
    return whole


def _files(given: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """(file, folder whose split it belongs to); of one name in several forms the first form."""
    for text in given:
        path = user_path(text)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in _FORMS and file.is_file())
            inside.sort(key=lambda file: (file.parent, file.stem, _FORMS.index(file.suffix.lower())))
            seen = set[Path]()
            for file in inside:
                if file.with_suffix("") not in seen:
                    seen.add(file.with_suffix(""))
                    yield file, file.parent
        elif path.is_file():
            yield path, path.parent
        else:
            raise UserError(f"{path}: there is no such file or folder.")


def _part_in_name(name: str) -> str:
    """The part that a file's name speaks of, or nothing; the last word that does counts (``train_split/test.json``)."""
    words = re.split(r"[^A-Za-z0-9]+", name.rpartition(".")[0] or name)
    return next((_PART_OF[word.lower()] for word in reversed(words) if word.lower() in _PART_OF), "")


def read_part(path: Path, part: str = "") -> Iterator[Item]:
    """What a file lists.

    Args:
        part: of items that do not say theirs; empty where the file's name does not say it either.

    Raises:
        UserError: the file is damaged, or of no known form; the message names file and line.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        yield from _table(path, part)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path} cannot be read ({error}). Give a split's file, in UTF-8.") from None
    start = text.lstrip()[:1]
    if path.suffix.lower() == ".json" or (start == "[" and path.suffix.lower() != ".jsonl"):
        yield from _document(path, text, part)
    elif start == "{":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield _item(f"{path}:{number}", _parsed(f"{path}:{number}", line), part)
    else:
        yield from (_listed(line.strip(), part) for line in text.splitlines() if line.strip())


def _parsed(where: str, text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}). Copy the file again.") from None


def _document(path: Path, text: str, part: str) -> Iterator[Item]:
    content = _parsed(str(path), text)
    if isinstance(content, Mapping) and not any(isinstance(value, (Mapping, list)) for value in content.values()):
        return  # a map of labels, a configuration: it lists nothing
    named = list(content.items()) if isinstance(content, Mapping) else [("", each) for each in content]
    for number, (name, value) in enumerate(named, 1):
        where = f"{path}: {shown(name)}" if name else f"{path}: item {number}"
        if isinstance(value, list):  # the parts of one file: {"train": [...], "test": [...]}
            own = _PART_OF.get(fold(str(name)), part)
            yield from (
                _item(where, each, own) if isinstance(each, Mapping) else _listed(str(each), own) for each in value
            )
        else:
            yield _item(where, value, part, str(name)) if not isinstance(value, str) else _listed(value, part)


def _item(where: str, value: Any, part: str, name: str = "") -> Item:
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: {shown(value)} is no object with a file. Give a split's file.")
    known = {fold(str(key)): each for key, each in value.items()}
    said = {
        field: next((known[key] for key in keys if known.get(key) is not None), None) for field, keys in _KEYS.items()
    }
    file = said["file"] or name or said["name"]
    if not isinstance(file, (str, int)):
        raise UserError(f"{where}: nothing says which file it is ({', '.join(map(str, list(value)[:6]))}).")
    written = said["part"]
    own = _PART_OF.get(fold(written), written.lower()) if isinstance(written, str) and written else part
    who, session = ("" if said[key] is None else str(said[key]) for key in ("speaker", "session"))
    return Item(own, str(file), who, session, _names(said["raters"]))


def _names(value: Any) -> tuple[str, ...]:
    """Raters: ``"Ann1,Ann2"``, a list, or one answer a rater."""
    if isinstance(value, Mapping):
        return tuple(map(str, value))
    each = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    return tuple(str(one).strip() for one in each if one is not None and str(one).strip())


def _listed(line: str, part: str) -> Item:
    first, _, rest = line.partition(" ")
    kaldi = "/" in rest and "/" not in first and not first.lower().endswith(_AUDIO)
    return Item(part, rest.strip() if kaldi else line)


def _table(path: Path, part: str) -> Iterator[Item]:
    table = csv_rows.rows(path, lambda name: any(fold(name) in keys for keys in _KEYS.values()))
    header = csv_rows.read_header(path, table, ())
    for line, row in table:
        yield _item(
            f"{path}:{line}", {name: cell for name, cell in zip(header, row, strict=True) if cell.strip()}, part
        )
