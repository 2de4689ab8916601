"""The report as one static HTML page: no network, no script; light and dark; for phones and for print."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from s3prl_metaperser.errors import printable
from s3prl_metaperser.report.drawing import Drawing
from s3prl_metaperser.report.page_style import STYLE
from s3prl_metaperser.report.tables import Absent, Cell, Missing, Table, Value


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
    """The whole page."""
    links = "".join(f'<a href="#{_id(s.key)}">{escape(s.title)}</a>' for s in sections)
    told = "".join(_fact(*fact) for fact in facts)
    body = "\n".join(_section(section) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<dl class="facts">{told}</dl>
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def escape(text: str, quote: bool = True) -> str:
    """``text`` so that nothing in it is markup, and no control character is left."""
    return html.escape(printable(text), quote)


def _fact(name: str, words: str) -> str:
    wide = ' class="wide"' if len(words) > 40 else ""
    return f"<div{wide}><dt>{escape(name)}</dt><dd>{escape(words)}</dd></div>"


def _section(section: Section) -> str:
    parts = [f"<p>{escape(text)}</p>" for text in section.lead]
    for question, answers in section.verdicts:
        parts.append(f"<h3>{escape(question)}</h3>")
        for where, sentences in answers:
            items = "".join(f"<li>{escape(sentence)}.</li>" for sentence in sentences)
            parts.append(f'<h4>{escape(where)}</h4><ul class="verdicts">{items}</ul>')
    parts += [_table(item) if isinstance(item, Table) else _figure(item) for item in section.content]
    inner = "\n".join(parts)
    if section.folded:
        inner = f"<details><summary>Show</summary>\n{inner}\n</details>"
    return f'<section id="{_id(section.key)}">\n<h2>{escape(section.title)}</h2>\n{inner}\n</section>'


def _figure(drawing: Drawing) -> str:
    return (
        f'<figure id="{_id(drawing.key)}" role="group" aria-label="{escape(drawing.title, quote=True)}">'
        f"<h3>{escape(drawing.title)}</h3>\n{drawing.inline()}\n"
        f"<figcaption>{escape(drawing.caption)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    """A table; blocks without a single result stand closed below it, so that they are counted and in nobody's way."""
    blocks = table.blocks() if table.grouped else [((), list(table.rows))]
    empty = [b for b in blocks if table.grouped and all(table.lacks(row) for row in b[1])]
    shown = [block for block in blocks if block not in empty]
    parts = [f'<article id="{_id(table.key)}">', f"<h3>{escape(table.title)}</h3>"]
    parts.append(f'<p class="caption">{escape(table.caption)}</p>')
    parts.append(_grid(table, shown) if shown else '<p class="missing">No results for this table yet.</p>')
    if empty:
        rows = sum(len(rows) for _, rows in empty)
        names = "; ".join(", ".join(str(cell) for cell in lead) for lead, _ in empty)
        parts.append(f"<details><summary>{rows} missing: {escape(names)}</summary>{_grid(table, empty)}</details>")
    parts += [f'<p class="note">{escape(note)}</p>' for note in table.notes]
    return "\n".join([*parts, "</article>"])


def _grid(table: Table, blocks) -> str:
    columns = table.columns[table.grouped :]
    groups = table.header_groups()[table.grouped :]
    head = ""
    if any(name for name, _ in groups):
        wide = "".join(f'<th colspan="{width}" scope="colgroup">{escape(name)}</th>' for name, width in groups)
        head = f'<tr class="groups">{wide}</tr>'
    head += "<tr>" + "".join(f'<th scope="col">{escape(column.name)}</th>' for column in columns) + "</tr>"
    bodies = []
    for lead, rows in blocks:
        title = ""
        if lead:
            words = escape(", ".join(str(cell) for cell in lead))
            title = f'<tr class="block"><th colspan="{len(columns)}" scope="rowgroup"><span>{words}</span></th></tr>'
        lines = "".join(_row(row[table.grouped :]) for row in rows)
        bodies.append(f"<tbody>{title}{lines}</tbody>")
    label = escape(table.title, quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table><thead>{head}</thead>'
        f"{''.join(bodies)}</table></div>"
    )


def _row(row: Sequence[Cell]) -> str:
    cells = [f'<th scope="row">{escape(str(row[0]))}</th>', *(_cell(cell) for cell in row[1:])]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Missing):
        return f'<td class="missing">{cell}</td>'
    if isinstance(cell, Absent):
        return f'<td class="absent">{cell}</td>'
    if not isinstance(cell, Value):
        return f"<td>{escape(cell)}</td>"
    mean, _, rest = str(cell).partition(" ")
    small = f" <small>{escape(rest)}</small>" if rest else ""
    return f'<td class="number">{escape(mean)}{small}</td>'


def _id(key: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in key)
