"""Tables as Markdown, CSV and LaTeX (booktabs)."""

from __future__ import annotations

import re

from s3prl_metaperser.errors import printable
from s3prl_metaperser.report.tables import Absent, Cell, Missing, Table, Value
from s3prl_metaperser.storage.csv_text import csv_text

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # after a line break, \\[ would be taken for its optional argument
    "]": "{]}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "—": "---",
    "“": "``",
    "”": "''",
    "✓": r"$\checkmark$",
    "\n": " ",
}


def escape_latex(text: str) -> str:
    """``text`` so that LaTeX prints it as it stands (the check mark needs ``amssymb``)."""
    return "".join(_LATEX.get(letter, letter) for letter in printable(text))


def escape_markdown(text: str) -> str:
    """``text`` so that neither a table's bars nor HTML in it mean anything."""
    text = re.sub(r"([\\|`*_\[\]])", r"\\\1", printable(text).replace("\n", " "))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown(table: Table) -> str:
    """A GitHub-flavoured table under a heading, with caption and notes."""
    numeric = [_numeric(table, index) for index in range(len(table.columns))]
    lines = [f"### {escape_markdown(table.title)}", "", escape_markdown(table.caption), ""]
    lines.append(_bars(escape_markdown(column.full_name) for column in table.columns))
    lines.append(_bars("---:" if right else "---" for right in numeric))
    lines += [_bars(_markdown_cell(cell) for cell in row) for row in table.rows]
    for note in table.notes:
        lines += ["", escape_markdown(note)]
    return "\n".join(lines) + "\n"


def comma_separated(table: Table) -> str:
    """CSV with a header line, numbers at full precision, intervals and notes in columns of their own."""
    header: list[str] = []
    for column in table.columns:
        name = printable(column.full_name)
        header += [name, f"{name} low", f"{name} high", f"{name} note"] if column.interval else [name]
    lines = [header]
    for row in table.rows:
        cells = zip(table.columns, row, strict=True)
        lines.append([text for column, cell in cells for text in _csv_cells(cell, column.interval)])
    return csv_text(lines)


def latex(table: Table) -> str:
    """A ``table*`` with ``booktabs`` rules, to be included with ``\\input``; packages are named in its first line."""
    align = "".join("r" if _numeric(table, index) else "l" for index in range(len(table.columns)))
    lines = [
        "% needs \\usepackage{booktabs} and \\usepackage{amssymb}",
        r"\begin{table*}",
        r"\centering\small",
        f"\\caption{{{escape_latex(f'{table.title}. {table.caption}')}}}",
        f"\\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', table.key)}}}",
        f"\\begin{{tabular}}{{{align}}}",
        r"\toprule",
    ]
    lines += _latex_header(table)
    for number, (_, rows) in enumerate(table.blocks()):
        if number and table.grouped:
            lines.append(r"\midrule")
        for position, row in enumerate(rows):
            shown = [
                "" if position and index < table.grouped else escape_latex(str(cell)) for index, cell in enumerate(row)
            ]
            lines.append(" & ".join(shown) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"\\par\\smallskip\\footnotesize {escape_latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


#: File suffix -> writer.
WRITERS = {"md": markdown, "csv": comma_separated, "tex": latex}


def _latex_header(table: Table) -> list[str]:
    lines, place, rules, groups = [], 1, [], []
    for name, width in table.header_groups():
        groups.append(f"\\multicolumn{{{width}}}{{c}}{{{escape_latex(name)}}}" if name else "")
        if name:
            rules.append(f"\\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    if rules:
        lines += [" & ".join(groups) + r" \\", " ".join(rules)]
    return [*lines, " & ".join(escape_latex(column.name) for column in table.columns) + r" \\", r"\midrule"]


def _numeric(table: Table, index: int) -> bool:
    return any(isinstance(row[index], Value) for row in table.rows) or table.columns[index].interval


def _markdown_cell(cell: Cell) -> str:
    if isinstance(cell, Missing):
        return f"*{cell}*"
    return escape_markdown(str(cell))


def _csv_cells(cell: Cell, interval: bool) -> list[str]:
    if isinstance(cell, Value):
        numbers = (cell.mean, cell.low, cell.high) if interval else (cell.mean,)
        shown = ["" if number is None else repr(float(number)) for number in numbers]
        return [*shown, printable(cell.note)] if interval else shown
    text = "" if isinstance(cell, Absent) else printable(str(cell))
    return [text, "", "", ""] if interval else [text]


def _bars(cells) -> str:
    return f"| {' | '.join(cells)} |"
