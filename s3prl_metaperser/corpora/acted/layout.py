"""One mechanism for corpora whose file names say what was acted.

A corpus is declared by a :class:`Layout`: the card of what was published, a regular expression for the names, and what
its letters stand for. Folders are searched whole and only names count, so that accents in folder names, however an
archive spelt them, and trees that were unpacked twice do no harm.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from s3prl_metaperser.corpora.base import Corpus, Ledger, Rating, Utterance
from s3prl_metaperser.corpora.card import Card
from s3prl_metaperser.corpora.emotions import ACTED, same_words
from s3prl_metaperser.corpora.folders import Below, files_below
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.reader import NamedClip, Reader
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.hashing import file_hash
from s3prl_metaperser.storage.paths import user_path

DROPPED_HIDDEN = "files: hidden"
DROPPED_OTHER = "files: not audio by name"
DROPPED_NAME = "files: not named as this corpus names its own"
DROPPED_DOUBLE = "files: the same file in another folder"
DROPPED_FORMAT = "files: the same name in another format"


class Clip(NamedTuple):
    """What a file's name and place say.

    Attributes:
        id: unique in the corpus, and the same wherever the file is.
        speaker, sex, level, sentence, language: as :class:`.Utterance` has them.
        emotion: a class of the layout.
    """

    id: str
    speaker: str
    emotion: str
    sex: str = ""
    level: str = ""
    sentence: str = ""
    language: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout(Card):
    """A corpus by the names of its files.

    Attributes:
        name: the registered name.
        pattern: of a file's name without its suffix, all of it, in any case, with the groups ``emotion``, ``speaker``
            and, where names say them, ``level`` and ``sentence``.
        example: such a name, for messages.
        codes: how names write the classes -> the classes, in the corpus's own words and the order of its label set.
        clip: in place of :meth:`by_groups`: what a name that fits, and its path below the root, say; a text says why
            the file is left out.
        case: brings names into the one case that ids have, where copies differ.
        sex: of a speaker.
        levels: how names write them -> levels.
        known: id -> what is known to be wrong with this file as it is published; it is read and noted.
        emotions: of a :class:`.Card`; by default the common emotions among the classes.
    """

    name: str
    pattern: str
    example: str
    codes: Mapping[str, str]
    clip: Callable[[re.Match[str], Path], Clip | str] | None = None
    case: Callable[[str], str] = str
    sex: Callable[[str], str] = lambda speaker: ""
    levels: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)
    emotions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "emotions", self.emotions or same_words(*self.classes))

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the label set."""
        return tuple(self.codes.values())

    def understood(self, path: Path) -> Clip | str | None:
        """What a file (its path below the root) is: a clip, why it is left out, or None where the name does not fit."""
        stem = self.case(unicodedata.normalize("NFC", path.stem))
        match = re.fullmatch(self.pattern, stem, re.IGNORECASE)
        return None if match is None else (self.clip or self.by_groups)(match, path)

    def by_groups(self, name: re.Match[str], path: Path) -> Clip:
        """What the groups of the pattern say."""
        said = name.groupdict("")
        speaker, code = said["speaker"], said["emotion"].lower()
        return Clip(
            name[0],
            speaker,
            next(emotion for each, emotion in self.codes.items() if each.lower() == code),
            self.sex(speaker),
            self.levels.get(said.get("level", ""), ""),
            said.get("sentence", "").lower(),
        )

    def named(self, path: Path) -> NamedClip | None:
        """What a file's name says, without the file."""
        clip = self.understood(path)
        return NamedClip(clip.id, clip.speaker) if isinstance(clip, Clip) else None

    def read(self, root: Path) -> Corpus:
        """Read all that is below a folder.

        Raises:
            UserError: no such folder, or no file named as this corpus names its own.
        """
        root = user_path(root)
        if not root.is_dir():
            fault = "is not a folder" if root.exists() else "does not exist"
            raise UserError(f"{root} {fault}. Give the folder of {self.title}.")
        below = files_below(root)
        found = _Found(self, root)
        for path in below.audio:
            found.add(path)
        if not found.clips:
            raise UserError(f"{root}: {self._nothing(found, below)}")
        found.note_rest(below)
        utterances = tuple(found.utterance(name) for name in sorted(found.clips))
        return Corpus(
            name=self.name,
            root=root,
            label_set=LabelSet(self.name, "single", self.classes),
            utterances=utterances,
            ratings=tuple(Rating(u.id, ACTED, (found.clips[u.id][0].emotion,)) for u in utterances),
            dropped=found.counts(),
            problems=tuple(found.problems),
        )

    def _nothing(self, found: _Found, below: Below) -> str:
        what = f"no file of {self.title} ({self.layout}; {self.example})"
        if found.strange:
            what += f"; {len(found.strange)} audio files have other names, e.g. {shown(found.strange[0].name)}"
        elif reasons := ", ".join(f"{count} {reason}" for reason, count in found.dropped.items()):
            what += f"; left out: {reasons}"
        else:
            what += "; it contains no audio file at all" if not below.audio else ""
        return f"{what}. Give the folder that the corpus was unpacked into."


