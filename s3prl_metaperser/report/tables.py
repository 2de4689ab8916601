"""One model of a table, which the writers print as Markdown, CSV and LaTeX, and the page as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

#: How numbers are rounded where people read them; CSV keeps them whole.
DECIMALS = 1


@dataclass(frozen=True)
class Value:
    """A number with what is known about it.

    Attributes:
        mean: in the unit that the table's caption names, mostly percent.
        low: lower end of the 95 % interval; None where there is none (the paper prints none).
        high: upper end.
        note: what a reader must know about this one cell, e.g. "2 of 5 folds".
        decimals: digits behind the point.
        signed: show a plus sign: the number is a difference.
        positive: where the number is above zero and would be shown as zero, show ``<0.001`` (of p values).
    """

    mean: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    decimals: int = DECIMALS
    signed: bool = False
    positive: bool = False

    def __str__(self) -> str:
        sign = "+" if self.signed else ""
        shown = f"{self.mean:{sign}.{self.decimals}f}"
        smallest = 10.0**-self.decimals
        if self.positive and self.mean < smallest:
            shown = f"<{smallest:.{self.decimals}f}"
        if self.low is not None and self.high is not None:
            shown += f" [{self.low:{sign}.{self.decimals}f}, {self.high:{sign}.{self.decimals}f}]"
        return f"{shown} ({self.note})" if self.note else shown


@dataclass(frozen=True)
class Missing:
    """A cell that belongs in the table and has no result."""

    def __str__(self) -> str:
        return "missing"


@dataclass(frozen=True)
class Absent:
    """A cell that cannot be: the paper has no such number."""

    def __str__(self) -> str:
        return "—"


MISSING, ABSENT = Missing(), Absent()
Cell = str | Value | Missing | Absent
Row = tuple[Cell, ...]
#: The leading cells that neighbouring rows share, and these rows, whole.
Block = tuple[Row, list[Row]]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: e.g. ``ours``.
        group: what several neighbouring columns have in common, e.g. ``macro-F1``; empty for none.
        interval: whether its numbers have intervals: CSV then gives it three columns.
    """

    name: str
    group: str = ""
    interval: bool = False

    @property
    def full_name(self) -> str:
        """Name with group, for headers of one line."""
        return f"{self.group} {self.name}".strip()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        key: file name without suffix, and the anchor on the page.
        title: one line.
        caption: what the numbers are and how to read them; plain text.
        rows: as many cells as there are columns, each.
        grouped: how many leading columns name a block of rows.
        notes: further lines below the table.
    """

    kind: ClassVar[str] = "table"

    key: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    grouped: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = next((row for row in self.rows if len(row) != len(self.columns)), None)
        if wrong is not None:
            raise ValueError(f"table {self.key}: a row has {len(wrong)} cells for {len(self.columns)} columns: {wrong}")

    def blocks(self) -> list[Block]:
        """Neighbouring rows with the same leading cells."""
        found: list[Block] = []
        for row in self.rows:
            lead = row[: self.grouped]
            if not found or found[-1][0] != lead:
                found.append((lead, []))
            found[-1][1].append(row)
        return found

    def missing(self) -> int:
        """How many rows lack a result."""
        return sum(self.lacks(row) for row in self.rows)

    def lacks(self, row: Row) -> bool:
        """Whether a row has no result of ours: something is missing, and no number has an interval."""
        ours = [cell for column, cell in zip(self.columns, row, strict=True) if column.interval]
        return any(isinstance(cell, Missing) for cell in row) and not any(isinstance(cell, Value) for cell in ours)

    def header_groups(self) -> list[tuple[str, int]]:
        """Neighbouring columns of one group: [(group, how many)]; each column without a group counts as its own."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if column.group and found and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found
