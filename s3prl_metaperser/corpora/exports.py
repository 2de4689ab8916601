"""What annotation tools export, in one form: who answered what to which recording.

A tool's own file finds the answers (:class:`Answer`); which of several questions holds the label, who the annotators
are, and which recording is meant by a name that is seldom the file's, is the same for all of them and stands here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from s3prl_metaperser.corpora import iemocap
from s3prl_metaperser.corpora.answer_facts import SKIPPED, STATUS
from s3prl_metaperser.corpora.base import Corpus, Ledger
from s3prl_metaperser.corpora.exported_audio import ExportedAudio
from s3prl_metaperser.corpora.label_set import LabelError, LabelSet
from s3prl_metaperser.corpora.label_sets import LABELS, label_set_of
from s3prl_metaperser.corpora.people import DROPPED_RATER, People, Who
from s3prl_metaperser.corpora.rated_rows import Reading
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError, shown, unknown_name
from s3prl_metaperser.storage.json_files import parse_json
from s3prl_metaperser.storage.paths import user_path

DROPPED_SKIPPED = "ratings: skipped or without an answer"
DROPPED_MACHINE = "ratings: predictions of a model, and drafts"
DROPPED_OTHERS = "raters: answered other questions alone"


class Answer(NamedTuple):
    """What an annotator answered to one question about a recording.

    Attributes:
        where: it stands: a line, or ``task 3, annotation 7``.
        audio: the file, as the export names it.
        who: the annotator, as written.
        question: the name of the control tag, scheme or column; empty where nothing was answered at all.
        cell: the answer; blank where there is none.
        ticks: in place of ``cell``, each tick in all the words that the export has for it (its key, its text); the
            first one that the label set knows is taken.
        end: seconds at which the part ends that was annotated, if it was one.
        facts: how it was given, see :mod:`.answer_facts`.
    """

    where: int | str
    audio: str
    who: str
    question: str = ""
    cell: str = ""
    ticks: tuple[tuple[str, ...], ...] = ()
    end: float | None = None
    facts: Mapping[str, str] = MappingProxyType({})

    def text(self, label_set: LabelSet) -> str:
        """The answer as a label set reads it."""
        if not self.ticks:
            return self.cell
        words = [next(filter(label_set.knows, tick), tick[0]) for tick in self.ticks]
        return words[0] if len(words) == 1 else json.dumps(words)


class Given(NamedTuple):
    """One annotator's answer to one recording, in no tool's form.

    Attributes:
        file: relative to the folder of the audio.
        who: the annotator.
        parts: the answer as a label set writes it, taken apart: ticks, shares (``happy:0.7``), one class, or one
            number; empty where the recording was skipped.
        facts: how it was given, see :mod:`.answer_facts`.
    """

    file: str
    who: str
    parts: tuple[str, ...]
    facts: Mapping[str, str]


class Labels(NamedTuple):
    """What annotators answered to one question, in no tool's form; each :class:`.Reader` of a tool can write it.

    Attributes:
        label_set: what may be answered.
        question: a name for it.
        given: each answer once.
    """

    label_set: LabelSet
    question: str
    given: Sequence[Given]

    def people(self) -> list[str]:
        """The annotators, in the order in which they come first."""
        return list(dict.fromkeys(each.who for each in self.given))

    def files(self) -> list[str]:
        """The recordings, in the order in which they come first."""
        return list(dict.fromkeys(each.file for each in self.given))


@dataclass
class Export(Ledger):
    """What one export holds.

    Attributes:
        path: the export, for errors.
        folder: where its audio is looked for.
        answers: all of them, of any question.
        label_sets: question -> what may be answered, where the export says so.
        described: audio, as the export names it -> (speaker, session), where it says so.
        traits: annotator -> what is known of the person.
        skipped: recordings that were skipped, where the tool says so otherwise than by a blank answer.
        nameless: what stands for annotators of whom it is not known who they are -> why.
    """

    path: Path
    folder: Path
    answers: list[Answer] = field(default_factory=list)
    label_sets: dict[str, LabelSet] = field(default_factory=dict)
    described: dict[str, tuple[str, str]] = field(default_factory=dict)
    traits: dict[str, dict[str, str]] = field(default_factory=dict)
    skipped: list[Answer] = field(default_factory=list)
    nameless: dict[str, str] = field(default_factory=dict)

    def corpus(
        self,
        name: str,
        reading: Reading,
        label_set: LabelSet | None = None,
        *,
        labels: Mapping[str, str] | str | None = None,
        answer: str | None = None,
    ) -> Corpus:
        """The corpus of the answers to one question.

        Args:
            label_set: what may be answered; by default as ``labels`` says, ``labels.yaml`` beside the export, or the
                export itself, else IEMOCAP's.
            labels: as in :func:`.ratings_csv.read`.
            answer: the question, where there are several.

        Raises:
            UserError: several questions and none is named, or as :class:`.RatedRows`.
        """
        who = reading.who
        if who.rater_column is not None:
            raise UserError(f"{self.path} names its annotators itself: leave out --rater-column.")
        chosen = self._chosen(answer)
        label_set = label_set or label_set_of(self.folder, labels) or self.label_sets.get(chosen)
        rows = reading.rows(self.path, self.folder, label_set)
        rows.dropped.update(self.dropped)
        rows.problems += self.problems
        self._check_names(who)
        people, files = People(self.path, who), ExportedAudio(rows.place.folder, self.path)
        for each in self.answers:
            text = each.text(rows.label_set) if each.question == chosen else ""
            if each.question not in (chosen, ""):
                continue
            if not text:
                rows.dropped[DROPPED_SKIPPED] += 1
                continue
            person = who.listener if who.all_one else people.person(each.who, each.where)
            if person is not None:
                rows.add(each.where, files.named(each.audio, each.where), person, text, each.end)
        people.check()
        rows.dropped[DROPPED_RATER] += people.left_out
        if others := sorted({each.question for each in self.answers} - {chosen, ""}):
            rows.note(self.path, f"answers not used: {', '.join(others)}.")
            asked = {each.who for each in self.answers if each.question in (chosen, "")}
            rows.dropped[DROPPED_OTHERS] += 0 if who.all_one else len({each.who for each in self.answers} - asked)
        described = {files.named(file, "files"): said for file, said in self.described.items()} or None
        return rows.corpus(name, described=described, traits=self.traits)

    def labels(
        self, labels: Mapping[str, str] | str | None = None, answer: str | None = None, audio: Path | None = None
    ) -> Labels:
        """The answers to one question, and what was skipped, in no tool's form; arguments as in :meth:`corpus`.

        Raises:
            UserError: several questions and none is named, or an answer that the label set does not take.
        """
        folder, chosen = audio or self.folder, self._chosen(answer)
        label_set = label_set_of(self.folder, labels) or self.label_sets.get(chosen) or iemocap.LABEL_SET
        files, given = ExportedAudio(folder, self.path), dict[tuple[str, str], Given]()
        for each in (*self.answers, *self.skipped):
            if each.question not in (chosen, ""):
                continue
            try:
                parts = label_set.parts(each.text(label_set))
            except LabelError as error:
                raise UserError(f"{self.path}:{each.where}: {error}") from None
            facts = dict(each.facts)
            if each.who and (parts or facts.get(STATUS) == SKIPPED):
                file = files.named(each.audio, each.where)
                given.setdefault((file, each.who), Given(file, each.who, parts, facts))
        return Labels(label_set, chosen, list(given.values()))

    def _check_names(self, who: Who) -> None:
        """That people answered: a listener's own answers are one person's, whatever stands for the name."""
        everyone = {each.who for each in self.answers}
        if who.raters is not None or who.all_one or (who.listener is not None and len(everyone) == 1):
            return
        if nobody := sorted(self.nameless.keys() & everyone):
            what = f"the annotator {shown(nobody[0])} {self.nameless[nobody[0]]}"
            raise UserError(f"{self.path}: {what}. Name whom to read: {who.to_name()}.")

    def _chosen(self, answer: str | None) -> str:
        """The question whose answers are the labels."""
        known = list(dict.fromkeys(each.question for each in self.answers if each.question))
        if answer is not None:
            if answer not in known:
                raise unknown_name("answer", answer, known or ["none"])
            return answer
        if not known:
            raise UserError(f"{self.path}: no annotation has an answer. Export what has been annotated.")
        if len(known) > 1:
            how = f"--option answer={known[0]} (training: datarc.answer)"
            raise UserError(f"{self.path}: which answer is the label, {', '.join(known)}? Say it: {how}.")
        return known[0]


def tool_reader(
    name: str,
    find: Callable[..., Export],
    *,
    recognises: Callable[[Path], bool],
    write: Callable[[Path, Labels], None],
    writes: str = "",
) -> Reader:
    """The reader of what an annotation tool exports, with the options that every tool's has, and those of ``find``.

    Args:
        name: its registered name.
        find, recognises, write, writes: as :class:`.Reader` has them.
    """

    def read(
        root: Path,
        *,
        answer: str | None = None,
        duplicates: Literal["error", "union", "first"] = "error",
        outside: bool = False,
        labels: Mapping[str, str] | str | None = None,
        unknown_labels: Literal["error", "drop"] | None = None,
        raters: tuple[str, ...] | None = None,
        alike_raters: Literal["error", "one", "distinct"] = "error",
        **finding: Any,
    ) -> Corpus:
        who = Who(None, raters, alike_raters)
        reading = Reading(who=who, duplicates=duplicates, outside=outside, unknown_labels=unknown_labels)
        return find(user_path(root), **finding).corpus(name, reading, labels=labels, answer=answer)

    # Its labels are its own; there is nothing to ask about models trained on them.
    return Reader(read, recognises=recognises, find=find, write=write, writes=writes)


def export_in(root: Path, suffixes: Sequence[str]) -> Path:
    """The export itself, or the only one in a folder.

    Args:
        suffixes: of exports, in lower case, e.g. ``.json``.

    Raises:
        UserError: there is none, or there are several.
    """
    if not root.is_dir():
        if not root.is_file():
            raise UserError(f"{root} does not exist. Give the export, or a folder with one export and the audio.")
        return root
    found = [path for path in sorted(root.iterdir()) if path.suffix.lower() in suffixes and path.is_file()]
    found = [path for path in found if path.name not in ("files.csv", LABELS) and not path.name.startswith(".")]
    if len(found) != 1:
        there = ", ".join(path.name for path in found[:5]) or "none"
        kinds = " or ".join(suffix for suffix in suffixes if suffix != ".tsv")
        raise UserError(f"{root}: expected one export ({kinds}), found {there}. Give the file itself.")
    return found[0]


def json_of(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        return parse_json(text_of(path))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}). Export it again.") from None


def json_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """(line, object) of a file with one JSON object a line.

    Raises:
        UserError: it cannot be read, or a line is no object.
    """
    for line, text in enumerate(text_of(path).split("\n"), 1):  # U+2028 and the like may stand in a text
        if not text.strip():
            continue
        try:
            found = parse_json(text)
        except ValueError as error:
            raise UserError(f"{path}:{line}: not valid JSON ({error}). Export it again.") from None
        if not isinstance(found, dict):
            raise UserError(f"{path}:{line}: {shown(found)} is no JSON object. Export it again.")
        yield line, found


def text_of(path: Path) -> str:
    """The text of an export.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8. Export it again.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def first_object(path: Path, most: int = 1 << 20) -> dict | None:
    """The first JSON object of a list, or of a file with one a line, to tell whose export it is; None without one."""
    try:
        with path.open(encoding="utf-8-sig") as handle:
            text = handle.read(most).lstrip().removeprefix("[").lstrip()
        found, _ = json.JSONDecoder().raw_decode(text)
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
