"""Who rated: which names are people, and which spellings are one person."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from s3prl_metaperser.errors import UserError, shown, unknown_name

ALIKE = ("error", "one", "distinct")
DROPPED_RATER = "ratings: of raters that were not asked for"

# What a table holds beside people: facts about the recording, and what is made of labels, meant or predicted.
_FACTS = (
    "speakers?|spk|talker|sessions?|dialog|dialogue|splits?|fold|partition|subset|train|test|validation|sex|gender|age"
    "|text|transcript|transcription|sentence|utterance|statement|repetition|modality|vocalchannel|scene|script"
    "|url|snr|rms|md5|sha256|checksum"
)
_MADE = (
    "majority|maj|minority|plurality|winner|ensemble|crowd|agg|votes?|voted|voting|consensus|consens|gold|golden|groundtruth|ground|truth|gt|reference|labels?"
    "|class|classes|category|categories|emotions?|emo|mood|sentiment|mean|avg|average|median|aggregate|aggregated"
    "|aggregation|final|overall|combined|merged|fused|adjudicated|primary|secondary|tertiary|main|dominant|major|minor"
    "|soft|hard|distribution|intended|intention|acted|displayed|disp|portrayed|elicited|expected|perceived|predicted"
    "|predictions?|pred|model|classifier|system|machine|automatic|auto|llm|gpt|chatgpt|agreed|agreement|ytrue|ypred|valence|arousal|dominance|activation"
    "|scores?|ratings?|values?|answers?|responses?|choices?|results?|ticks?|tags?|annotations?"
    "|mostcommon|mostfrequent|mostvoted|dawidskene|mehrheit|majorite|mayoria|maggioranza|prompted|scripted|intent|selfreport(?:ed)?"
    "|(?:inter|average|mean|median|all)(?:raters?|annotators?|coders?|listeners?|workers?)(?:agreement)?"
    "|(?:raters?|annotators?|coders?|listeners?|workers?)(?:agreement|average|avg|mean|median|mode|std)"
)
# Some of these are people's names, so that they count only beside one of the words above.
_FILLERS = (
    "of|the|by|per|and|percent|all|no|num|number|count|first|second|third|true|val|dom|act|mode|std|set|standard|dev|star|id"
    "|name|others?|weighted"
)
# And these as a column's name; in a column of raters they are somebody.
_OF_COLUMNS = (
    "first|second|third|others?|true|mode|modal|std|stdev|variance|all|any|both|count|best|target|official|annotated|output"
    "|resolved|union|intersection|actor|mv|mace|top|set|source|intensity|turn|utt|lang|language|prompt|scenario|kappa|entropy|weight|asr|whisper|nvotes"
    "|(?:n|num)(?:raters|annotators|ratings|labels)"
)


def _made_of(words: str) -> re.Pattern:
    """Names that are made of such words, with fillers between them."""
    return re.compile(f"(?=.*(?:{words}))(?:{words}|{_FILLERS})+")


_FACT, _NO_RATER, _NO_COLUMN = map(_made_of, (_FACTS, f"{_FACTS}|{_MADE}", f"{_FACTS}|{_MADE}|{_OF_COLUMNS}"))
# Whatever stands beside them: majority_excl_anna, anna_vs_consensus.
_NEVER_A_NAME = re.compile(
    "majority|consensus|groundtruth|goldstandard|goldlabel|aggregated?|adjudicated|predict(?:ed|ion)"
    r"|\A(?:chat)?gpt|wav2?vec|emotion2?vec|wavlm"
)
# May stand for several people; with a number behind it, it is a pseudonym.
_ANYBODY = {
    *("unknown", "anonymous", "anon", "nobody", "various", "several", "multiple", "mixed", "everyone", "everybody"),
}
#: A longer name is not made of such words, and would take long to be found so.
_LONGEST = 40
#: What spreadsheets and data frames write for a blank cell.
_BLANK = {"nan", "none", "null", "n/a", "#n/a", "<na>", "nat", "undefined", "-", "--", "?"}
_NUMBER = re.compile(r"\+?\d{1,40}(?:[.,]\d{0,40})?(?:e[+-]?\d{1,2})?")
_BETWEEN_WORDS = re.compile(r"[\s_:./-]+|\(s\)|'s\b|#\Z|(?<!\S)[(\[{]|[)\]}*?](?!\S)")
_BLANKS = re.compile(r"[\s_-]+")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


@dataclass(frozen=True)
class Who:
    """What is said about whose labels a table has.

    Attributes:
        rater_column: the column that names the rater; by default one of the known names.
        raters: the raters to read, whatever they are called: columns of a wide table, or names in a long one. The
            labels of all others are left out and counted.
        alike: what names are that differ only by case, blanks, Unicode form or as numbers (1, 1.0, 01): a question
            (``"error"``), ``"one"`` rater under the name that comes first, or ``"distinct"`` raters.
        excluded: raters who are known to take no part, so that nothing need be asked about them.
        listener: whose labels they are where no column says so; None where a table must say it.
        all_one: whether all labels are the listener's, whatever the columns are.
    """

    rater_column: str | None = None
    raters: tuple[str, ...] | None = None
    alike: Literal["error", "one", "distinct"] = "error"
    excluded: tuple[str, ...] = ()
    listener: str | None = None
    all_one: bool = False

    def __post_init__(self) -> None:
        if self.alike not in ALIKE:
            raise unknown_name("value of alike_raters", str(self.alike), ALIKE)
        if self.all_one and self.rater_column is not None:
            raise UserError("Either a column names the rater, or all labels are one listener's. Leave one option out.")
        if self.raters is not None and not self.raters:
            raise UserError("raters is an empty list. Name at least one rater, or leave it out.")
        if any("\0" in name for name in self.raters or ()):
            raise UserError("The name of a rater contains a NUL character. Retype it.")

    def to_name(self, people: Sequence[str] = ("A", "B", "C")) -> str:
        """How to say which names are raters: for messages."""
        if self.listener is not None:
            return "--rater NAME"
        return f"--raters {','.join(people)} (training: datarc.raters)"

    @property
    def to_name_column(self) -> str:
        """How to say which column names the rater: for messages."""
        return "--rater-column NAME" + ("" if self.listener is not None else " (training: datarc.rater_column)")


def fold(name: str) -> str:
    """A column's name as aliases are looked up: ``ASSIGNMENT:worker_id`` and ``Assignment Worker-ID`` are one."""
    return _BETWEEN_WORDS.sub("", unicodedata.normalize("NFKC", name).casefold())


