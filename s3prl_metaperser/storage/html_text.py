"""Small HTML tables, for what a notebook shows of an object."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from s3prl_metaperser.errors import printable


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
