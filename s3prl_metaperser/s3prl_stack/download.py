"""Download one checkpoint, whole or not at all, with an error within seconds that says what to do."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.atomic import replacing
from s3prl_metaperser.storage.locks import PATIENCE, held

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
CHUNK_BYTES = 1 << 20
#: How long an address that did not answer is not asked again by the same process, such as for the next cell of a grid.
SILENCE_SECONDS = 600.0
_silent: dict[str, tuple[float, DownloadFailed]] = {}


class DownloadFailed(UserError):
    """A checkpoint could not be fetched.

    Attributes:
        url: the address asked for.
        path: the file in which s3prl would look for it.
    """

    def __init__(self, url: str, path: str | Path, reason: str):
        self.url = url
        self.path = Path(path)
        super().__init__(
            f"Could not download {url} ({reason}). Download it on another machine and save it under exactly the "
            f"name that s3prl expects: {self.path} ."
        )


def fetch(path: str | Path, url: str, refresh: bool = False, new_enough_secs: float = 2.0) -> None:
    """Make ``path`` the content of ``url``, unless the file exists.

    Same arguments and meaning as s3prl's own download function, which this replaces. A file
    younger than ``new_enough_secs`` is not refreshed again (several processes may ask at once).

    Raises:
        DownloadFailed: no connection (none is tried where there was no answer just now), an HTTP error, a broken
            transfer, or a folder that cannot be made.
        CannotWrite: the disk is full, or the file may not be written.
    """
    path = Path(path)
    if _usable(path, refresh, new_enough_secs):
        return
    if url in _silent and time.monotonic() - _silent[url][0] < SILENCE_SECONDS:
        raise _silent[url][1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path):
            if not _usable(path, refresh, new_enough_secs):
                _transfer(url, path)
    except OSError as error:  # requests' exceptions are OSErrors, too
        from requests import ConnectTimeout

        failed = DownloadFailed(url, path, _reason(error))
        if isinstance(error, ConnectTimeout):
            _silent[url] = time.monotonic(), failed
        raise failed from error


def _usable(path: Path, refresh: bool, new_enough_secs: float) -> bool:
    return path.is_file() and not (refresh and time.time() - path.stat().st_mtime > new_enough_secs)


def _lock(path: Path) -> contextlib.AbstractContextManager[None]:
    """One process at a time; s3prl's own download takes the same lock."""
    return held(path.with_name(path.name + ".lock"), f"download {path}", wait=PATIENCE)


def _transfer(url: str, path: Path) -> None:
    import requests

    from s3prl_metaperser.progress import tqdm

    headers = {"User-Agent": "s3prl-metaperser", "Accept-Encoding": "identity"}
    with requests.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS), headers=headers) as answer:
        answer.raise_for_status()
        size = int(answer.headers.get("Content-Length", 0))
        with replacing(path) as partial, open(partial, "wb") as file:
            with tqdm(total=size or None, unit="B", unit_scale=True, desc=f"Downloading {url}") as bar:
                for chunk in answer.iter_content(CHUNK_BYTES):
                    file.write(chunk)
                    bar.update(len(chunk))
            if size and file.tell() != size:
                raise OSError(f"the connection ended after {file.tell()} of {size} bytes")


def _reason(error: OSError) -> str:
    """The last, most telling part of a chain of connection errors, on one line."""
    text = str(error)
    for known in ("Name or service not known", "Temporary failure in name resolution", "Connection refused"):
        if known in text:
            return f"{type(error).__name__}: {known}"
    return f"{type(error).__name__}: {' '.join(text.split())[:200]}"
