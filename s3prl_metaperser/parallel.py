"""Several processes that share one meta-batch: ``torchrun --nproc_per_node N run_downstream.py ... -f``.

Every process draws the same episodes and holds the same parameters; each computes the gradients of its share of raters,
and sums are taken over all. Only the leader writes files and prints.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed

from s3prl_metaperser.errors import UserError

Item = TypeVar("Item")

#: How long one process waits for the others. Evaluations and checkpoints of the leader are waited for, too.
PATIENCE = datetime.timedelta(minutes=60)


def wanted() -> bool:
    """Whether torchrun has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def start(backend: str, device: str) -> str:
    """Join the group that torchrun has made; returns this process's device.

    Raises:
        UserError: more processes than GPUs.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.startswith("cuda"):
        if local >= torch.cuda.device_count():
            raise UserError(
                f"Process {local} has no GPU: there are {torch.cuda.device_count()}. Lower --nproc_per_node."
            )
        torch.cuda.set_device(local)
        distributed.init_process_group(backend, timeout=PATIENCE)
        return f"cuda:{local}"
    distributed.init_process_group("gloo", timeout=PATIENCE)
    return device


def stop() -> None:
    """Leave the group, if there is one."""
    if _on():
        distributed.destroy_process_group()


def leave() -> None:
    """End a process of several that has done its work; returns where it is the only one.

    It ends without the interpreter's own finalisation: a thread of the group's backend that still drops a tensor then
    asks for the interpreter's lock, which before Python 3.14 aborts the process ("terminate called without an active
    exception"), and torchrun takes a job for failed whose results are complete.
    """
    if not _on():
        return
    wait()  # a process that ends early would be missed by the others' last exchange
    stop()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def rank() -> int:
    """This process's number; 0 where there is only one."""
    return distributed.get_rank() if _on() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _on() else 1


def is_leader() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def share(items: Sequence[Item]) -> list[tuple[int, Item]]:
    """(index, item) of those that are this process's: every N-th."""
    return [(index, item) for index, item in enumerate(items) if index % world() == rank()]


def sum_gradients(parameters: Iterable[torch.Tensor]) -> None:
    """Sum ``.grad`` over processes, in place; missing gradients count as zero."""
    if not _on():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)


def sum_value(value: float) -> float:
    """The sum of one number over processes."""
    if not _on():
        return value
    total = torch.tensor(value, dtype=torch.float64)
    if distributed.get_backend() == "nccl":
        total = total.cuda()
    distributed.all_reduce(total)
    return total.item()


def gather(value: Any) -> list[Any]:
    """Every process's value, by rank."""
    if not _on():
        return [value]
    found: list[Any] = [None] * world()
    distributed.all_gather_object(found, value)
    return found


def wait() -> None:
    """Wait until every process has arrived."""
    if _on():
        distributed.barrier()


def _on() -> bool:
    return distributed.is_available() and distributed.is_initialized()
