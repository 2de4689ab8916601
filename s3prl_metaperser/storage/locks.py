"""Locks: one process at a time writes a file or folder, and a second one learns which process that is.

A lock is a file that its holder keeps open under ``flock``. The system takes the lock back from a process however it
ends, so that a file left behind blocks nobody. Where a file system refuses locks, a second file that is created
exclusively stands in for one: it names its holder, and one whose process is gone is taken away.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from s3prl_metaperser.errors import UserError, printable
from s3prl_metaperser.storage.disk import CannotWrite, is_at, refusal

#: How long a process waits for what another one makes for both (features, an initialisation, a corpus), in seconds.
PATIENCE = 24 * 3600.0
#: How long what a dead process started may go on holding its lock (the workers of a data loader, say), in seconds.
AFTERLIFE = 15.0
#: How long a new holder has to say who it is, in seconds.
NAMING = 0.2
#: How old a stand-in without content may be before it counts as a killed process's, in seconds.
UNNAMED = 10.0
POLL_SECONDS = 0.02
#: With these a file system says that it has no locks, or none that work.
_WITHOUT = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EIO, errno.ENOSYS})
_TAKEN = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})
#: Resolved paths of the locks that this thread holds.
_held = threading.local()
_told: set[Path] = set()


@dataclass(frozen=True)
class Holder:
    """Who holds a lock; process 0 where that is not known.

    Attributes:
        space: names the space that process numbers are of: two containers may have processes of one number.
        begun: when the process began, in the system's own count; numbers are used again.
        since: the local time at which it took the lock.
    """

    process: int = 0
    host: str = ""
    space: str = ""
    begun: str = ""
    since: str = ""

    @classmethod
    def this(cls) -> Holder:
        """This process."""
        return cls(os.getpid(), platform.node(), _space(), _begun(os.getpid()), time.strftime("%Y-%m-%d %H:%M:%S"))

    @classmethod
    def read(cls, text: str) -> Holder:
        """What a lock's file says; a file of an earlier version says nothing."""
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            content = json.loads(text)
            names = (str(content[key])[:200] for key in ("host", "space", "begun", "since"))
            return cls(int(content["process"]), *names)
        return cls()

    def is_gone(self) -> bool:
        """Whether the process has certainly ended."""
        if not self.process or (self.host, self.space) != (platform.node(), _space()):
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return bool(self.begun) and _begun(self.process) != self.begun

    def __str__(self) -> str:
        if not self.process:
            return "another process"
        return f"process {self.process} on {self.host}, since {self.since}"


class Held(UserError):
    """Another process writes what this one wants to write.

    Attributes:
        holder: that process.
    """

    def __init__(self, what: str, holder: Holder, stand_in: Path | None, waited: float = 0.0):
        self.holder = holder
        after = f" after {waited:.0f} s" if waited >= 1 else ""
        advice = "Wait until it is done, or end it."
        if stand_in is not None:
            advice += f" If it is not running any more, delete {stand_in}."
        super().__init__(f"{what} is{' still' * bool(after)} in use by {holder}{after}. {advice}")


def beside(path: str | Path) -> Path:
    """The lock of a file or folder that takes its place as a whole."""
    resolved = Path(path).resolve()
    return resolved.with_name(f".{resolved.name}.lock")


@contextlib.contextmanager
def held(lock: Path, what: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock within the block. In one thread a block may stand within another of the same lock.

    Args:
        lock: its file, which is there as long as somebody holds it.
        what: is written, for messages, such as ``experiment folder exp``.
        wait: for so many seconds, saying for whom, where the other process makes what this one wants, too.

    Raises:
        Held: another process or thread holds it.
        CannotWrite: the folder of the lock cannot be written to.
    """
    lock = Path(lock)
    lock = lock.parent.resolve() / lock.name
    mine: set[Path] = vars(_held).setdefault("locks", set())
    if lock in mine:
        yield
        return
    release = _acquired(lock, what, wait)
    mine.add(lock)
    try:
        yield
    finally:
        mine.discard(lock)
        release()


def trial(folder: Path) -> str:
    """Why locks do not work in a folder, in the system's words; empty where they do."""
    path = folder / f".lock-trial-{os.getpid()}-{threading.get_ident()}"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)
    return ""


def _acquired(lock: Path, what: str, wait: float) -> Callable[[], None]:
    begun, told = time.monotonic(), False
    while True:
        found = _attempt(lock)
        if not isinstance(found, tuple):
            return found
        holder, stand_in = found
        waited = time.monotonic() - begun
        least = AFTERLIFE if holder.is_gone() else NAMING if not holder.process else 0.0
        if waited >= max(wait, least):
            raise Held(what, holder, stand_in, waited if wait else 0.0)
        if not told and waited > 1:
            print(printable(f"[MetaPerSER] {what}: waiting for {holder}"), file=sys.stderr, flush=True)
            told = True
        time.sleep(POLL_SECONDS)


def _attempt(lock: Path) -> Callable[[], None] | tuple[Holder, Path | None]:
    """How to release the lock, which is held now; or who holds it, and the file that stands in for a lock."""
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if (number := refusal(error)) is None:
                raise
            raise CannotWrite(lock, number) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = Holder.read(_content(handle))
            os.close(handle)
            if error.errno in _TAKEN:
                return holder, None
            if error.errno in _WITHOUT:
                return _without_locks(lock, error)
            raise
        if is_at(handle, lock):
            _name_holder(handle)
            return lambda: _release(lock, handle)
        os.close(handle)  # its holder removed it while this process waited


def _release(lock: Path, handle: int) -> None:
    with contextlib.suppress(OSError):
        lock.unlink()  # before the lock is given back, so that nobody holds a file that is not there
    os.close(handle)


def _without_locks(lock: Path, error: OSError) -> Callable[[], None] | tuple[Holder, Path]:
    path = lock.with_name(f"{lock.name}.held")
    if lock.parent not in _told:
        _told.add(lock.parent)
        text = f"{lock.parent}: this file system has no locks ({error.strerror}); {path.name} stands in for one"
        print(printable(f"[MetaPerSER] {text}"), file=sys.stderr, flush=True)
    for _ in range(3):
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            try:
                text, age = path.read_text(encoding="utf-8"), time.time() - path.stat().st_mtime
            except (OSError, ValueError):  # gone meanwhile
                continue
            holder = Holder.read(text)
            if not (holder.is_gone() or (not holder.process and age > UNNAMED)):
                return holder, path
            _take_away(path, text)
            continue
        _name_holder(handle)
        os.close(handle)
        return lambda: _release_stand_in(lock, path)
    return Holder(), path


def _take_away(path: Path, text: str) -> None:
    """Remove a dead process's stand-in; of several processes that want to, none removes another's new one."""
    aside = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    with contextlib.suppress(OSError):
        os.rename(path, aside)
        if aside.read_text(encoding="utf-8") == text:
            aside.unlink()
        else:
            os.rename(aside, path)


def _release_stand_in(lock: Path, path: Path) -> None:
    for each in (lock, path):
        with contextlib.suppress(OSError):
            each.unlink()


def _name_holder(handle: int) -> None:
    with contextlib.suppress(OSError):  # on a full disk nobody learns who it is, and that is all
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(Holder.this())).encode(), 0)


def _content(handle: int) -> str:
    with contextlib.suppress(OSError):
        return os.pread(handle, 4096, 0).decode(errors="replace")
    return ""


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _begun(process: int) -> str:
    """When a process began; empty where the system does not say."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
