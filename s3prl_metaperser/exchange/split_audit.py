"""Whether a split keeps apart what it should: recordings, sound, speakers, sessions, raters.

What a split's files do not say, names of files may: those of corpora that are known here are read as their readers
read them. A corpus that is at hand says all of it, its raters, too.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from s3prl_metaperser.corpora import CORPORA, Corpus, reader_of
from s3prl_metaperser.corpora.base import by_utterance
from s3prl_metaperser.corpora.contents import sound_hash
from s3prl_metaperser.corpora.folders import files_below
from s3prl_metaperser.corpora.reader import NamedClip
from s3prl_metaperser.errors import listed
from s3prl_metaperser.exchange.split_files import PARTS, Item, SplitFiles
from s3prl_metaperser.progress import tqdm

#: What parts may share, in the order in which it is told.
KINDS = ("doubles", "recordings", "audio", "speakers", "sessions", "raters")
_WHAT = {
    "doubles": "recordings stand in it more than once",
    "recordings": "recordings are in both",
    "audio": "sounds are in both, under other names",
    "speakers": "speakers are in both",
    "sessions": "sessions are in both",
    "raters": "raters are in both",
}
_SHOWN = 8


class Shared(NamedTuple):
    """What two parts share, or one part has twice.

    Attributes:
        kind: one of :data:`KINDS`.
        parts: the two, the one that is trained on first; one of them alone for doubles.
        names: of what is shared.
        of: how many there are in the second part.
        items: how many items of the second part are concerned, of :attr:`of_items`.
        allowed: whether it was meant so (``--allow``).
    """

    kind: str
    parts: tuple[str, ...]
    names: tuple[str, ...]
    of: int
    items: int
    of_items: int
    allowed: bool = False

    def __str__(self) -> str:
        where, names = self.parts[-1], listed(self.names, _SHOWN)
        of = f" of {self.of} in {where}" if len(self.parts) > 1 else ""
        verdict = "meant so" if self.allowed else "LEAK" if len(self.parts) > 1 else "DOUBLED"
        return (
            f"{verdict}: {' and '.join(self.parts)}: {len(self.names)}{of} {_WHAT[self.kind]} "
            f"({self.items} of {self.of_items} files of {where}): {names}"
        )


@dataclass
class SplitAudit:
    """What was found in one split.

    Attributes:
        name: its folder or file.
        parts: part -> kind -> how many; ``files`` among them.
        corpus: whose names its files have, or the corpus that was given; empty for neither.
        unknown: kind -> of how many items nothing says it; all of them where nothing could be compared.
        passed_over: files beside its own that name no part.
    """

    name: str
    parts: dict[str, dict[str, int]]
    corpus: str
    shared: list[Shared] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)

    @property
    def leaks(self) -> list[Shared]:
        """What is shared and was not meant so."""
        return [each for each in self.shared if not each.allowed]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "shared": [each._asdict() for each in self.shared]}

    def __str__(self) -> str:
        total = sum(counts["files"] for counts in self.parts.values())
        lines = [self.name]
        for part, counts in self.parts.items():
            told = (f"{count} {kind[: None if count > 1 else -1]}" for kind, count in counts.items() if count)
            lines.append(f"  {part}: {', '.join(told)}")
        if self.corpus:
            lines.append(f"  names of files are read as those of {self.corpus}")
        lines += [f"  {each}" for each in self.shared]
        silent = [kind for kind in KINDS[1:] if self.unknown.get(kind) != total and not self._found(kind)]
        if silent:
            lines.append(f"  nothing shared: {', '.join(silent)}")
        for kind, count in self.unknown.items():
            lines.append(f"  not known: {kind} of {'all' if count == total else count} files{_HINT.get(kind, '')}")
        if self.passed_over:
            lines.append(f"  passed over: {len(self.passed_over)} files that list no part ({listed(self.passed_over)})")
        return "\n".join(lines)

    def _found(self, kind: str) -> bool:
        return any(each.kind == kind for each in self.shared)


_HINT = {"audio": " (--audio DIR compares sound)", "raters": " (--corpus NAME --root DIR says who rated)"}


def audit_split(
    split: SplitFiles, corpus: Corpus | None = None, audio: Path | None = None, allow: Sequence[str] = ()
) -> SplitAudit:
    """What the parts of a split share.

    Args:
        corpus: whose speakers, sessions and raters count, by the names of its files.
        audio: a folder with the split's audio files, which are compared by what is heard.
    """
    name, known = ("", {}) if corpus is None else (corpus.name, _of_corpus(corpus))
    if corpus is None:
        name, known = _by_names(split.items)
    heard = {} if audio is None else _heard(split.items, audio)
    facts = {}
    for item in split.items:
        said = known.get(item.file if corpus is None else _stem(item.file))
        facts[item] = _facts(item, said, heard.get(item.file, ()))
    order = {part: number for number, part in enumerate(PARTS)}
    parts = sorted({item.part for item in split.items}, key=lambda part: (order.get(part, len(order)), part))
    inside = {part: [item for item in split.items if item.part == part] for part in parts}
    found = SplitAudit(split.name, {}, name, passed_over=split.passed_over)
    for part, items in inside.items():
        counts = {kind: len({name for item in items for name in facts[item][kind]}) for kind in KINDS[3:]}
        found.parts[part] = {"files": len(items), **counts}
    found.shared = [shared._replace(allowed=shared.kind in allow) for shared in _shared(inside, facts)]
    for kind in KINDS[1:]:
        if missing := sum(not facts[item][kind] for item in split.items):
            found.unknown[kind] = missing
    return found


def _shared(inside: Mapping[str, list[Item]], facts: Mapping[Item, Mapping[str, Sequence[str]]]) -> Iterator[Shared]:
    for part, items in inside.items():
        counted = Counter(name for item in items for name in facts[item]["recordings"])
        if twice := sorted(name for name, count in counted.items() if count > 1):
            yield Shared("doubles", (part,), tuple(twice), len(counted), sum(counted[n] for n in twice), len(items))
    for one, other in itertools.combinations(inside, 2):
        named: set[str] = set()
        for kind in KINDS[1:]:
            first, second = ({name for item in inside[part] for name in facts[item][kind]} for part in (one, other))
            both = first & second
            concerned = [item for item in inside[other] if both & {*facts[item][kind]}]
            if kind == "recordings":
                named = both
            elif kind == "audio":  # a sound says nothing to a reader: the files that have it do; those told are enough
                concerned = [item for item in concerned if not named & {*facts[item]["recordings"]}]
            names = sorted({item.file for item in concerned} if kind == "audio" else both)
            if concerned:
                yield Shared(kind, (one, other), tuple(names), len(second), len(concerned), len(inside[other]))


def _facts(
    item: Item, said: tuple[NamedClip, tuple[str, ...]] | None, heard: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """Kind of what may be shared -> what the item has of it."""
    clip, raters = said or (NamedClip("", "", ""), ())
    return {
        "recordings": (clip.id or PurePath(item.file.replace("\\", "/")).as_posix(),),
        "audio": heard,
        "speakers": tuple(filter(None, [clip.speaker or item.speaker])),
        "sessions": tuple(filter(None, [clip.session or item.session])),
        "raters": item.raters or raters,
    }


def _stem(file: str) -> str:
    name = PurePath(file.replace("\\", "/")).name
    return name.rpartition(".")[0] or name


def _of_corpus(corpus: Corpus) -> dict[str, tuple[NamedClip, tuple[str, ...]]]:
    """Name of a file, without its suffix -> what the corpus says of it; names that two files share say nothing."""
    rated = by_utterance(corpus.ratings)
    names = Counter(u.path.stem for u in corpus.utterances)
    return {
        u.path.stem: (NamedClip(u.id, u.speaker, u.session), tuple(r.rater for r in rated.get(u.id, ())))
        for u in corpus.utterances
        if names[u.path.stem] == 1
    }


def _by_names(items: Sequence[Item]) -> tuple[str, dict[str, tuple[NamedClip, tuple[str, ...]]]]:
    """The corpus whose reader understands most of the files' names, and file as written -> what it says; nothing below
    a half. Folders may say who speaks, so that equal names in two of them are two recordings."""
    files = {item.file: Path(item.file.replace("\\", "/")) for item in items}
    best, found = "", dict[str, NamedClip]()
    for name in CORPORA.names():
        if understands := reader_of(name).clip_named:
            said = {file: clip for file, path in files.items() if (clip := understands(path)) is not None}
            if len(said) > len(found):
                best, found = name, said
    if 2 * len(found) < len(files):
        return "", {}
    return best, {file: (clip, ()) for file, clip in found.items()}


def _heard(items: Sequence[Item], folder: Path) -> dict[str, tuple[str, ...]]:
    """File as written -> what is heard; without the files that are not there, cannot be read, or are silent."""
    below = files_below(folder).audio
    by_stem: dict[str, list[Path]] = {}
    for path in below:
        by_stem.setdefault(path.stem, []).append(path)
    found: dict[str, tuple[str, ...]] = {}
    for file in tqdm(sorted({item.file for item in items}), desc="reading the audio", unit="file", delay=3.0):
        written, stem = file.replace("\\", "/"), _stem(file)
        here = [folder / written] if (folder / written).is_file() else by_stem.get(stem, [])
        here = [path for path in here if path.as_posix().endswith(written)] or here
        if len(here) == 1 and (digest := sound_hash(here[0])):
            found[file] = (digest,)
    return found
