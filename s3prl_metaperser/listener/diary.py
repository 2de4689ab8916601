"""What a listener did besides answering: how often a clip was played, whether to its end, and how long it took.

Times are the server's: from the first play since the clip was opened to its answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from s3prl_metaperser.corpora.answer_facts import AT, HEARD, PLAYS, SECONDS, WHOLE


@dataclass
class Entry:
    """One clip.

    Attributes:
        plays: how often it was started from its beginning.
        whole: whether it was heard to its end.
        opened, started: when it was come to last, and when it was played first since then; in seconds of a clock that
            never goes back.
    """

    plays: int = 0
    whole: bool = False
    opened: float | None = None
    started: float | None = None


class Diary:
    """Entries by a clip's address on the page, such as ``clip/3``."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._shown: str | None = None

    def __getitem__(self, where: str) -> Entry:
        return self._entries.setdefault(where, Entry())

    def opened(self, where: str) -> None:
        """The page of a clip, or of a break, is shown; a reload is no new one."""
        if where != self._shown:
            self[where].opened, self[where].started = time.monotonic(), None
        self._shown = where

    def played(self, where: str) -> None:
        """A clip is played from its beginning."""
        entry = self[where]
        entry.plays += 1
        entry.started = entry.started or time.monotonic()

    def ended(self, where: str) -> None:
        """A clip was played to its end."""
        self[where].whole = True

    def facts(self, where: str) -> dict[str, str]:
        """``plays``, ``heard``, ``response_time`` in seconds and ``labelled_at`` in UTC of an answer given now."""
        entry, self._shown = self[where], None
        start = entry.started or entry.opened
        return {
            PLAYS: str(entry.plays),
            HEARD: WHOLE if entry.whole else "",
            SECONDS: "" if start is None else f"{time.monotonic() - start:.3f}",
            AT: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def resume(self, where: str, facts: Mapping[str, str]) -> None:
        """What an earlier session wrote of a clip."""
        entry = self[where]
        entry.plays = int(facts[PLAYS]) if facts.get(PLAYS, "").isdecimal() else 0
        entry.whole = facts.get(HEARD) == WHOLE
