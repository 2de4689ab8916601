"""Files that a table of ratings names: where they may be, and what ``files.csv`` beside it says about them."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from s3prl_metaperser.corpora import csv_rows
from s3prl_metaperser.corpora.base import UNKNOWN_SPEAKER, Ledger, Utterance
from s3prl_metaperser.corpora.folders import audio_in, on_disk
from s3prl_metaperser.corpora.people import spelling_key
from s3prl_metaperser.errors import UserError, shown

#: The column with the file's name, by any of these names.
FILE = ("file", "task", "name")
DROPPED_FILE = "files: in files.csv without a rating"

_COLUMNS = {*FILE, "speaker", "session"}
_WINDOWS_ROOT = re.compile(r"[A-Za-z]:/")
_OR_OUTSIDE = ", or allow it: --outside (training: datarc.outside)."


class Place:
    """The folder in which files are looked for.

    Args:
        outside: whether files may be elsewhere.
    """

    def __init__(self, folder: Path, outside: bool):
        self.folder, self.outside = folder, outside
        self._real = os.path.realpath(folder)
        self._parents: dict[str, str] = {}  # folder as written -> without symbolic links
        self._paths: dict[str, Path] = {}  # file as checked -> where the disk has it
        self._known: dict[Path, str] = {}  # and the reverse

    def checked(self, file: str, path: Path, line: int | str) -> str:
        """The file's path relative to the folder, with forward slashes and without ``.`` and ``..``.

        A name whose accents are stored in another form than on disk is the name of that file, and keeps the form in
        which it was given first.
        """
        plain = self._within(file, path, line)
        found = on_disk(self.folder / plain)
        if found not in self._known:
            self._known[found], self._paths[plain] = plain, found
        return self._known[found]

    def path(self, file: str) -> Path:
        """Where the disk has a file, by the name that :meth:`checked` gave it."""
        return self._paths.get(file, self.folder / file)

    def respelt(self) -> list[str]:
        """The files that the disk spells in another Unicode form than the table."""
        return [file for file, path in self._paths.items() if path != self.folder / file]

    def unrated(self, rated: Collection[str]) -> int:
        """How many audio files stand beside rated ones, in the same folders, and are not among these."""
        known = {self.path(file) for file in rated}
        folders = {path.parent for path in known if path.parent.is_dir()}
        return sum(1 for folder in sorted(folders) for path in audio_in(folder) if path not in known)

    def _within(self, file: str, path: Path, line: int | str) -> str:
        plain = file.strip().replace("\\", "/")
        if not plain or "\0" in plain:
            fault = "contains a NUL character" if plain else "is blank"
            raise UserError(f"{path}:{line}: the file {fault}. Give the path of an audio file.")
        if _WINDOWS_ROOT.match(plain) or (plain.startswith("/") and not self.outside):
            what = f"{shown(file)} is absolute. Give the path relative to {self.folder}{self._such_as(plain)}"
            raise UserError(f"{path}:{line}: {what}{_OR_OUTSIDE}")
        plain = posixpath.normpath(plain)
        if self.outside and plain not in (".", ".."):
            return plain
        if plain == "." or plain.split("/")[0] == "..":
            what = f"{shown(file)} is outside the folder {self.folder}. Move the audio into it"
            raise UserError(f"{path}:{line}: {what}{_OR_OUTSIDE}")
        if (real := self._elsewhere(on_disk(self.folder / plain))) is not None:
            what = f"{shown(file)} is a link out of the folder {self.folder}, to {shown(real)}. Copy the audio into it"
            raise UserError(f"{path}:{line}: {what}{_OR_OUTSIDE}")
        return plain

    def _such_as(self, file: str) -> str:
        """The file of that name that is here, perhaps without what an upload put before it, for messages."""
        name = posixpath.basename(file)
        here = (each for each in (name, name.partition("-")[2]) if each and (self.folder / each).is_file())
        return f", such as {found!r}" if (found := next(here, None)) else ""

    def _elsewhere(self, path: Path) -> str | None:
        """Where symbolic links lead to, where that is outside."""
        parent, name = os.path.split(path)
        if parent not in self._parents:
            self._parents[parent] = os.path.realpath(parent)
        real = os.path.join(self._parents[parent], name)
        if os.path.islink(real):
            real = os.path.realpath(real)
        return None if real.startswith(os.path.join(self._real, "")) else real


def note_alike(path: Path, names: set[str], ledger: Ledger, kind: str) -> None:
    """Names that a person would take for one."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        if (other := seen.setdefault(spelling_key(name), name)) != name:
            both = f"{kind}s {shown(other)} and {shown(name)}"
            ledger.note(path, f"{both} count as two {kind}s. If they are one, spell them alike.")


