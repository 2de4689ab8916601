"""A module with other tensors in place of its own for a while."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from torch import Tensor, nn
from torch.nn.utils.stateless import _reparametrize_module  # what torch.func.functional_call is made of


def in_place_of_its_own(module: nn.Module, tensors: Mapping[str, Tensor]) -> AbstractContextManager[None]:
    """Within the block ``module`` has ``tensors``, by name, tied ones under all their names; then it is as it was.

    ``torch.func.functional_call`` leaves the given tensors in a module that has a part under two names (T5, BART):
    what it puts back second is what it put in first (pytorch #164759, 2.13). Here the last goes first.
    """
    return _reparametrize_module(module, dict(tensors), tie_weights=True, stack_weights=True)
