"""The IEMOCAP release as it is on disk.

Ratings come from the summary files ``Session<n>/dialog/EmoEvaluation/<dialog>.txt`` alone; the folders beside
them (``Categorical``, ``Attribute``, ``Self-evaluation``) say the same again. A summary file is a sequence of
blocks::

    [6.2901 - 8.2357]<TAB>Ses01F_impro01_F000<TAB>neu<TAB>[2.5000, 2.5000, 2.5000]
    C-E2:<TAB>Neutral;<TAB>()
    C-F1:<TAB>Neutral; Anger;<TAB>(free text of the rater)
    A-E3:<TAB>val 3; act 2; dom  2;<TAB>()

``C-`` lines are categorical ratings, by observers (``E1`` to ``E6``) and by the actors themselves (``F1``,
``M3``); ``A-`` lines are not used. A block's ``C-`` lines come before its ``A-`` lines and before a blank line, and no
utterance has two blocks: what breaks this has lost a header, and is not given to the block before.

Every line that is none of these is named in the corpus's problems, and so is every file and folder that a copy lacks;
nothing is passed over in silence. A comment holds anything, also what looks like a rating: it is not searched.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from s3prl_metaperser.corpora.base import (
    DROPPED_LABEL,
    DROPPED_NOTHING_LEFT,
    DROPPED_OTHER,
    DROPPED_UNRATED,
    Corpus,
    Ledger,
    Rating,
    Suggestions,
    Utterance,
)
from s3prl_metaperser.corpora.emotions import ACTED
from s3prl_metaperser.corpora.folders import files_below, name_hint
from s3prl_metaperser.corpora.iemocap_card import CARD
from s3prl_metaperser.corpora.label_set import OTHER, LabelSet
from s3prl_metaperser.corpora.label_sets import WORDS
from s3prl_metaperser.corpora.reader import NamedClip, Reader
from s3prl_metaperser.errors import UserError

#: The nine classes, in EMO-SUPERB's order. "Other" is not a class (Meta-PerSER, section 3.1).
CLASSES = ("frustrated", "angry", "sad", "disgust", "excited", "fear", "neutral", "surprise", "happy")

#: The three-letter codes. Every spelling in a release begins with its code.
CODES = {name[:3]: name for name in (*CLASSES, OTHER)}
LABEL_SET = LabelSet("iemocap", "multi", CLASSES, CODES | WORDS)

#: The paper's fold1 .. fold5, the observer that it leaves out ("insufficient data", section 3.1), and Unseen's session.
SUGGESTED = Suggestions(
    test_raters=("C-E1", "C-E2", "C-E4", "C-E5", "C-E6"), excluded_raters=("C-E3",), test_sessions=("Ses05",)
)

MAJORITY = LabelSet("iemocap-majority", "single", CLASSES, CODES | WORDS)
#: The code of an utterance on which no class has more than half of the raters.
NO_MAJORITY = "xxx"

RELEASE = "IEMOCAP_full_release"
SESSIONS = (1, 2, 3, 4, 5)
#: Summaries and wavs of each session as published: 151 and 10,039.
PUBLISHED = {1: (28, 1819), 2: (30, 1811), 3: (32, 2136), 4: (30, 2103), 5: (31, 2170)}

DROPPED_RATER = "ratings: unknown rater"
DROPPED_CODE = "utterances: the majority's code is {}"
DROPPED_CUT = "ratings: line cut short"
DROPPED_BLOCK = "ratings: in a block without a usable header"
DROPPED_LINE = "lines: not understood"
DROPPED_FILE = "files: summary not read"
DROPPED_WAV = "files: wav without a rating"
DROPPED_HIDDEN = "files: hidden"
DROPPED_NO_SUMMARY = "files: neither summary nor wav"

_DIALOG = re.compile(r"Ses0([1-5])[FM]_\S+")
#: The letter after the session says whose face wore the markers; the speaker is the letter of the last token.
_UTTERANCE = re.compile(r"(?P<dialog>(?P<session>Ses0[1-5])[FM]_\S+)_(?P<gender>[FM])\d{3,}")
_HEADER = re.compile(r"\[[^\[\]]*\]\s+(?P<utterance>\S+)\s+(?P<code>[^\s\[\]]+)\s+\[[^\[\]]*\]")
_CATEGORICAL = re.compile(r"(?P<rater>C-[^\s:]*)\s*:(?P<rest>.*)")
_RATER = re.compile(r"C-(E[1-6]|[FM][1-5])")
_ATTRIBUTES = re.compile(r"A-[^\s:]*\s*:\s*(val|act|dom)\b.*")
_COLUMN_NAMES = re.compile(r"% \[START_TIME.*")
#: Beginnings of lines, which mean two lines run together where they stand inside one.
_HEAD = r"\[\d+\.\d+ - \d+\.\d+\]|\bSes0\d[FM]_"
_RUN_TOGETHER = re.compile(rf"[CA]-(E\d|[FM]\d)\s*:|{_HEAD}")
#: The same within a comment that is not closed at the end of its line, or before it. Comments speak of raters and of
#: utterances, too: a lost line has the tabs of one or, in files without tabs, its semicolon and its own comment.
_RUN_INTO_COMMENT = re.compile(
    rf"[CA]-(E\d|[FM]\d)\s*:(?:(?=[ ]*\t\s*(?i:;|val|act|dom|{'|'.join(CODES)}))|(?=[^():]*;\s*\())"
    r"|\[\d+\.\d+ - \d+\.\d+\]\s*(?:Ses0|\Z)|\bSes0\d[FM]_\w+\t"
)
#: Folders beside the summaries, which say the same again.
_BESIDE = {"categorical", "attribute", "self-evaluation"}
_NEWLINE = re.compile(r"\r*\n|\r")
#: So many dialogs without a summary are named one by one.
_MOST_LOST = 5
#: The longest summary of the release has some 50 kB.
_LARGEST_SUMMARY = 1 << 24


@dataclass
class _Release(Ledger):
    """What has been read so far."""

    wavs: dict[str, Path] = field(default_factory=dict)  # utterance with a block -> where its audio belongs
    codes: dict[str, str] = field(default_factory=dict)  # the same utterances -> code of the raters' majority
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)  # session -> how many summaries and wavs it has
    ticks: dict[tuple[str, str], set[str]] = field(default_factory=dict)  # (utterance, rater) -> classes


def read(root: Path, *, answers: Literal["raters", "majority"] = "raters") -> Corpus:
    """Read an IEMOCAP release.

    Rater ids are as written, e.g. ``C-E1`` (an observer) and ``C-F1`` (the actress of session 1, of herself).
    Two lines of one rater for one utterance are united. What a copy lacks is noted, not refused: sessions, summaries,
    and numbers of files other than the published ones.

    Args:
        root: the folder ``IEMOCAP_full_release``, whatever its name, or its parent folder.
        answers: of each rater, or one an utterance: the code of the majority that a summary's headers give.

    Returns:
        The utterances that have a rating with at least one class left, and these ratings.

    Raises:
        UserError: no such folder, no ``Session<n>`` in it, or nothing rated.
    """
    return _read(root, _compare_with_published, answers)


def read_layout(root: Path) -> Corpus:
    """Any corpus in the release's layout, however many files it has. As :func:`read` otherwise."""
    return _read(root, _note_empty_sessions, "raters")


