"""Random damage to label files, and readers of the written-down formats that share no code with the package's.

A damaged file is read *in silence* if the package's reader neither stops with a UserError, nor reports a serious
problem (with which training refuses a corpus), nor returns exactly what the reader here finds in the same bytes, with
every line that is outside the format named by its number and everything left out counted.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

OTHER = "other"
#: What raters of the release wrote, by what they meant, in the order of its classes.
_WRITTEN = """
fru frustrated frustration / ang angry anger / sad sadness / dis disgust disgusted / exc excited excitement
/ fea fear fearful afraid scared / neu neutral neutral_state / sur surprise surprised / hap happy happiness joy
/ oth other others
"""
_MEANT = ("frustrated", "angry", "sad", "disgust", "excited", "fear", "neutral", "surprise", "happy", OTHER)
CLASSES = list(_MEANT[:-1])
SPELLINGS = {
    word.replace("_", " "): meant
    for meant, words in zip(_MEANT, _WRITTEN.split("/"), strict=True)
    for word in words.split()
}


def corrupted(data: bytes, seed: int) -> bytes:
    """``data`` with one to three random faults; the same seed gives the same faults."""
    draw = random.Random(f"corruption {seed}")
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        data = draw.choice(FAULTS)(data, draw)
    return data


def _place(data: bytes, draw: random.Random) -> int:
    return draw.randrange(max(len(data), 1))


def flip_bit(data, draw):
    at = _place(data, draw)
    return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :] if data else data


def change_byte(data, draw):
    at = _place(data, draw)
    return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]


def delete_byte(data, draw):
    at = _place(data, draw)
    return data[:at] + data[at + 1 :]


def delete_span(data, draw):
    at = _place(data, draw)
    return data[:at] + data[at + draw.randrange(1, 60) :]


def repeat_span(data, draw):
    at, length = _place(data, draw), draw.randrange(1, 60)
    return data[: at + length] + data[at : at + length] + data[at + length :]


def insert_bytes(data, draw):
    at = _place(data, draw)
    few = bytes(draw.choice(b"\x00\t\r\n ;:()[],\"'%=;CA-\xff\xef") for _ in range(draw.randrange(1, 4)))
    return data[:at] + few + data[at:]


def truncate(data, draw):
    return data[: _place(data, draw)]


def _lines(data):
    return data.splitlines(keepends=True)


def delete_line(data, draw):
    lines = _lines(data)
    if lines:
        del lines[draw.randrange(len(lines))]
    return b"".join(lines)


def repeat_line(data, draw):
    lines = _lines(data)
    if lines:
        lines.insert(draw.randrange(len(lines)), draw.choice(lines))
    return b"".join(lines)


def swap_lines(data, draw):
    lines = _lines(data)
    if lines:
        one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def join_lines(data, draw):
    lines = _lines(data)
    if lines:
        at = draw.randrange(len(lines))
        lines[at] = lines[at].rstrip(b"\r\n")
    return b"".join(lines)


FAULTS = (
    *(flip_bit, change_byte, delete_byte, delete_span, repeat_span, insert_bytes),
    *(truncate, delete_line, repeat_line, swap_lines, join_lines),
)


@dataclass
class Reading:
    """What a file says.

    Attributes:
        ratings: (utterance or file, rater) -> classes ticked; none without a class.
        odd: numbers of the lines outside the format.
        others: ticks of "other".
        blank: rows without a label (ratings.csv).
        blocks: utterances with a good header (IEMOCAP).
    """

    ratings: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    odd: set[int] = field(default_factory=set)
    others: int = 0
    blank: int = 0
    blocks: set[str] = field(default_factory=set)


# ------------------------------------------------------------------ IEMOCAP

RATERS = {f"C-E{n}" for n in range(1, 7)} | {f"C-{g}{n}" for g in "FM" for n in range(1, 6)}


def read_summary(data: bytes, dialog: str) -> Reading:
    """One IEMOCAP summary file."""
    found, utterance, open_block = Reading(), None, False
    text = re.sub(rb"\r+\n", b"\n", data.removeprefix(b"\xef\xbb\xbf")).replace(b"\r", b"\n").decode("latin-1")
    for number, line in enumerate((line.strip() for line in text.split("\n")), 1):
        kind = line[:1]
        if not line:
            open_block = False
        elif kind == "[":
            utterance, open_block = _header(line, dialog, found.blocks), True
            if utterance is None:
                found.odd.add(number)
            else:
                found.blocks.add(utterance)
        elif _is_attributes(line):
            open_block = False
        elif line.startswith("% [START_TIME"):
            pass
        elif not (open_block and utterance) or not _rating(line, utterance, found):
            found.odd.add(number)
        if kind != "[" and _holds_a_second_line(line):
            found.odd.add(number)
    found.ratings = {key: ticks for key, ticks in found.ratings.items() if ticks}
    return found


def _holds_a_second_line(line: str) -> bool:
    """Whether the beginning of another line stands within a line, outside a comment that is closed at its end."""
    head = r"\[\d+\.\d+ - \d|\bSes0\d[FM]_"
    start = line.find("\t(") if "\t(" in line else line.find("(")
    rated = line[:2] in ("C-", "A-") and start >= 0
    cell, comment = (line[:start], line[start:].lstrip("\t")) if rated else (line, "")
    if re.search(rf".(?:[CA]-(?:E|F|M)\d\s*:|{head})", cell):
        return True
    opened = [comment[: n + 1].count("(") - comment[: n + 1].count(")") for n in range(len(comment))]
    if 0 in opened and opened.index(0) == len(comment) - 1:
        return False
    said = "|".join(name[:3] for name in [*CLASSES, OTHER]) + "|val|act|dom|;"
    return bool(re.search(rf"(?:[CA]-(?:E|F|M)\d\s*:\s*(?i:{said})|{head})", comment))


def _header(line: str, dialog: str, before: set[str]) -> str | None:
    words = line.partition("]")[2].split(None, 2)
    good = line.count("[") == line.count("]") == 2 and len(words) == 3 and words[2][:1] == "[" and words[2][-1:] == "]"
    separated = good and line.partition("]")[2][:1].isspace()
    if not separated or words[0] in before:
        return None
    head, _, turn = words[0].rpartition("_")
    numbered = turn[:1] in ("F", "M") and turn[1:].isdecimal() and len(turn) >= 4
    return words[0] if head == dialog and numbered else None


def _is_attributes(line: str) -> bool:
    if not line.startswith("A-"):
        return False
    head, colon, rest = line.partition(":")
    head = head[2:].rstrip()
    word = re.match(r"\s*(\w*)", rest)[1]
    return bool(colon) and not any(c.isspace() for c in head) and word in ("val", "act", "dom")


def _rating(line: str, utterance: str, found: Reading) -> bool:
    """Read a C- line into ``found``; whether it is wholly in the format."""
    rater, _, rest = line.partition(":")
    if rater.rstrip() not in RATERS:
        return False
    tab = rest.find("\t(")
    end = tab if tab >= 0 else rest.find("(")
    if end < 0 and not rest.rstrip().endswith(";"):
        return False
    cell, whole = rest if end < 0 else rest[:end], True
    ticks, others = set(), 0
    for label in filter(None, (part.strip() for part in cell.split(";"))):
        name = SPELLINGS.get(" ".join(label.lower().replace("_", " ").replace("-", " ").split()))
        if name is None and label.lower().startswith("other-"):
            name = OTHER
        code = None if len(label.split()) > 1 else SPELLINGS.get(label[:3].lower())
        if name is None or (code is not None and name != code):
            name, whole = code, False  # named by the reader, and read by its first three letters
        elif len(label.split()) == 1 and code is None:
            name, whole = None, False
        others += name == OTHER
        ticks |= {name} if name not in (None, OTHER) else set()
    key = (utterance, rater.rstrip())
    if key in found.ratings:
        whole = False  # a second line of this rater: united, and named
    found.ratings.setdefault(key, set()).update(ticks)
    found.others += others
    return whole


# ------------------------------------------------------------------ ratings.csv


def read_ratings(data: bytes) -> Reading | None:
    """A ``ratings.csv`` in the long or the wide form; None where it is not one."""
    try:
        rows = _csv(data.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError:
        return None
    rows = [row for row in rows or [] if any(row)]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return None
    header = [name.strip() for name in rows[0]]
    low = [name.lower() for name in header]
    files, raters = _one(low, ("file", "task", "name")), _one(low, ("rater", "worker", "performer"))
    labels = _one(low, ("label",))
    if files is None or (raters is None) != (labels is None):
        return None
    found, seen = Reading(), set()
    for row in rows[1:]:
        if labels is not None:
            cells = [(row[raters].strip(), row[labels])]
        else:
            cells = [(name, cell) for place, (name, cell) in enumerate(zip(header, row, strict=True)) if place != files]
        for rater, cell in cells:
            file = _file(row[files])
            if labels is None and not rater and not cell.strip():
                continue  # a column without a name, and with nothing in it
            if not rater or "\0" in rater or file is None:
                return None
            names = [SPELLINGS.get(_words(part)) for part in cell.split(";") if part.strip()]
            if None in names or ((file, rater) in seen and names):
                return None
            if not names:
                found.blank += 1
                continue
            seen.add((file, rater))
            found.others += names.count(OTHER)
            found.ratings[file, rater] = set(names) - {OTHER}
    found.ratings = {key: ticks for key, ticks in found.ratings.items() if ticks}
    return found


def _words(label: str) -> str:
    plain = " ".join(label.lower().replace("_", " ").replace("-", " ").split())
    return OTHER if plain not in SPELLINGS and label.strip().lower().startswith("other-") else plain


def _one(names: list[str], aliases: tuple[str, ...]) -> int | None:
    return next((names.index(alias) for alias in aliases if alias in names), None)


def _file(text: str) -> str | None:
    parts: list[str] = []
    text = text.strip().replace("\\", "/")
    if not text or text[0] == "/" or text[1:3] == ":/" or "\0" in text:
        return None
    for part in text.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or None


def _csv(text: str) -> list[list[str]] | None:
    """Rows of RFC 4180's CSV, character by character; None where a quote is out of place."""
    rows, row, cell, state = [], [], "", "start"
    for c in [*text, "\n"]:
        if state == "quoted":
            if c == '"':
                state = "closed"
            else:
                cell += c
        elif c == '"' and state == "closed":
            cell, state = cell + '"', "quoted"
        elif c == '"' and state == "start":
            state = "quoted"
        elif c in ",\r\n":
            row, cell, state = [*row, cell], "", "start"
            if c != ",":
                rows, row = [*rows, row], []
        elif state == "closed":
            return None
        else:
            cell, state = cell + c, "plain"
    return None if state == "quoted" else rows
