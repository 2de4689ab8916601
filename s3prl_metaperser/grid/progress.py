"""The bar over cells, with the time left; the output of each cell is in its own log."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.grid.work import Event
from s3prl_metaperser.progress import tqdm


class Progress:
    """Shows events; a context manager.

    Args:
        done: cells that were done before.
    """

    def __init__(self, cells: Sequence[Cell], done: int):
        self.cells, self.before = cells, done
        self.now, self.failed = 0, 0
        self._shown = 0.0

    def __enter__(self) -> Progress:
        self._bar = tqdm(total=len(self.cells), unit="cell", smoothing=0.05, mininterval=0.5, file=sys.stderr)
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()

    def tell(self, event: Event) -> None:
        """Show what happened."""
        cell = self.cells[event.cell]
        if event.kind in ("begun", "progress"):
            text = f"{cell.upstream.label} {cell.along('data', 'unit')} {cell.tested} {cell.system}"
            self._say(f"{text}: {event.text}" if event.text else text)
            return
        if event.kind == "failed":
            self.failed += 1
            self._bar.write(f"failed: {cell}: {event.text}", file=sys.stderr)
        else:
            self.now += 1
        self._bar.update()

    def summary(self, total: int) -> str:
        """The outcome of all cells, in one line."""
        left = total - self.before - self.now - self.failed
        parts = [f"{self.before + self.now} done ({self.now} now, {self.before} before)"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{left} left"] if left else []
        return f"{total} cells: {', '.join(parts)}"

    def _say(self, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)
        if time.monotonic() - self._shown > self._bar.mininterval:
            self._shown = time.monotonic()
            self._bar.refresh()
