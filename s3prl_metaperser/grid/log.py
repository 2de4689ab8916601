"""The output of a running cell: lines go to the cell's log, progress bars to the grid's own bar."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

#: ``Meta-PerSER:  40%|####      | 60/150 [00:03<...``
_BAR = re.compile(r"^(?P<what>[^|]*?):\s+(?P<share>\d+%)\|")


class CellLog(io.TextIOBase):
    """A stream for stdout and stderr.

    Args:
        file: where whole lines go.
        progress: called with ``SSL-E 40%`` whenever a progress bar inside moves.
    """

    def __init__(self, file: io.TextIOBase, progress: Callable[[str], None]):
        self._file, self._progress = file, progress

    def write(self, text: str) -> int:
        if "\r" in text or "\x1b" in text:  # a bar redraws itself; only what it says last is kept, by the bar outside
            if found := _BAR.match(text.rsplit("\r", 1)[-1]):
                self._progress(f"{found['what'].strip()} {found['share']}")
        elif text.strip():
            self._file.write(text if text.endswith("\n") else f"{text}\n")
        return len(text)

    def flush(self) -> None:
        if not self._file.closed:  # Python flushes a stream that it throws away, too, and from 3.13 on says what fails
            self._file.flush()


@contextlib.contextmanager
def speaking_into(path: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Within the block, what is printed goes to the end of ``path``."""
    with open(path, "a", encoding="utf-8") as file:
        log = CellLog(file, progress)
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            yield
