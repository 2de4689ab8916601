"""The progress bar of all long work: a bar that moves on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm as _tqdm

#: Between two lines where nobody watches.
SECONDS = 10.0


class tqdm(_tqdm):
    """tqdm as it is on a terminal. Elsewhere whole lines, the first after ten seconds, and one at the end.

    >>> import io
    >>> log = io.StringIO()
    >>> for _ in tqdm(range(3), desc="counting", file=log, ncols=60):
    ...     pass
    >>> log.getvalue().count("\\n"), log.getvalue().startswith("counting: 100%")
    (1, True)
    """

    def __init__(self, *arguments: Any, **options: Any):
        stream = options.get("file") or sys.stderr
        self._in_lines = not getattr(stream, "isatty", lambda: False)()
        self._shown = time.monotonic()
        options.setdefault("dynamic_ncols", "ncols" not in options)
        if self._in_lines:
            options["mininterval"] = max(options.get("mininterval", 0), SECONDS)
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        if not self._in_lines:
            return super().display(msg, pos)
        now = time.monotonic()
        if now - self._shown >= SECONDS:
            self._line()
            self._shown = now
        return True

    def clear(self, nolock: bool = False) -> None:
        if not self._in_lines:
            super().clear(nolock)

    def close(self) -> None:
        if self.disable or not self._in_lines:
            super().close()
            return
        if self.leave and time.time() - self.start_t >= (self.delay or 0):
            self._line()
        self.leave = False
        self.disable = True  # nothing is left to clear
        getattr(self, "_decr_instances")(self)  # noqa: B009  (the stubs do not know it)

    def _line(self) -> None:
        self.fp.write(f"{self}\n")
        self.fp.flush()
