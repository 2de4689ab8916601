"""Activation checkpointing that stays correct under ``functional_call``.

``torch.utils.checkpoint`` runs a layer again during the backward pass. By then ``functional_call`` has restored
the layer's own parameters, and the gradient is silently that of another model. Here the parameters used in the forward
pass are passed to the checkpointed function, which uses them again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack.replaced import replaced


class _Unhooked(nn.Module):
    """Calls a layer's forward without its hooks, which would report a recomputed layer a second time."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return type(self.layer).forward(self.layer, *args, **kwargs)


@contextlib.contextmanager
def recomputed(upstream: nn.Module) -> Iterator[None]:
    """Within the block, the upstream's transformer layers keep only their inputs and run again in the backward pass.

    Dropout masks are the same both times. Double backward is exact, too, but saves next to nothing: the graph of a
    gradient holds the recomputed layers all the same. Against memory of second-order steps lower
    ``micro_batch_seconds``.

    Raises:
        UserError: the upstream has no list of transformer layers where s3prl's and Hugging Face's models have it.
    """
    layers = getattr(getattr(getattr(upstream, "model", None), "encoder", None), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UserError("activation_checkpointing is not available for this upstream. Set it to false.")
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(replaced(layer, "forward", _checkpointing(layer)))
        yield


def _checkpointing(layer: nn.Module) -> Any:
    unhooked = _Unhooked(layer)

    def forward(*args: Any, **kwargs: Any) -> Any:
        names = [f"layer.{name}" for name, _ in layer.named_parameters()]
        current = [parameter for _, parameter in layer.named_parameters()]

        def run(parameters: list[Tensor], *args: Any, **kwargs: Any) -> Any:
            with sdpa_kernel(SDPBackend.MATH):  # the recomputation happens after the caller's context has ended
                return torch.func.functional_call(
                    unhooked, dict(zip(names, parameters, strict=True)), args, kwargs, strict=False
                )

        return checkpoint(run, current, *args, use_reentrant=False, preserve_rng_state=layer.training, **kwargs)

    return forward
