"""The peak of memory within a block, on CUDA or, on Linux, on a CPU."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.errors import UserError

if TYPE_CHECKING:
    import torch

#: Of glibc: one arena, and every block of 64 KiB or more goes back to the system the moment it is freed, so that the
#: resident set is what is alive and not what was alive once. It costs time: never set where time is measured.
MEMORY_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


class Peak:
    """Bytes above what was there when it began; filled in at the end of :func:`peak_memory`."""

    bytes: int = 0


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """The peak of memory within the block, above what was in use at its beginning.

    On CUDA PyTorch's own count; elsewhere the resident set's high-water mark (Linux), which means something only
    in a process started with ``MEMORY_ENVIRONMENT``.

    Raises:
        UserError: on a CPU without Linux's ``/proc``.
    """
    peak = Peak()
    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    except OSError:
        raise UserError("Memory on a CPU can be measured on Linux only. Use a GPU.") from None
    before = _status("VmRSS")
    yield peak
    peak.bytes = _status("VmHWM") - before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}: resident memory can be read on Linux only")