def _read(root: Path, compare: Callable[[Path, _Release], None], answers: str) -> Corpus:
    folder = _find_release(Path(root))
    release = _Release()
    for number in SESSIONS:
        session = folder / f"Session{number}"
        if session.is_dir():
            _read_session(session, number, release)
        else:
            what = f"this session is missing; the corpus is read without it.{name_hint(session)}"
            release.note(session, what)
    compare(folder, release)
    ratings = _ratings(release) if answers == "raters" else _majorities(release)
    if not ratings:
        raise UserError(
            f"{folder}: empty corpus, no rating in Session*/dialog/EmoEvaluation/*.txt. Is the release complete?"
        )
    rated = sorted({rating.utterance for rating in ratings})
    return Corpus(
        name="iemocap",
        root=folder,
        label_set=LABEL_SET if answers == "raters" else MAJORITY,
        utterances=tuple(_utterance(name, release) for name in rated),
        ratings=tuple(ratings),
        dropped=release.counts(),
        problems=tuple(release.problems),
        suggested=SUGGESTED if answers == "raters" else Suggestions(),
    )


def _ratings(release: _Release) -> list[Rating]:
    given = sorted(release.ticks.items())
    ratings = [Rating(utterance, rater, LABEL_SET.in_order(ticks)) for (utterance, rater), ticks in given if ticks]
    release.dropped[DROPPED_NOTHING_LEFT] += len(given) - len(ratings)
    release.dropped[DROPPED_UNRATED] += len(release.wavs) - len({rating.utterance for rating in ratings})
    return ratings


