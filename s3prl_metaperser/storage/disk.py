"""Readable errors for full or read-only disks, and cleanup after killed processes.

Whatever is being written has a hidden name (``.NAME.RANDOM.part``) and is locked by the process that writes it. The
system releases that lock when the process ends, however it ends: what nobody holds is a leftover and can be removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from s3prl_metaperser.errors import UserError, shown

_FREE_SPACE = (
    "{folder} has {free:.1f} MB left. Free some space, or choose another location (-p for experiments, "
    "METAPERSER_CACHE for the cache)."
)
_INODES = (
    "The file system of {folder} holds as many files and folders as it can, although {free:.1f} MB are free. Delete "
    "some files, however small, or choose another location (-p for experiments, METAPERSER_CACHE for the cache)."
)
_PERMISSIONS = "Fix the permissions of {folder}, or choose another location."
_LIMIT = "The limit on a file's size (ulimit -f) is too low, or the file system has one. Raise it."
_OTHER = "Choose another location, or fix this one."
#: Error number -> what to do.
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FREE_SPACE),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _PERMISSIONS),
    errno.EFBIG: _LIMIT,
    **dict.fromkeys((errno.EIO, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR), _OTHER),
    **dict.fromkeys((errno.EEXIST, errno.ESTALE, errno.ENXIO), _OTHER),
}
_KEPT = "No partial files remain and finished results are kept: run the same command again."


class CannotWrite(UserError):
    """The disk is full, or a file or folder may not be written.

    Attributes:
        reason: what the system said, such as "No space left on device".
    """

    def __init__(self, path: str | Path, number: int):
        self.reason, advice = os.strerror(number), _ADVICE[number]
        folder = next((p for p in (Path(path), *Path(path).absolute().parents) if p.exists()), Path("/"))
        free = shutil.disk_usage(folder).free / 1e6 if advice is _FREE_SPACE else 0
        if advice is _FREE_SPACE and no_inodes(folder):
            self.reason, advice = "No inodes left", _INODES
        advice = advice.format(folder=folder, free=free)
        super().__init__(f"Cannot write {path}: {self.reason}. {advice} {_KEPT}")


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn write errors of the disk in this block into one that names ``path`` and says what to do.

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


def no_inodes(folder: Path) -> bool:
    """Whether a file system holds as many files as it can; some (btrfs, say) have no such limit and report none."""
    found = os.statvfs(folder)
    return found.f_files > 0 and found.f_favail == 0


def system_error(error: OSError) -> UserError | None:
    """The error to show for one that no code expected; None where it is about neither a file nor the disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return CannotWrite(error.filename or "what this command writes", error.errno)
    if error.errno is None or error.filename is None:
        return None
    return UserError(f"Cannot use {shown(os.fsdecode(error.filename))}: {error.strerror}. Choose another location.")


def refusal(error: BaseException | None) -> int | None:
    """The errno with which a disk refused to be written, as the cause of ``error``; None for any other error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _ADVICE:
            return error.errno
        if not isinstance(error, OSError) and (number := reported(str(error))):  # by safetensors, which is Rust
            return number
        error = error.__cause__ or error.__context__
    return None


def reported(text: str) -> int | None:
    """The errno of a refusal in what another program or process says."""
    found = re.search(r"\(os error (\d+)\)|\[Errno (\d+)\]", text)
    number = int(found[1] or found[2]) if found else None
    return number if number in _ADVICE else None


# ------------------------------------------------------------------ what is being written, and what was left


def new_file(beside: Path) -> contextlib.AbstractContextManager[Path]:
    """An empty hidden file beside a path, held by this process until the block ends and removed then.

    What a killed process left beside the path is removed first.
    """
    return _new(beside, folder=False)


def new_folder(beside: Path) -> contextlib.AbstractContextManager[Path]:
    """The same for a folder."""
    return _new(beside, folder=True)


@contextlib.contextmanager
def _new(beside: Path, folder: bool) -> Iterator[Path]:
    leftovers = f".{glob.escape(beside.name)}.*.part"
    clear_leftovers(beside.parent, leftovers)
    handle, path = _claimed(beside, folder)
    try:
        yield path
    except Exception as error:  # while what fills the disk is still there, so that it can be told what is used up
        if isinstance(error, UserError) or (number := refusal(error)) is None:
            raise
        raise CannotWrite(beside, number) from error
    finally:
        shutil.rmtree(path, ignore_errors=True) if folder else path.unlink(missing_ok=True)
        os.close(handle)
        if folder:
            clear_leftovers(beside.parent, leftovers)  # a killed process's children may write on for a moment


def clear_leftovers(folder: Path, pattern: str = ".*.part") -> list[Path]:
    """Remove what matches and no process holds; returns what was removed."""
    removed = []
    for path in sorted(folder.glob(pattern)):
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to remove
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(handle) and is_at(handle, path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                    removed.append(path)
            finally:
                os.close(handle)
    return removed


def _claimed(beside: Path, folder: bool) -> tuple[int, Path]:
    """A new locked file or folder; created again if another process cleared it away before it was locked."""
    while True:
        path = beside.with_name(f".{beside.name}.{os.urandom(4).hex()}.part")
        if folder:
            path.mkdir()
        try:
            handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileNotFoundError:
            if not folder:  # the parent folder does not exist
                raise
            continue
        if _lock(handle) is not False and is_at(handle, path):
            return handle, path
        os.close(handle)


def _lock(handle: int) -> bool | None:
    """Whether this process holds it now; None on a file system without locks, where nobody clears anything away."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno == errno.EWOULDBLOCK else None
    return True


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