def rated_utterances(
    place: Place, files: list[str], ledger: Ledger, described: Mapping[str, tuple[str, str]] | None = None
) -> list[Utterance]:
    """One utterance per file, in the order of ``files``.

    Args:
        files: as :meth:`Place.checked` gives them.
        described: file -> (speaker, session); by default what ``files.csv`` says.
    """
    if described is None:
        described = _described(place, files, ledger)
    if respelt := place.respelt():
        what = f"{len(respelt)} names differ from those on disk in their Unicode form (NFC, NFD), e.g. {respelt[0]!r}."
        ledger.note(place.folder, f"{what} They are taken for the same.")
    stems = [str(PurePosixPath(file).with_suffix("")) for file in files]
    # A stem may also be the whole name of another file: a.wav beside a.wav.flac.
    taken = Counter(stems) + Counter(file for file, stem in zip(files, stems, strict=True) if file != stem)
    utterances = []
    for file, stem in zip(files, stems, strict=True):
        speaker, session = described.get(file, (UNKNOWN_SPEAKER, ""))
        seconds = ledger.seconds(place.path(file))
        name = stem if taken[stem] == 1 else file
        utterances.append(Utterance(name, place.path(file), speaker, session, seconds))
    return utterances


def _described(place: Place, files: list[str], ledger: Ledger) -> dict[str, tuple[str, str]]:
    """File -> (speaker, session) by ``files.csv``, if there is one, and what is odd about it."""
    table = place.folder / "files.csv"
    if not os.path.lexists(table):
        return {}
    if not table.is_file():
        raise UserError(f"{table}: this is not a file. Replace it with the table, or remove it.")
    described = _read_files(table, place)
    note_alike(table, {speaker for speaker, _ in described.values()}, ledger, "speaker")
    note_alike(table, {session for _, session in described.values()}, ledger, "session")
    unnamed = [file for file in files if file in described and not described[file][1]]
    if unnamed and any(session for _, session in described.values()):
        ledger.note(table, f"{len(unnamed)} rated files have no session, e.g. {unnamed[0]!r}, and others do.")
    ledger.dropped[DROPPED_FILE] += len(described.keys() - set(files))
    if missing := [file for file in files if file not in described]:
        few = f"{len(missing)} rated files are missing from it, e.g. {missing[0]!r}"
        ledger.note(table, f"{few}; their speaker is unknown.")
    return described


def _read_files(path: Path, place: Place) -> dict[str, tuple[str, str]]:
    """File -> (speaker, session)."""
    rows = csv_rows.rows(path, lambda name: name.strip().lower() in _COLUMNS)
    header = csv_rows.read_header(path, rows, _COLUMNS)
    file, speaker = (csv_rows.column(path, header, names) for names in (FILE, ("speaker",)))
    session = csv_rows.find_column(header, ("session",))
    described: dict[str, tuple[str, str]] = {}
    lines: dict[str, int] = {}
    for line, row in rows:
        name = place.checked(row[file], path, line)
        if name in described:
            raise UserError(f"{path}:{line}: a second row for {name!r}; the first is line {lines[name]}. Remove one.")
        where = row[session].strip() if session is not None else ""
        if "\0" in row[speaker] or "\0" in where:
            raise UserError(f"{path}:{line}: the speaker or the session contains a NUL character. Retype it.")
        described[name], lines[name] = (row[speaker].strip() or UNKNOWN_SPEAKER, where), line
    return described
