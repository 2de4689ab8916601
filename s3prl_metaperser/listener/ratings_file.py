"""The ``ratings.csv`` that a listening session writes as it goes, and continues later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s3prl_metaperser.corpora import csv_rows, ratings_csv
from s3prl_metaperser.corpora.label_set import Answer, LabelSet
from s3prl_metaperser.corpora.people import Who
from s3prl_metaperser.corpora.rating_columns import is_known
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.labels import answer_text, for_listeners
from s3prl_metaperser.listener.ratings import NAMELESS
from s3prl_metaperser.storage.atomic import write_text
from s3prl_metaperser.storage.csv_text import as_meant, csv_text, inert
from s3prl_metaperser.storage.hashing import file_hash, text_hash
from s3prl_metaperser.storage.locks import beside, held

_HEADER = ["file", "rater", "label"]
#: Seconds that one session waits for another one's save, which takes milliseconds.
_PATIENCE = 30.0
_FILE, _RATER = ("file", "task", "name"), ("rater", "worker", "performer")


class RatingsFile:
    """One listener's rows of a ratings.csv; all others in it stay as they are, also those that come meanwhile.

    Args:
        path: the file; it is created at the first label.
        root: the folder that files are relative to.
        label_set: the model's; labels are looked up in it.
        rater: whose labels; by default those of the only rater in the file, or ``listener``.

    Attributes:
        answers: file relative to ``root``, with forward slashes -> the answer, as read when the file was opened.

    Raises:
        UserError: the file cannot be read, is not of the long form, or has several raters and none is named.
    """

    def __init__(self, path: Path, root: Path, label_set: LabelSet, rater: str | None = None):
        self.path, self.root = path, root
        self._header, self._rows = list(_HEADER), list[list[str]]()
        self._hash: str | None = None
        self._names = ("value", "label") if label_set.kind == "ordinal" else ("label",)  # of the answer's column
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file. Choose another with --ratings.")
        self._refresh()
        self.rater = self._chosen(rater)
        self.answers: dict[str, Answer] = self._read(label_set) if self._rows else {}

    def save(self, file: str, answer: Answer) -> None:
        """Save a label: a new row, or in place of this listener's row for the same file. Whole or not at all.

        Raises:
            UserError: somebody else changed the file into one that cannot be continued, or does not finish a save.
            OSError: it cannot be written.
        """
        with held(beside(self.path), f"{self.path}", wait=_PATIENCE):
            self._save(file, answer)

    def _save(self, file: str, answer: Answer) -> None:
        self._refresh()
        place = next((n for n, row in enumerate(self._rows) if self._same(row, file)), len(self._rows))
        row = list(self._rows[place]) if place < len(self._rows) else [""] * len(self._header)
        row[self._file], row[self._label] = inert(file), inert(answer_text(answer))
        if self._who is not None:
            row[self._who] = inert(self.rater)
        rows = [*self._rows[:place], row, *self._rows[place + 1 :]]
        text = csv_text([self._header, *rows], as_written=True)  # what others wrote stays as it is
        write_text(self.path.resolve(), text, private=True)
        self._rows, self._hash = rows, text_hash(text)  # the file itself may have changed by now
        self.answers[file] = answer

    def _refresh(self) -> None:
        """Read the rows again if another session or an editor has changed them."""
        path = self.path
        if path.is_file() and (found := file_hash(path)) != self._hash:
            known = {*_FILE, *_RATER, *self._names}
            table = csv_rows.rows(path, is_known, as_written=True)
            header = csv_rows.read_header(path, table, known)
            rows = [row for _, row in table]
            csv_rows.column(path, header, _FILE)
            if csv_rows.find_column(header, self._names) is None:
                raise UserError(
                    f"{path} has a column for each rater. A session needs file,rater,label; choose another file."
                )
            self._header, self._rows, self._hash = header, rows, found
        self._file = csv_rows.column(path, self._header, _FILE)
        self._label = csv_rows.column(path, self._header, self._names)
        self._who = csv_rows.find_column(self._header, _RATER)

    def _chosen(self, rater: str | None) -> str:
        if self._who is None:
            if rater is not None:
                raise UserError(f"{self.path} has no column for the rater. Leave out --rater, or choose another file.")
            return NAMELESS
        known = sorted({as_meant(row[self._who]).strip() for row in self._rows})
        if rater is None and len(known) > 1:
            raise UserError(f"{self.path} has {len(known)} raters: {', '.join(known)}. Choose one with --rater.")
        if rater is not None and (not rater.strip() or "\0" in rater):
            raise UserError("--rater is blank. Name who is listening.")
        return rater.strip() if rater is not None else (known[0] if known else NAMELESS)

    def _same(self, row: Sequence[str], file: str) -> bool:
        mine = self._who is None or as_meant(row[self._who]).strip() == self.rater
        return mine and as_meant(row[self._file]).strip().replace("\\", "/") == file

    def _read(self, label_set: LabelSet) -> dict[str, Answer]:
        """This listener's answers, through the corpus reader, whose errors name file and line."""
        corpus = ratings_csv.read_table(
            self.path, for_listeners(label_set), audio=self.root, who=Who(listener=NAMELESS)
        )
        paths = {utterance.id: utterance.path.relative_to(self.root).as_posix() for utterance in corpus.utterances}
        return {paths[r.utterance]: r.answer for r in corpus.ratings if r.rater == self.rater}


def can_be_named(file: str) -> bool:
    """Whether a file's relative path comes back from a CSV file as it went in."""
    try:
        file.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return file == file.strip() and not any(letter in file for letter in "\\\0\r\n")
