"""The report as one static HTML page: no network; light and dark; for phones, print and screen readers.

Its look is ``templates/report.html`` and ``templates/report.css``; its script (``report.js``) sorts, copies, and opens
what is folded before printing, and the page's policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from markupsafe import Markup, escape

from s3prl_metaperser.errors import printable
from s3prl_metaperser.report.tables import ABSENT, MISSING, Block, Table
from s3prl_metaperser.storage.html_text import templates

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Words:
    """Lines of text.

    Attributes:
        lines: [(what it is about, text)].
        title: of what is folded.
    """

    kind: ClassVar[str] = "words"

    lines: Sequence[tuple[str, str]]
    title: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its anchor.
        title: its heading.
        lead: paragraphs below it.
        verdicts: [(question, [(where, sentences)])].
        content: what it shows, in order: a :class:`.Table`, a :class:`.Drawing`, :class:`Words`, a :class:`.Forest`,
            an :class:`.Alone`, a :class:`.Copy`, :class:`.Sounds`.
        folded: more of this, each closed, to be opened by the reader.
        headline: the page's first sentence, where the section has one.
    """

    key: str
    title: str
    lead: Sequence[str] = ()
    verdicts: Sequence[tuple[str, Sequence[tuple[str, Sequence[str]]]]] = ()
    content: Sequence[Any] = ()
    folded: Sequence[Any] = ()
    headline: str = ""

    @property
    def everything(self) -> list[Any]:
        """What is shown, open and closed."""
        return [*self.content, *self.folded]


def page(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section], above: str = "") -> str:
    """The whole page; every text in it is escaped, and no control character is left.

    Args:
        title: the page's first sentence.
        facts: (what, words) of the line below it.
        above: a line above it.
    """
    environment = templates(_TEMPLATES)
    environment.filters |= {
        "anchor": _anchor,
        "whole_words": _whole_words,
        "parts": lambda text: text.partition(" "),
        "split_blocks": _split_blocks,
        "groupby_kind": lambda content: [(kind, list(run)) for kind, run in groupby(content, lambda item: item.kind)],
        "sum_rows": lambda blocks: sum(len(rows) for _, rows in blocks),
    }
    environment.tests |= {"missing": lambda cell: cell is MISSING, "absent": lambda cell: cell is ABSENT}
    style, script = ((_TEMPLATES / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    short = [section.title.replace(":", ",").partition(",")[0] for section in sections]
    places = [(s.key, s.title if short.count(name) > 1 else name) for s, name in zip(sections, short, strict=True)]
    given = {"places": places, "title": title, "facts": facts, "sections": sections, "above": above}
    return environment.get_template("report.html").render(**given, style=style, script=script, allowed=allowed)


def _split_blocks(table: Table) -> tuple[list[Block], list[Block]]:
    """Blocks with results, and blocks without a single one."""
    blocks = table.blocks() if table.grouped else [((), list(table.rows))]
    empty = [block for block in blocks if table.grouped and all(table.lacks(row) for row in block[1])]
    return [block for block in blocks if block not in empty], empty


def _whole_words(text: str) -> Markup:
    """Text in which no line ends inside ``Meta-PerSER``."""
    parts = (
        Markup('<span class="nb">{}</span>').format(w) if "-" in w else escape(w) for w in printable(text).split(" ")
    )
    return Markup(" ").join(parts)


def _anchor(key: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in key)