def is_blank(name: str) -> bool:
    """Whether a cell that should name somebody is empty, or holds what programs write for empty."""
    return name.casefold() in _BLANK or not any(c.isprintable() and not c.isspace() for c in name)


def is_no_person(name: str, column: bool = True) -> bool:
    """Whether a name says that it is an aggregate, a model or a property of the recording, and no one's.

    Args:
        column: whether it is a column's, and not in a column of raters: a column ``label2`` or ``second`` may hold
            second choices; in a column of raters they are somebody.

    Examples:
        >>> [is_no_person(name) for name in ("majority_vote", "Gold label", "emotion2", "GT", "speaker")]
        [True, True, True, True, True]
        >>> [is_no_person(name) for name in ("anna", "label_anna", "rater2", "Val", "Marjorie", "7")]
        [False, False, False, False, False, False]
    """
    folded = fold(name)
    if column:
        folded = "".join(c for c in folded if not c.isdigit())
    no_person = _NO_COLUMN if column else _NO_RATER
    if folded in _ANYBODY or _NEVER_A_NAME.search(folded):
        return True
    return len(folded) <= _LONGEST and no_person.fullmatch(folded) is not None


def is_fact(name: str) -> bool:
    """Whether a column says something about the recording, such as its speaker, and nothing about labels."""
    return _FACT.fullmatch(fold(name)) is not None


