"""A disk that is full or may not be written, in words; and what processes that were killed left on it.

Whatever is being written lies under a hidden name and is locked by the process that writes it. The system takes that
lock back from a process that dies, however it dies: what nobody holds is a left-over and can go.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from s3prl_metaperser.errors import UserError, shown

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_OTHER = {
    errno.EFBIG,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ESTALE,
    errno.ENXIO,
}
_REFUSALS = _FULL | _FORBIDDEN | _OTHER
_KEPT = "Nothing half-written is left, and what was finished before is kept: then run the same again."


class CannotWrite(UserError):
    """The disk is full, or a file or folder may not be written.

    Attributes:
        reason: what the system said, such as "No space left on device".
    """

    def __init__(self, path: str | Path, number: int):
        self.reason = os.strerror(number)
        super().__init__(f"{path} cannot be written: {self.reason}. {_what_to_do(Path(path), number)}")


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Whatever the disk refuses in this block is an error that names ``path`` and says what to do.

    Raises:
        CannotWrite: in place of an OSError of the disk, or of what torch and safetensors make of one.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = refusal(error)
        if number is None:
            raise
        raise CannotWrite(path, number) from error


def system_error(error: OSError) -> UserError | None:
    """The error to show for one that nothing was prepared for; None where it is about neither a file nor the disk."""
    if error.errno in {*_FULL, errno.EFBIG, errno.EROFS}:
        return CannotWrite(error.filename or "What this command writes", error.errno)
    if error.errno is None or error.filename is None:
        return None
    return UserError(f"{shown(os.fsdecode(error.filename))} cannot be used: {error.strerror}. Name another place.")


def refusal(error: BaseException | None) -> int | None:
    """The errno with which a disk refused to be written, as the cause of ``error``; None for any other error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _REFUSALS:
            return error.errno
        if not isinstance(error, OSError) and (number := reported(str(error))):  # by safetensors, which is Rust
            return number
        error = error.__cause__ or error.__context__
    return None


def reported(text: str) -> int | None:
    """The errno of a refusal in what another program or process says."""
    found = re.search(r"\(os error (\d+)\)|\[Errno (\d+)\]", text)
    number = int(found[1] or found[2]) if found else None
    return number if number in _REFUSALS else None


def _what_to_do(path: Path, number: int) -> str:
    folder = _existing(path)
    if number in _FULL:
        free = shutil.disk_usage(folder).free
        return (
            f"{folder} has {free / 1e6:.1f} MB left. Free some space, or choose another place (-p for "
            f"experiments, METAPERSER_CACHE for the cache). {_KEPT}"
        )
    if number == errno.EFBIG:
        return f"The limit on a file's size (ulimit -f) is too low, or the file system has one. Raise it. {_KEPT}"
    if number in _FORBIDDEN:
        return f"Mend the rights of {folder}, or choose another place. {_KEPT}"
    return f"Choose another place, or mend this one. {_KEPT}"


def _existing(path: Path) -> Path:
    """The path or the nearest folder above it that exists."""
    return next((p for p in (path, *path.absolute().parents) if p.exists()), Path("/"))


# ------------------------------------------------------------------ what is being written, and what was left


@contextlib.contextmanager
def new_file(beside: Path) -> Iterator[Path]:
    """An empty hidden file beside a path, held by this process until the block ends; what is left of it then goes."""
    handle, path = _claimed(lambda: _make_file(beside))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def new_folder(beside: Path) -> Iterator[Path]:
    """The same for a folder. Folders of this kind that a killed process left beside the path are removed."""
    pattern = f".{glob.escape(beside.name)}.*.part"
    clear_leftovers(beside.parent, pattern)
    handle, path = _claimed(lambda: _make_folder(beside))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)
        clear_leftovers(beside.parent, pattern)  # a killed process's own processes may have written on for a moment


def clear_leftovers(folder: Path, pattern: str = ".*.part") -> list[Path]:
    """Remove what matches and no process holds; returns what was removed."""
    removed = []
    for path in sorted(folder.glob(pattern)):
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to remove
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(handle) and _is_at(handle, path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    removed.append(path)
            finally:
                os.close(handle)
    return removed


def umask() -> int:
    """This process's umask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _make_file(beside: Path) -> tuple[int, Path]:
    handle, name = tempfile.mkstemp(prefix=f".{beside.name}.", suffix=".part", dir=beside.parent)
    return handle, Path(name)


def _make_folder(beside: Path) -> tuple[int, Path]:
    path = Path(tempfile.mkdtemp(prefix=f".{beside.name}.", suffix=".part", dir=beside.parent))
    return os.open(path, os.O_RDONLY), path


def _claimed(make) -> tuple[int, Path]:
    """Something new that is locked; made again where another process cleared it away before it was."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            handle, path = make()
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno == errno.EWOULDBLOCK:
                    os.close(handle)
                    continue
                return handle, path  # a file system without locks: nobody clears anything away there
            if _is_at(handle, path):
                return handle, path
            os.close(handle)


def _lock(handle: int) -> bool:
    """Whether nobody held it, and now this process does."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
