"""The report as one static HTML page: no network, no script; light and dark; for phones and for print.

Its look is ``templates/report.html`` and ``templates/report.css``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from s3prl_metaperser.errors import printable
from s3prl_metaperser.report.drawing import Drawing
from s3prl_metaperser.report.tables import ABSENT, MISSING, Block, Table

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: its anchor.
        title: its heading.
        lead: paragraphs below it.
        verdicts: [(question, [(where, sentences)])].
        content: tables and figures, in order.
        folded: shown closed, to be opened by the reader.
    """

    key: str
    title: str
    lead: Sequence[str] = ()
    verdicts: Sequence[tuple[str, Sequence[tuple[str, Sequence[str]]]]] = ()
    content: Sequence[Table | Drawing] = ()
    folded: bool = False


def page(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The whole page; every text in it is escaped, and no control character is left."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        finalize=_printable,
    )
    environment.filters |= {
        "anchor": _anchor,
        "parts": lambda text: text.partition(" "),
        "split_blocks": _split_blocks,
        "sum_rows": lambda blocks: sum(len(rows) for _, rows in blocks),
    }
    environment.tests |= {
        "missing": lambda cell: cell is MISSING,
        "absent": lambda cell: cell is ABSENT,
        "table": lambda item: isinstance(item, Table),
    }
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(title=title, facts=facts, sections=sections, style=style)


def _printable(value: Any) -> Any:
    return value if hasattr(value, "__html__") else printable(str(value))


def _split_blocks(table: Table) -> tuple[list[Block], list[Block]]:
    """Blocks with results, and blocks without a single one."""
    blocks = table.blocks() if table.grouped else [((), list(table.rows))]
    empty = [block for block in blocks if table.grouped and all(table.lacks(row) for row in block[1])]
    return [block for block in blocks if block not in empty], empty


def _anchor(key: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in key)