def acted_reader(layout: Layout) -> Reader:
    """The reader of a corpus that has no options."""

    def read(root: Path) -> Corpus:
        return layout.read(root)

    return Reader(read, terms=layout.terms, card=layout, clip_named=layout.named)


def odd_is_male(speaker: str) -> str:
    """The sex of a speaker of a corpus that gives men odd numbers, and women even ones."""
    return "m" if int(speaker) % 2 else "f"


def folder_word(path: Path, known: Mapping[str, str]) -> str | None:
    """What the nearest folder above a file stands for, of those whose names are known (in lower case)."""
    words = (unicodedata.normalize("NFC", part).lower() for part in reversed(path.parts[:-1]))
    return next((known[word] for word in words if word in known), None)


class _Found(Ledger):
    """The files of a corpus on the way into it."""

    def __init__(self, layout: Layout, root: Path):
        super().__init__()
        self.layout, self.root = layout, root
        self.clips: dict[str, tuple[Clip, Path]] = {}
        self.strange: list[Path] = []

    def add(self, path: Path) -> None:
        clip = self.layout.understood(path.relative_to(self.root))
        if clip is None:
            self.strange.append(path)
        elif isinstance(clip, str):
            self.dropped[clip] += 1
        elif clip.id in self.clips:
            self._second(clip, path)
        else:
            self.clips[clip.id] = clip, path

    def _second(self, clip: Clip, path: Path) -> None:
        """One more file of a name that was found already: the same again, or another one."""
        first, other = self.clips[clip.id]
        formats = [each.suffix.lower() for each in (path, other)]
        if first.emotion == clip.emotion and len(set(formats)) > 1:
            self.dropped[DROPPED_FORMAT] += 1
            if formats[0] == ".wav":
                self.clips[clip.id] = clip, path
        elif first.emotion == clip.emotion and _equal(path, other):
            self.dropped[DROPPED_DOUBLE] += 1
        else:
            what = f"another file of this name is {other}, and what is in them differs"
            self.problem(path, f"{what}. Remove one of the two.")

    def note_rest(self, below: Below) -> None:
        self.dropped[DROPPED_HIDDEN] += len(below.hidden)
        self.dropped[DROPPED_OTHER] += len(below.others)
        self.dropped[DROPPED_NAME] += len(self.strange)
        if self.strange:
            example = f"{shown(str(self.strange[0].relative_to(self.root)))}; its own are like {self.layout.example}"
            self.note(
                self.root, f"{len(self.strange)} audio files have names that are not this corpus's, e.g. {example}."
            )
        if doubles := self.dropped[DROPPED_DOUBLE]:
            self.note(self.root, f"{doubles} files are in it twice, in two folders; each is counted once.")
        for folder, why in below.unlisted:
            self.problem(folder, f"this folder cannot be listed ({why}). Give yourself the right to read it.")

    def utterance(self, name: str) -> Utterance:
        clip, path = self.clips[name]
        seconds = self.seconds(path)
        if name in self.layout.known:
            self.note(path, f"{self.layout.known[name]}, as published.")
        language = clip.language or self.layout.language
        more = {"language": language, "sex": clip.sex, "level": clip.level, "sentence": clip.sentence}
        return Utterance(name, path, clip.speaker, "", seconds, **more)


def _equal(one: Path, other: Path) -> bool:
    try:
        return one.stat().st_size == other.stat().st_size and file_hash(one) == file_hash(other)
    except OSError:
        return False
