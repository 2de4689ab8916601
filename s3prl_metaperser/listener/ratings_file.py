"""The ``ratings.csv`` that a listening session writes as it goes, and takes up again."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3prl_metaperser.corpora import csv_rows, ratings_csv
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.ratings import NAMELESS
from s3prl_metaperser.storage.atomic import write_text
from s3prl_metaperser.storage.hashing import file_hash, text_hash

_HEADER = ["file", "rater", "label"]
_NAMES = {"file": ("file", "task", "name"), "rater": ("rater", "worker", "performer"), "label": ("label",)}


class RatingsFile:
    """One listener's rows of a ratings.csv; all others in it stay as they are, those that come meanwhile, too.

    Args:
        path: the file; made at the first label.
        root: the folder that files are relative to.
        rater: whose labels; by default those of the only rater in the file, or ``listener``.

    Attributes:
        ticks: file relative to ``root``, with forward slashes -> the classes ticked, as read when it was opened.

    Raises:
        UserError: the file cannot be read, is not of the long form, or has several raters and none is named.
    """

    def __init__(self, path: Path, root: Path, rater: str | None = None):
        self.path, self.root = path, root
        self._header, self._rows, self.ticks = list(_HEADER), [], {}
        self._hash: str | None = None
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file. Name another with --ratings.")
        self._take_up()
        self.rater = self._chosen(rater)
        if self._rows:
            self.ticks = self._read()

    def save(self, file: str, ticks: Sequence[str]) -> None:
        """Put a label in: a new row, or in place of this listener's row for the same file. Whole or not at all.

        Raises:
            UserError: somebody else changed the file into one that cannot be gone on with.
            OSError: it cannot be written.
        """
        self._take_up()
        place = next((n for n, row in enumerate(self._rows) if self._same(row, file)), len(self._rows))
        row = list(self._rows[place]) if place < len(self._rows) else [""] * len(self._header)
        row[self._file], row[self._label] = file, ";".join(ticks)
        if self._who is not None:
            row[self._who] = self.rater
        rows, text = [*self._rows[:place], row, *self._rows[place + 1 :]], io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self._header, *rows])
        write_text(self.path, text.getvalue())
        self._rows, self._hash = rows, text_hash(text.getvalue())  # not of what is there by now
        self.ticks[file] = tuple(ticks)

    def _take_up(self) -> None:
        """Read the rows if they are not those that were read or written last: another session, or an editor."""
        path = self.path
        if path.is_file() and (found := file_hash(path)) != self._hash:
            table = csv_rows.rows(path)
            header = csv_rows.read_header(path, table, {name for names in _NAMES.values() for name in names})
            rows = [row for _, row in table]
            csv_rows.column(path, header, _NAMES["file"])
            if csv_rows.find_column(header, _NAMES["label"]) is None:
                raise UserError(
                    f"{path} has a column a rater. A session goes on with file,rater,label; name another file."
                )
            self._header, self._rows, self._hash = header, rows, found
        self._file = csv_rows.column(path, self._header, _NAMES["file"])
        self._label = csv_rows.find_column(self._header, _NAMES["label"])
        self._who = csv_rows.find_column(self._header, _NAMES["rater"])

    def _chosen(self, rater: str | None) -> str:
        if self._who is None:
            if rater is not None:
                raise UserError(f"{self.path} has no column for the rater. Leave out --rater, or name another file.")
            return NAMELESS
        known = sorted({row[self._who].strip() for row in self._rows})
        if rater is None and len(known) > 1:
            raise UserError(f"{self.path} has {len(known)} raters: {', '.join(known)}. Say who listens with --rater.")
        if rater is not None and (not rater.strip() or "\0" in rater):
            raise UserError("--rater is blank. Name who listens.")
        return rater.strip() if rater is not None else (known[0] if known else NAMELESS)

    def _same(self, row: Sequence[str], file: str) -> bool:
        mine = self._who is None or row[self._who].strip() == self.rater
        return mine and row[self._file].strip().replace("\\", "/") == file

    def _read(self) -> dict[str, tuple[str, ...]]:
        """This listener's ticks, through the corpus reader, whose errors name file and line."""
        corpus = ratings_csv.read_table(self.path, audio=self.root, only_rater=NAMELESS)
        mine: Mapping[str, tuple[str, ...]] = corpus.ratings_of(self.rater)
        paths = {name: corpus.utterance(name).path.relative_to(self.root).as_posix() for name in mine}
        return {paths[name]: ticks for name, ticks in mine.items()}


def can_be_named(file: str) -> bool:
    """Whether a file's relative path comes back from a CSV file as it went in."""
    try:
        file.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return file == file.strip() and not any(letter in file for letter in "\\\0\r\n")