def spelling_key(name: str) -> str:
    """What two spellings of one person share: case, quotes, Unicode form, leading zeros, a blank or an underscore.

    Examples:
        >>> {spelling_key(name) for name in ("1", "01", "1.0", " 1 ", "\uff11")}
        {'1'}
        >>> spelling_key("Zoe\u0301") == spelling_key("ZO\u00c9"), spelling_key("w07") == spelling_key("W7")
        (True, True)
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    plain = "".join(c for c in plain if c.isprintable() or c.isspace()).strip().strip("'\"=`")
    if _NUMBER.fullmatch(plain):
        return str(Fraction(plain.replace(",", ".")))
    return _ZEROS.sub("", _BLANKS.sub("_", plain))


class People:
    """Names, as a table has them one after the other, into people.

    Attributes:
        left_out: how many labels were of raters that were not asked for.
    """

    def __init__(self, path: Path, who: Who):
        self.path, self.who, self.left_out = path, who, 0
        self._named = None if who.raters is None else {name.strip() for name in who.raters}
        self._first: dict[str, str] = {}  # spelling key -> the name that comes first
        self._lines: dict[str, int | str] = {}  # name -> where it comes first
        self._spellings: dict[str, list[str]] = {}  # spelling key -> names, where there are several
        self._person: dict[str, str | None] = {}
        for name in who.raters or ():
            self._first.setdefault(spelling_key(name.strip()), name.strip())

    def person(self, name: str, line: int | str) -> str | None:
        """Who ``name`` is; None for somebody whose labels were not asked for.

        Raises:
            UserError: a blank name, or one that is no person's and was not named as a rater.
        """
        name = name.strip()
        if name not in self._person:
            self._person[name] = self._resolved(name, line)
        found = self._person[name]
        self.left_out += found is None
        return found

    def _resolved(self, name: str, line: int | str) -> str | None:
        named = name in (self._named or self.who.excluded)
        missing = is_blank(name) or name == "NA"  # as R writes it; also somebody's initials
        if "\0" in name or (missing and not named):
            fault = "contains a NUL character" if "\0" in name else f"is {shown(name)}" if name else "is blank"
            somebody = f" Is it somebody? Name whom to read: {self.who.to_name()}." if name and "\0" not in name else ""
            raise UserError(f"{self.path}:{line}: the rater {fault}. Name who gave this label.{somebody}")
        self._lines[name] = line
        if self._named is None and not named and is_no_person(name, column=False):
            made = "labels that are made from those of others would tell of test raters"
            what = f"whose labels are these? The rater {shown(name)} is no person: {made}."
            raise UserError(f"{self.path}:{line}: {what} Name whom to read: {self.who.to_name()}.")
        first = self._first.setdefault(spelling_key(name), name)
        if first != name:
            if self.who.alike == "one":
                name = first
            elif self.who.alike == "error" and (self._named is None or not {first, name} <= self._named):
                self._spellings.setdefault(spelling_key(name), [first]).append(name)
        return name if self._named is None or name in self._named else None

    def check(self) -> None:
        """After the last name.

        Raises:
            UserError: names that may be one person's, or a rater that was asked for and is not there.
        """
        if missing := sorted((self._named or set()) - self._lines.keys() - self._merged()):
            raise unknown_name("rater", missing[0], self._lines)
        self.check_spellings()

    def check_spellings(self) -> None:
        """As :meth:`check`, where a rater who was asked for may come later.

        Raises:
            UserError: names that may be one person's.
        """
        groups = [names for names in self._spellings.values() if len(names) > 1]
        if groups:
            training = "" if self.who.listener else " (training: datarc.alike_raters)"
            shown_groups = "; ".join(self._group(names) for names in groups[:5])
            more = f" (and {len(groups) - 5} more such names)" if len(groups) > 5 else ""
            raise UserError(
                f"{self.path}: one rater or several? {shown_groups}{more}. Spell a person's name alike, or say it for "
                f"all: --alike-raters one, or distinct{training}."
            )

    def _merged(self) -> set[str]:
        return {person for person in self._person.values() if person is not None}

    def _group(self, names: Sequence[str]) -> str:
        look_alike = len({unicodedata.normalize("NFC", name) for name in names}) == 1
        places = [(self._lines.get(name), ascii(name) if look_alike else shown(name)) for name in names]
        return " and ".join(
            name + (f" (line {line})" if isinstance(line, int) else f" ({line})" if line else "")
            for line, name in places
        )