def _majorities(release: _Release) -> list[Rating]:
    """One rating an utterance, by the codes of the headers; what the majority called other, or had none, is counted."""
    ratings = []
    for utterance, code in sorted(release.codes.items()):
        label = CODES.get(code)
        if label in CLASSES:
            ratings.append(Rating(utterance, ACTED, (label,)))
        elif label == OTHER or code == NO_MAJORITY:
            release.dropped[DROPPED_CODE.format(code)] += 1
        else:
            release.problem(release.wavs[utterance], f"its summary has the unknown code {code!r}. Unpack it again.")
    return ratings


def _compare_with_published(folder: Path, release: _Release) -> None:
    """Note the numbers of files of a copy that are not the published ones."""
    form = "Session{} has {} of {} summaries and {} of {} wavs"
    other = [
        form.format(number, summaries, PUBLISHED[number][0], wavs, PUBLISHED[number][1])
        for number, (summaries, wavs) in release.sizes.items()
        if (summaries, wavs) != PUBLISHED[number]
    ]
    if other:
        what = f"not the whole published release: {'; '.join(other)}. Unpack what is missing."
        release.note(folder, what)


def _note_empty_sessions(folder: Path, release: _Release) -> None:
    for number, size in release.sizes.items():
        if not any(size):
            what = "this session has neither summaries nor wavs; the corpus is read without it."
            release.note(folder / f"Session{number}", what)


def by_code(label: str) -> str | None:
    """Class name (or ``"other"``) by the first three letters in any case; ``None`` where they are no code.

    Of several words the whole must be a known name: ``Neutral Anger`` is two labels without their ``;``.
    """
    if len(label.split()) > 1:
        return LABEL_SET.lookup(label)
    return CODES.get(label[:3].lower())


def misspelt(cell: str) -> list[str]:
    """The labels of a cell that ``by_code`` takes for a name that they are not, e.g. ``Neutrbl``."""
    found = [label for label in map(str.strip, cell.split(";")) if label]
    return [label for label in found if by_code(label) is not None and LABEL_SET.lookup(label) != by_code(label)]


def _cut_comment(line: str) -> tuple[str, str]:
    """A rating up to its comment, and the comment if it is not closed where the line ends."""
    start = line.find("\t(")
    start = line.find("(") if start < 0 else start
    if start < 0:
        return line, ""
    comment, depth = line[start:], 0
    for place, letter in enumerate(comment, 1):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            return line[:start], "" if place == len(comment) else comment
    return line[:start], comment


def _find_release(root: Path) -> Path:
    root = root.expanduser()
    if not root.is_dir():
        fault = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"{root} {fault}. Give the folder {RELEASE} or its parent folder.")
    for folder in (root, root / RELEASE):
        if any((folder / f"Session{number}").is_dir() for number in SESSIONS):
            return folder
    raise UserError(
        f"{root} contains neither Session1 ... Session5 nor {RELEASE}. Give the folder {RELEASE} or its parent folder."
    )


def _read_session(session: Path, number: int, release: _Release) -> None:
    summaries, wavs = session / "dialog" / "EmoEvaluation", session / "sentences" / "wav"
    if not summaries.is_dir():
        release.problem(summaries, "this folder is missing, so the session has no ratings. Unpack the release again.")
    dialogs = _read_summaries(summaries, wavs, number, release) if summaries.is_dir() else set()
    below = files_below(wavs)
    found = [path for path in below.audio if path.suffix.lower() == ".wav"]
    release.dropped[DROPPED_WAV] += sum(path.stem not in release.wavs for path in found)
    release.dropped[DROPPED_HIDDEN] += len(below.hidden)
    release.dropped[DROPPED_NO_SUMMARY] += len(below.others) + len(below.audio) - len(found)
    for folder, why in below.unlisted:
        release.problem(folder, f"this folder cannot be listed ({why}). Give yourself the right to read it.")
    release.sizes[number] = len(dialogs), len(found)
    _note_lost_dialogs(summaries, dialogs, Counter(path.parent for path in found), release)


