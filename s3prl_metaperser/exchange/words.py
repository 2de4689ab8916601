"""What an answer in words says, in any language: the classes that it names, or the number."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from s3prl_metaperser.config import validator
from s3prl_metaperser.config.yaml_files import line_of, read_yaml
from s3prl_metaperser.corpora.label_set import Answer, LabelError, LabelSet
from s3prl_metaperser.errors import UserError, unknown_name

SYNONYMS = Path(__file__).with_name("synonyms.yaml")
#: A spelling of fewer letters is a code of the corpus ("a" for angry), and a word of many languages.
SHORTEST = 3
#: Words of these scripts have no blanks between them.
_WITHOUT_BLANKS = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
#: "4 out of 5", "4/5": the second number is the scale's.
_OUT_OF = re.compile(r"\s*(?:/|out of|von|sur|de|di|van)\s*\d+(?:\.\d+)?(?!\w)")
#: Language -> words.
Words = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Entry:
    """One class's words."""

    words: dict[str, tuple[str, ...]]


def read_synonyms(path: Path) -> Mapping[str, Words]:
    """Class -> language -> words.

    Raises:
        UserError: not readable, or not of this form, with file and line.
    """
    content, found = read_yaml(path), {}
    for name, by_language in content.items():
        problems = validator.faults(_Entry, {"words": by_language})
        if problems:
            keys = (name, *problems[0].keys[1:])
            line = line_of(path, keys)
            text = problems[0].text.replace("words", str(name), 1)
            raise UserError(f"{path}{'' if line is None else f':{line}'}: {text}")
        found[str(name)] = validator.build(_Entry, {"words": by_language}).words
    return found


@functools.cache
def _shipped() -> Mapping[str, Words]:
    return read_synonyms(SYNONYMS)


class Vocabulary:
    """The words of one label set.

    A class is named by its own name and spellings, and by the words of the entry of ``synonyms.yaml`` that has one of
    these. A word that two classes would have is neither's, unless it is a class's own name or spelling.

    Args:
        languages: those of ``synonyms.yaml`` to go by; None for all.
        further: another such file, whose words are added.

    Raises:
        UserError: a language that has no words, or a file that is none.

    Examples:
        >>> mood = Vocabulary(LabelSet("mood", "single", ("happy", "sad", "neutral")))
        >>> mood.read("It sounds HAPPY to me."), mood.read("Traurig!"), mood.read("悲しいです"), mood.read("unhappy?")
        (('happy',), ('sad',), ('sad',), ('sad',))
        >>> mood.read("happy or sad"), mood.read("I cannot listen to audio.")
        (None, None)
        >>> rating = Vocabulary(LabelSet("fluency", "ordinal", levels=(0.0, 1.0, 2.0)))
        >>> rating.read("I'd say 1.5."), rating.read("1/2"), rating.read("7"), rating.read("1 or 2")
        (1.5, 1.0, None, None)
    """

    def __init__(self, label_set: LabelSet, languages: Collection[str] | None = None, further: Path | None = None):
        self.label_set = label_set
        known = {name: dict(words) for name, words in _shipped().items()}
        for name, words in (read_synonyms(further) if further is not None else {}).items():
            for language, more in words.items():
                own = known.setdefault(name, {})
                own[language] = (*own.get(language, ()), *more)
        spoken = {language for words in known.values() for language in words}
        for language in languages or ():
            if language not in spoken:
                raise unknown_name("language", language, sorted(spoken))
        self.words = self._words(known, spoken if languages is None else set(languages))
        self._pattern = _pattern(self.words)

    def _words(self, known: Mapping[str, Words], languages: Collection[str]) -> dict[str, str]:
        """Word in plain form -> class."""
        own = {_plain(name): name for name in self.label_set.classes}
        for spelling in (*self.label_set.spellings, *self.label_set.merges):
            meant = self.label_set.lookup(spelling)
            if meant in self.label_set.classes and len(spelling) >= SHORTEST:
                own.setdefault(_plain(spelling), str(meant))
        meanings: dict[str, set[str]] = {}
        for entry, by_language in known.items():
            words = {_plain(word) for language, each in by_language.items() if language in languages for word in each}
            english = {_plain(word) for word in (entry, *by_language.get("en", ()))}
            for name in {own[word] for word in english & own.keys()}:
                for word in words:
                    meanings.setdefault(word, set()).add(name)
        return {word: next(iter(names)) for word, names in meanings.items() if len(names) == 1} | own

    def mentioned(self, text: str) -> tuple[str, ...]:
        """The classes that a text names, in the set's order; of words inside one another the longest."""
        found = () if self._pattern is None else self._pattern.findall(_plain(text))
        return self.label_set.in_order(self.words[word] for word in found)

    def read(self, text: str) -> Answer | None:
        """The answer that a text gives: a label as the corpus writes it, or else what it names.

        Returns:
            One class; where several may be ticked all that are named, and of shares equal shares; on a scale the one
            number that is on it. None where the text names nothing, or several of what there can be one of.
        """
        plain, kind = text.strip().strip("\"'`*.! "), self.label_set.kind
        try:
            cell = self.label_set.parse(plain)
        except LabelError:
            cell = None
        if cell is not None and cell.ticks and not (cell.unknown or cell.left_out):
            if cell.value is not None:
                return cell.value
            return cell.ticks if cell.shares is None else dict(zip(cell.ticks, cell.shares, strict=True))
        named = self.mentioned(text)
        if kind == "ordinal":
            numbers = self._numbers(text)
            numbers |= {self.label_set.levels[self.label_set.classes.index(n)] for n in named if not _NUMBER.search(n)}
            return numbers.pop() if len(numbers) == 1 else None
        if not named or (kind == "single" and len(named) > 1):
            return None
        return dict.fromkeys(named, 1 / len(named)) if kind == "soft" else named

    def _numbers(self, text: str) -> set[float]:
        low, high = self.label_set.levels[0], self.label_set.levels[-1]
        plain = unicodedata.normalize("NFKC", text)
        found, at = set(), 0
        while (number := _NUMBER.search(plain, at)) is not None:
            scale = _OUT_OF.match(plain, number.end())
            at = scale.end() if scale else number.end()
            if low <= float(number[0]) <= high:
                found.add(float(number[0]))
        return found


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").replace("-", " ").split())


def _pattern(words: Collection[str]) -> re.Pattern[str] | None:
    """Any of these words, the longest first."""
    ordered = sorted(words, key=len, reverse=True)
    parts = [re.escape(w) if _WITHOUT_BLANKS.search(w) else rf"(?<!\w){re.escape(w)}(?!\w)" for w in ordered]
    return re.compile("|".join(parts)) if parts else None
