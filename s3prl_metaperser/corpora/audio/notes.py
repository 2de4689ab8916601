"""Notes about audio that is read all the same: each once, and not a thousand of one kind."""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from pathlib import Path

from s3prl_metaperser.errors import printable
from s3prl_metaperser.progress import tqdm

#: So many notes of one kind are printed.
MOST_OF_A_KIND = 5

_lock = threading.Lock()
_told: set[tuple[str, str]] = set()
_kinds: Counter[str] = Counter()


def tell(path: str | Path, what: str) -> None:
    """Print a note about a file to stderr, unless it was printed before or there were enough of its kind."""
    kind = re.sub(r"\d+", "", what)
    with _lock:
        if (str(path), what) in _told:
            return
        _told.add((str(path), what))
        _kinds[kind] += 1
        count = _kinds[kind]
    if count <= MOST_OF_A_KIND:
        tqdm.write(printable(f"note: {path}: {what}"), file=sys.stderr)
    elif count == MOST_OF_A_KIND + 1:
        tqdm.write("note: more files are like that; `metaperser validate` lists those of a corpus.", file=sys.stderr)