def _read_summaries(folder: Path, wavs: Path, number: int, release: _Release) -> set[str]:
    """Read a session's summaries; the names of their dialogs."""
    dialogs = set()
    for path in sorted(folder.iterdir()):
        dialog = _DIALOG.fullmatch(path.stem)
        if path.name.startswith("."):
            release.dropped[DROPPED_HIDDEN] += 1  # macOS leaves ._<name> files with binary content beside the real ones
        elif path.suffix.lower() != ".txt":
            beside = path.is_dir() and path.name.lower() in _BESIDE
            release.dropped[DROPPED_NO_SUMMARY] += not beside
        elif dialog is None:
            release.dropped[DROPPED_FILE] += 1
            release.note(path, "not named like a dialog (Ses01F_impro01.txt); not read.")
        elif int(dialog[1]) != number:
            release.dropped[DROPPED_FILE] += 1
            release.problem(path, f"a dialog of session {dialog[1]} in the folder of session {number}; not read.")
        else:
            dialogs.add(path.stem)
            _Summary(path, wavs / path.stem, release).read()
    return dialogs


def _note_lost_dialogs(summaries: Path, dialogs: set[str], wavs: Counter[Path], release: _Release) -> None:
    """Note folders of wavs for whose dialog there is no summary, one by one or, where there are many, as one."""
    lost = {folder: count for folder, count in sorted(wavs.items()) if folder.name not in dialogs}
    if len(lost) > _MOST_LOST:
        what = f"no summaries of {len(lost)} dialogs, so {sum(lost.values())} wavs have no ratings. Unpack them again."
        release.note(summaries, what)
        return
    for folder, count in lost.items():
        hint = name_hint(summaries / f"{folder.name}.txt")
        what = f"no summary {summaries / folder.name}.txt, so its {count} wavs have no ratings.{hint}"
        release.note(folder, what)


def _utterance(name: str, release: _Release) -> Utterance:
    path, parts = release.wavs[name], _UTTERANCE.fullmatch(name)
    assert parts is not None, "only such names have got a path"
    seconds = release.seconds(path)
    speaker, sex = parts["session"] + parts["gender"], parts["gender"].lower()
    return Utterance(name, path, speaker, parts["session"], seconds, language=CARD.language, sex=sex)


