"""Long work shows a bar on a terminal, and whole lines in a log."""

from __future__ import annotations

import doctest
import io
from pathlib import Path

from s3prl_metaperser import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, monkeypatch, **options):
    clock = iter(range(0, 10_000, 4))  # four seconds between two looks at it
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.tqdm(total=9, desc="work", file=stream, ncols=70, miniters=1, mininterval=0, **options) as bar:
        for _ in range(9):
            bar.display()
            bar.update()
        progress.tqdm.write("a note", file=stream)
    return stream.getvalue()


def test_a_log_has_a_line_every_ten_seconds_and_one_at_the_end(monkeypatch):
    lines = shown(io.StringIO(), monkeypatch).splitlines()
    assert all(line.startswith("work:") or line == "a note" for line in lines)
    assert "100%" in lines[-1]
    assert 3 <= len(lines) <= 7


def test_a_terminal_has_one_line_that_changes(monkeypatch):
    text = shown(Terminal(), monkeypatch)
    assert text.count("\r") > 5
    assert text.count("\n") == 2  # the note, and the end


def test_what_leaves_nothing_on_a_terminal_leaves_no_last_line_in_a_log(monkeypatch):
    assert "100%" not in shown(io.StringIO(), monkeypatch, leave=False)


def test_what_is_shown_only_when_it_takes_long_is_not_shown_at_its_end_either():
    log = io.StringIO()
    for _ in progress.tqdm([], desc="reading", file=log, ncols=70, delay=60):
        pass
    assert log.getvalue() == ""


def test_its_example_runs():
    assert doctest.testmod(progress).failed == 0


def test_every_bar_of_the_package_is_this_one():
    own = Path(progress.__file__)
    others = [path for path in own.parent.rglob("*.py") if path != own and "from tqdm" in path.read_text()]
    assert others == []
