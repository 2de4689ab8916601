"""A page from beginning to end: the server first, then the browser, until a signal."""

from __future__ import annotations

import contextlib
import html
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from s3prl_metaperser.listener.server import ListeningServer

_REDIRECT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}"><title>What do you hear?</title></head>
<body><p><a href="{url}">To the listening page</a></p></body></html>
"""
#: Browsers in a snap see the visible part of the home folder and nothing else.
_SNAPS = Path("/snap/bin")


def serve(server: ListeningServer, *, browser: bool) -> None:
    """Serve until SIGINT or SIGTERM, see :func:`ended_by_signals`.

    Args:
        browser: open one. It gets a file that redirects it, in a thread: a text browser ends when its user leaves it.
    """
    with contextlib.ExitStack() as until_end:
        if browser:
            try:
                page = until_end.enter_context(redirection(server.urls[0]))
            except OSError as error:
                print(f"no browser is opened ({error}): open the address yourself", file=sys.stderr)
            else:
                threading.Thread(target=_show, args=(page,), name="browser", daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


@contextlib.contextmanager
def redirection(url: str) -> Iterator[Path]:
    """A file that leads to ``url`` and that only its owner can read, while the block lasts.

    ``url`` holds the page's key. On a browser's command line every user of the machine could read it.
    """
    handle, name = tempfile.mkstemp(".html", "metaperser-listen-", _own_folder())
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(_REDIRECT.format(url=html.escape(url)))
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGINT, SIGTERM and a closed terminal raise KeyboardInterrupt in this block, which the main thread is in.

    The first two also where they were inherited as ignored or blocked: a script's background job ignores SIGINT.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _own_folder() -> str | None:
    """Where a browser of this user finds a file; None for the system's folder of temporary files."""
    if _SNAPS.is_dir() and os.access(home := Path.home(), os.W_OK):
        return str(home)
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return runtime if runtime and os.access(runtime, os.W_OK) else None


def _show(page: Path) -> None:
    import webbrowser

    try:
        shown = webbrowser.open(page.as_uri())
    except (webbrowser.Error, OSError):
        shown = False
    if not shown:
        print("no browser could be opened: open the address yourself", file=sys.stderr)