class _Summary:
    """One summary file on its way into the release, line by line."""

    def __init__(self, path: Path, wavs: Path, release: _Release):
        self.path, self.wavs, self.release = path, wavs, release
        self.utterance: str | None = None  # of the current block; None outside a usable one
        self.header_line = 0
        self.lines: Counter[str] = Counter()  # kinds of lines in the current block: "C", "A"
        self.attributes_seen = False
        self.closed = False  # whether the current block can have no more ratings

    def read(self) -> None:
        if (content := self._content()) is None:
            return
        # Latin-1 decodes any byte; only comments hold other than ASCII.
        text = content.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
        blocks = 0
        for number, line in enumerate(map(str.strip, _NEWLINE.split(text)), 1):
            if line.startswith("["):
                self._end_block()
                self._header(line, number)
                blocks += 1
            elif line.startswith("C-") or line == "C":
                self.lines["C"] += 1
                self._categorical(line, number)
            elif _ATTRIBUTES.fullmatch(line):
                self.lines["A"] += 1
                self.attributes_seen = self.closed = True
            elif not line:
                self.closed = True
            elif not _COLUMN_NAMES.fullmatch(line):
                self.release.dropped[DROPPED_LINE] += 1
                self._note(number, f"line not understood, left out: {line[:60]!r}")
            self._refuse_run_together(line, number)
            if "\0" in line:  # a disk or a copy that failed leaves them in place of whole lines
                self._problem(number, "a NUL character: a part of the file is lost here. Unpack it again.")
        self._end_block()
        if not blocks:
            self.release.problem(self.path, "this file contains no ratings. Unpack it again from the release.")
        elif self.attributes_seen and not self.lines["A"]:
            what = "the last block has no attribute (A-) lines: the file may have been cut short."
            self._note(self.header_line, what)

    def _content(self) -> bytes | None:
        """The file's bytes; None, and a problem, where it cannot be read."""
        fault = "this is not a file" if not self.path.is_file() else None
        try:
            if fault is None and self.path.stat().st_size > _LARGEST_SUMMARY:
                fault = "far larger than any summary"
            if fault is None:
                return self.path.read_bytes()
        except OSError as error:
            fault = f"cannot be read ({error.strerror})"
        self.release.dropped[DROPPED_FILE] += 1
        self.release.problem(self.path, f"{fault}; not read. Unpack it again from the release.")
        return None

    def _refuse_run_together(self, line: str, number: int) -> None:
        """A lost line break hides the second line in the first one's comment."""
        if line.startswith("["):
            return  # a bad header has been named
        line, open_comment = _cut_comment(line) if line.startswith(("C-", "A-")) else (line, "")
        found = _RUN_TOGETHER.search(line, 1) or _RUN_INTO_COMMENT.search(open_comment)
        if found:
            self._problem(number, f"two lines have run together at {found[0]!r}. Unpack the file again.")
            if not found[0].startswith(("C-", "A-")):
                self.utterance = None  # a header: what follows is not of this block

    def _header(self, line: str, number: int) -> None:
        self.utterance, self.header_line, self.closed = None, number, False
        self.lines.clear()
        header = _HEADER.fullmatch(line)
        if header is None:
            self._problem(number, f"block header damaged or cut short, its ratings are left out: {line[:60]!r}")
            return
        name = header["utterance"]
        parts = _UTTERANCE.fullmatch(name)
        if parts is None:
            self._problem(number, f"{name!r} is no utterance name (Ses01F_impro01_F000), its ratings are left out.")
        elif parts["dialog"] != self.path.stem:
            session = "another session" if parts["session"] != self.path.stem[:5] else "another dialog"
            self._problem(number, f"{name} belongs to {session} than this file, its ratings are left out.")
        elif name in self.release.wavs:
            self._problem(number, f"a second block for {name}, its ratings are left out. Unpack the file again.")
        else:
            self.utterance = name
            self.release.wavs[name] = self.wavs / f"{name}.wav"
            self.release.codes[name] = header["code"].lower()

    def _categorical(self, line: str, number: int) -> None:
        release = self.release
        if self.utterance is None:
            release.dropped[DROPPED_BLOCK] += 1
            if not self.header_line:
                self._problem(number, "a rating before the first block header, left out.")
            return
        if self.closed:
            release.dropped[DROPPED_BLOCK] += 1
            what = "a rating after the block's attributes or a blank line, left out: a header is lost before it."
            self._problem(number, what)
            return
        match = _CATEGORICAL.fullmatch(line)
        # The comment contains anything. It begins at a tab and a parenthesis or, in files without tabs, at the first
        # parenthesis, which no label contains.
        rest = match["rest"] if match else ""
        cell, parenthesis, _ = rest.partition("\t(" if "\t(" in rest else "(")
        if match is None or (not parenthesis and not cell.rstrip().endswith(";")):
            release.dropped[DROPPED_CUT] += 1
            self._problem(number, f"rating cut short, left out: {line[:60]!r}. Unpack the file again.")
            return
        rater = match["rater"]
        if not _RATER.fullmatch(rater):
            release.dropped[DROPPED_RATER] += 1
            known = "C-E1 to C-E6, C-F1 to C-F5, C-M1 to C-M5"
            self._note(number, f"unknown rater {rater!r} ({known}), left out.")
            return
        if rater[2] != "E" and rater[3] != self.path.stem[4]:
            what = f"{rater} is an actor of session {rater[3]}, but rates one of session {self.path.stem[4]}."
            self._note(number, what)
        answer = LABEL_SET.parse(cell, by_code)
        release.dropped[DROPPED_OTHER] += answer.others
        release.dropped[DROPPED_LABEL] += len(answer.unknown)
        for label in answer.unknown:
            self._note(number, f"unknown label {label[:60]!r}, left out.")
        for label in misspelt(cell):
            self._note(number, f"label {label[:60]!r} is read as {by_code(label)!r}.")
        key = (self.utterance, rater)
        if key in release.ticks:
            what = f"a second line of {rater} for {self.utterance}: their labels are united (not serious)."
            self._note(number, what)
        release.ticks.setdefault(key, set()).update(answer.ticks)

    def _end_block(self) -> None:
        if self.utterance is not None and not self.lines["C"]:
            what = f"{self.utterance} has no categorical (C-) line: the file was cut short. Unpack it again."
            self._problem(self.header_line, what)

    def _problem(self, line: int, what: str) -> None:
        self.release.problem(f"{self.path}:{line}", what)

    def _note(self, line: int, what: str) -> None:
        self.release.note(f"{self.path}:{line}", what)


def clip_named(path: Path) -> NamedClip | None:
    """What an utterance's name says."""
    parts = _UTTERANCE.fullmatch(path.stem)
    return None if parts is None else NamedClip(path.stem, parts["session"] + parts["gender"], parts["session"])


READER = Reader(
    read,
    card=CARD,
    clip_named=clip_named,
    terms="IEMOCAP is given out under a licence agreement of USC's SAIL laboratory; ask there whether models "
    "trained on it may be shared",
    redistributable=False,
)
