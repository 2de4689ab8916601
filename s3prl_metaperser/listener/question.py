"""What an experimenter asks on the listening page: a YAML file with the question, its wording, and how it is asked.

The page's own words come in three languages, as files of the same form; see :func:`shipped`. docs/listener.md explains
the keys.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from s3prl_metaperser.config.validator import Filled, Whole, read
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError, did_you_mean, unknown_name

_FOLDER = Path(__file__).parent / "questions"
#: The language whose words are complete; others are held against it.
ENGLISH = "english"


@dataclass(frozen=True)
class Trial:
    """A practice clip.

    Attributes:
        file: relative to the question's file.
        answer: what most people hear, which is said after the listener's own answer; empty to say nothing.
        say: a sentence that is shown then.
    """

    file: Filled
    answer: str = ""
    say: str = ""


@dataclass(frozen=True)
class Question:
    """A question as its file has it.

    Attributes:
        language: a shipped one, whose words the page takes.
        code: of the language, such as ``de``, for browsers and screen readers.
        title, question: the page's heading, and what is asked of a clip.
        labels: class of the model, in any spelling that its label set knows -> how it is shown, in this order. Classes
            that are not named are not offered; without any, all of them are.
        introduction, consent: shown before the first clip; with a consent, only who agrees goes on.
        training: practice clips, whose answers are not saved.
        autoplay: clips play by themselves.
        whole: an answer is taken once the clip was heard to its end.
        feedback: whether the listener sees what the model predicts.
        break_every: labels between two offers of a break; 0 for none.
        repeat_every: after so many labels an earlier clip comes again; 0 for never.
        next: which clip comes next: ``random``, or ``informative`` for the model.
        words: any word of the page, by its name in the shipped files.
    """

    language: Filled = ENGLISH
    code: str = ""
    title: str = ""
    question: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    introduction: str = ""
    consent: str = ""
    training: tuple[Trial, ...] = ()
    autoplay: bool = False
    whole: bool = True
    feedback: bool = True
    break_every: Whole = 0
    repeat_every: Whole = 0
    next: Literal["random", "informative"] = "random"
    words: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A question under a model's label set.

    Attributes:
        question: as it was given.
        code, title, asks: as in :class:`Question`, never empty.
        choices: (class, how it is shown), in the order in which they are offered.
        shown: every class of the label set -> how it is shown.
        words: every word of the page.
        training: (file, the answer that most people give, what is said then) of each practice clip.
    """

    question: Question
    code: str
    title: str
    asks: str
    choices: tuple[tuple[str, str], ...]
    shown: Mapping[str, str]
    words: Mapping[str, str]
    training: tuple[tuple[Path, str, str], ...] = ()

    def say(self, word: str, /, **values: object) -> str:
        """A word of the page, filled in."""
        return self.words[word].format(**values)


def shipped() -> dict[str, Path]:
    """Language -> the file with the page's words in it."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def read_question(name: str | Path, label_set: LabelSet, **changes: object) -> Asked:
    """A question by its file, or a shipped language.

    Args:
        name: of either.
        label_set: the model's.
        changes: fields that are said elsewhere and go before the file's; None for those that are not.

    Raises:
        UserError: the file cannot be read, or does not fit the label set; with file and key.
    """
    own = str(name) not in shipped()
    path = Path(name) if own else shipped()[str(name)]
    if own and not path.is_file():
        known = f"Give a file, or one of {', '.join(shipped())}"
        raise UserError(f"Unknown question {str(name)!r}.{did_you_mean(str(name), shipped())} {known}.")
    question = read(Question, path)
    question = replace(question, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]
    if own and question.language not in shipped():
        raise UserError(f"{path}: {unknown_name('language', question.language, shipped())}")
    base = _shipped(question.language if own else str(name))
    shown = {name: name for name in label_set.classes}
    shown |= {found: text for label, text in base.labels.items() if (found := label_set.lookup(label)) in shown}
    words = _words(base.words, question.words if own else {}, path)
    low, high = (f"{level:g}" for level in (*label_set.levels[:1], *label_set.levels[-1:]) or (0, 0))
    rating = words["rating"].format(name=label_set.name, low=low, high=high)
    offered = _offered(question.labels if own else {}, label_set, path)
    shown |= offered
    return Asked(
        question,
        question.code or base.code,
        question.title or base.title,
        (question.question if own else "") or (rating if label_set.kind == "ordinal" else base.question),
        tuple((name, shown[name]) for name in offered or label_set.classes),
        shown,
        words,
        tuple(_trial(trial, label_set, path) for trial in question.training),
    )


@functools.cache
def _shipped(language: str) -> Question:
    return read(Question, shipped()[language])


def _offered(labels: Mapping[str, str], label_set: LabelSet, path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for label, text in labels.items():
        name = label_set.lookup(label)
        if name not in label_set.classes:
            raise UserError(f"{path}: labels: {unknown_name('class', label, label_set.classes)}")
        if name in found or text in found.values():
            raise UserError(f"{path}: labels: {label!r} ({text}) is the same as an earlier one. Leave one out.")
        found[name] = text
    if len(found) == 1 or (found and label_set.kind == "ordinal" and len(found) < len(label_set.classes)):
        raise UserError(f"{path}: labels: of a scale all levels are named, else at least two classes.")
    return found


def _words(base: Mapping[str, str], own: Mapping[str, str], path: Path) -> dict[str, str]:
    english = _shipped(ENGLISH).words
    for name, text in own.items():
        if name not in english:
            raise UserError(f"{path}: words: {unknown_name('word', name, english)}")
        if more := placeholders(text, path, name) - placeholders(english[name], path, name):
            known = ", ".join(f"{{{each}}}" for each in sorted(placeholders(english[name], path, name))) or "none"
            raise UserError(f"{path}: words.{name}: {{{min(more)}}} is filled in by nothing. Known here: {known}.")
    return {**english, **base, **own}


def placeholders(text: str, path: Path, name: str) -> set[str]:
    """The names in braces in a word.

    Raises:
        UserError: braces that do not match, or hold something else.
    """
    try:
        found = [(each, form, how) for _, each, form, how in string.Formatter().parse(text) if each is not None]
    except ValueError as error:
        raise UserError(f"{path}: words.{name}: {error}. Write {{{{ for a brace.") from None
    if odd := [each for each, form, how in found if not each.isidentifier() or form or how]:
        raise UserError(f"{path}: words.{name}: {{{odd[0]}}} is no name. Write {{{{ for a brace.")
    return {each for each, _, _ in found}


def _trial(trial: Trial, label_set: LabelSet, path: Path) -> tuple[Path, str, str]:
    from s3prl_metaperser.listener.labels import answer_of, answer_text

    file = path.parent / trial.file
    if not file.is_file():
        raise UserError(f"{path}: training: {trial.file} does not exist. Put it beside the question's file.")
    try:
        wanted = answer_text(answer_of(trial.answer, label_set)) if trial.answer else ""
    except UserError as error:
        raise UserError(f"{path}: training: {trial.file}: {error}") from None
    return file, wanted, trial.say
