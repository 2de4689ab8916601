"""HTML: pages from templates, and small tables for what a notebook shows of an object."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.errors import printable

if TYPE_CHECKING:
    from jinja2 import Environment


def templates(folder: Path) -> Environment:
    """The templates of a folder: every text in them is escaped, no control character is left, and a name that is not
    given is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if hasattr(value, "__html__") else printable(str(value)),
    )


def html_table(title: str, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """A table with a caption. Every text in it is escaped, and no control character is left.

    >>> html_table("mood", [["happy", 3]])
    '<table><caption>mood</caption><tr><td>happy</td><td>3</td></tr></table>'
    """

    def row(tag: str, cells: Sequence[object]) -> str:
        return f"<tr>{''.join(f'<{tag}>{_text(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join([row("th", head) if head else "", *(row("td", cells) for cells in rows)])
    return f"<table><caption>{_text(title)}</caption>{body}</table>"


def _text(value: object) -> str:
    return html.escape(printable(str(value), keep=""))
