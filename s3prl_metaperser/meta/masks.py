"""Random numbers of a forward pass (dropout's masks) as a function of names, so that it can be made again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch

from s3prl_metaperser.seeding import seed_from


@contextlib.contextmanager
def drawn_from(devices: Iterable[torch.device], *names: object) -> Iterator[None]:
    """Within the block torch's draws are a function of ``names``; the global state is put back.

    Args:
        devices: where the pass computes; only CUDA's have a state of their own.
        names: such as seed, inner step and micro-batch.
    """
    cuda = sorted({device.index or 0 for device in devices if device.type == "cuda"})
    with torch.random.fork_rng(devices=cuda):
        seed = seed_from("dropout", *names)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed keeps a call and its traceback for each device
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
