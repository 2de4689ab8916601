"""The ``ratings.csv`` that a listening session writes as it goes, and continues later."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from s3prl_metaperser.corpora import csv_rows, ratings_csv
from s3prl_metaperser.corpora.answer_facts import FACTS
from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.corpora.people import People, Who, is_blank
from s3prl_metaperser.corpora.rated_rows import NothingRated, Reading
from s3prl_metaperser.corpora.rating_columns import columns_of, is_known, says_who
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.listener.labels import answer_text, for_listeners
from s3prl_metaperser.listener.ratings import NAMELESS
from s3prl_metaperser.storage.atomic import write_text
from s3prl_metaperser.storage.csv_text import as_meant, csv_text, inert
from s3prl_metaperser.storage.hashing import file_hash, text_hash
from s3prl_metaperser.storage.locks import beside, held

_HEADER = ["file", "rater", "label"]
#: Seconds that one session waits for another one's save, which takes milliseconds.
_PATIENCE = 30.0


class RatingsFile:
    """One listener's rows of a ratings.csv; all others in it stay as they are, also those that come meanwhile.

    Args:
        path: the file; it is created at the first label.
        root: the folder that files are relative to.
        label_set: the model's; labels are looked up in it.
        rater: whose labels; by default those of the only rater in the file, or ``listener``.
        rater_column, alike_raters, all_one: as :func:`.read_ratings`; ``all_one`` where no column says who rated.
        reading: ``duplicates``, ``outside`` and ``unknown_labels`` of :func:`.read_ratings`.

    Attributes:
        answers: file relative to ``root``, with forward slashes -> the answer, in the order of the rows, as read when
            the file was opened.

    Raises:
        UserError: the file cannot be read, is not of the long form, has several raters and none is named, or leaves
            open whose labels they are.
    """

    def __init__(
        self,
        path: Path,
        root: Path,
        label_set: LabelSet,
        rater: str | None = None,
        *,
        rater_column: str | None = None,
        alike_raters: Literal["error", "one", "distinct"] = "error",
        all_one: bool = False,
        **reading: Any,
    ):
        if rater is not None and is_blank(rater.strip()):
            raise UserError(f"--rater is {shown(rater)}. Name who is listening.")
        named = None if rater is None else (rater.strip(),)
        self.path, self.root, self._scale = path, root, label_set.kind == "ordinal"
        self._who = Who(rater_column, named, alike_raters, listener=NAMELESS, all_one=all_one)
        self._reading = reading
        self._header = list(_HEADER)
        self._rows: list[tuple[int, list[str]]] = []  # each with its line
        self._hash: str | None = None
        self._people = People(path, self._who)
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file. Choose another with --ratings.")
        self._columns = columns_of(path, _HEADER, replace(self._who, rater_column=None, all_one=False))
        self.rater = ""  # until it is known
        self._refresh()
        self.rater = self._chosen(rater)
        if self._columns.rater is not None:
            self._who = replace(self._who, raters=(self.rater,))  # others, whoever they are, are not read
        self.answers: dict[str, Answer] = self._read(label_set) if self._rows else {}

    def save(self, file: str, answer: Answer | None, facts: Mapping[str, str] | None = None) -> None:
        """Save a label: a new row, or in this listener's row for the same file. Whole or not at all.

        Args:
            answer: None to leave the label as it is.
            facts: of :data:`FACTS`, to be put in place of those that are there.

        Raises:
            UserError: somebody else changed the file into one that cannot be continued, or does not finish a save.
            OSError: it cannot be written.
        """
        with held(beside(self.path), f"{self.path}", wait=_PATIENCE):
            self._save(file, answer, facts or {})

    def _save(self, file: str, answer: Answer | None, facts: Mapping[str, str]) -> None:
        self._refresh()
        self._header = [*self._header, *(name for name, said in facts.items() if said and name not in self._header)]
        columns, place = self._columns, len(self._rows)
        row = [""] * len(self._header)
        row[columns.file] = inert(file)
        if columns.rater is not None:
            row[columns.rater] = inert(self.rater)
        for number, (line, old) in enumerate(self._rows):
            if self._is_mine(line, old, file):
                place, row = number, self._padded(old)
                break
        assert columns.label is not None
        if answer is not None:
            row[columns.label] = inert(answer_text(answer))
        for name in facts.keys() & set(self._header):
            row[self._header.index(name)] = facts[name]
        others = [each for each in self._rows[place + 1 :] if not self._is_mine(*each, file)]  # repeated ones go
        rows = [(line, self._padded(each)) for line, each in (*self._rows[:place], (0, row), *others)]
        text = csv_text([self._header, *(row for _, row in rows)], as_written=True)  # what others wrote stays as it is
        write_text(self.path.resolve(), text, private=True)
        self._rows, self._hash = rows, text_hash(text)  # the file itself may have changed by now
        if answer is not None:
            self.answers[file] = answer

    def _padded(self, row: Sequence[str]) -> list[str]:
        return [*row, *[""] * (len(self._header) - len(row))]

    def facts(self) -> dict[str, dict[str, str]]:
        """File, in Unicode's form NFC -> what this listener's row says of it besides the label."""
        places = {name: self._header.index(name) for name in FACTS if name in self._header}
        mine = [row for line, row in self._rows if self._person(row, line) == self.rater]
        found: dict[str, dict[str, str]] = {}
        for row in mine:
            name = unicodedata.normalize("NFC", _plain(row[self._columns.file]))
            found.setdefault(name, {each: row[place] for each, place in places.items()})
        return found

    def mine(self) -> str:
        """This listener's rows alone, as CSV."""
        self._refresh()
        rows = [self._padded(row) for line, row in self._rows if self._person(row, line) == self.rater]
        return csv_text([self._header, *rows], as_written=True)

    def _is_mine(self, line: int, row: Sequence[str], file: str) -> bool:
        """Whether a row is this listener's for a file, whose accents may be stored in another form."""
        names = (unicodedata.normalize("NFC", name) for name in (_plain(row[self._columns.file]), file))
        return self._person(row, line) == self.rater and len(set(names)) == 1

    def _refresh(self) -> None:
        """Read the rows again if another session or an editor has changed them."""
        path = self.path
        if path.is_file() and (found := file_hash(path)) != self._hash:
            table = csv_rows.rows(path, is_known, as_written=True)
            header = csv_rows.read_header(path, table, ())
            if self._who.all_one and (said := [name for name in header if says_who(name)]):
                what = f"{path} says who rated, in column {said[0]!r}: --all-one would overwrite the labels of others"
                raise UserError(f"{what}. Leave it out, or choose another file.")
            columns = columns_of(path, header, self._who, scale=self._scale)
            if columns.label is None:
                raise UserError(
                    f"{path} has a column for each rater. A session needs file,rater,label; choose another file."
                )
            if self.rater and (columns.rater is None) != (self._columns.rater is None):
                raise UserError(f"{path} has other columns than before. Put them back, or start the session again.")
            self._header, self._columns = header, columns
            self._rows, self._hash, self._people = list(table), found, People(path, self._who)

    def _person(self, row: Sequence[str], line: int) -> str | None:
        """Whose row this is; None for somebody else's."""
        if self._columns.rater is None:
            return NAMELESS
        return self._people.person(as_meant(row[self._columns.rater]), line)

    def _chosen(self, rater: str | None) -> str:
        if self._columns.rater is None:
            if rater is not None:
                raise UserError(f"{self.path} has no column for the rater. Leave out --rater, or choose another file.")
            return NAMELESS
        people = (self._person(row, line) for line, row in self._rows)
        known = sorted({person for person in people if person is not None})
        self._people.check_spellings()
        if rater is None and len(known) > 1:
            raise UserError(f"{self.path} has {len(known)} raters: {', '.join(known)}. Choose one with --rater.")
        return rater.strip() if rater is not None else (known[0] if known else NAMELESS)

    def _read(self, label_set: LabelSet) -> dict[str, Answer]:
        """This listener's answers, through the corpus reader, whose errors name file and line."""
        if self.rater not in (self._person(row, line) for line, row in self._rows):
            return {}
        try:
            reading = Reading(audio=self.root, who=self._who, **self._reading)
            corpus = ratings_csv.read_table(self.path, reading, for_listeners(label_set))
        except NothingRated:  # rows that were prepared, to be filled in here
            return {}
        paths = {utterance.id: utterance.path for utterance in corpus.utterances}
        inside = {name: path.relative_to(self.root) for name, path in paths.items() if path.is_relative_to(self.root)}
        named = {name: inside[name].as_posix() if name in inside else str(path) for name, path in paths.items()}
        found = {named[rating.utterance]: rating.answer for rating in corpus.ratings}
        place = {name: number for number, name in enumerate(self.facts())}
        last = len(place)
        return dict(sorted(found.items(), key=lambda pair: place.get(unicodedata.normalize("NFC", pair[0]), last)))


def _plain(file: str) -> str:
    """A file as the corpus reader takes it; ``./a.wav`` is ``a.wav``."""
    return posixpath.normpath(as_meant(file).strip().replace("\\", "/"))


def can_be_named(file: str) -> bool:
    """Whether a file's relative path comes back from a CSV file as it went in."""
    try:
        file.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return file == file.strip() and not any(letter in file for letter in "\\\0\r\n")
