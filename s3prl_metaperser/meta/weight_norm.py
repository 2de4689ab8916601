"""Weight norm that may be differentiated twice.

The positional convolution of wav2vec 2.0, HuBERT and WavLM is weight-normalised by ``torch._weight_norm``, whose double
backward is wrong (torch 2.8 to 2.13, dim 0 and last; ``gradgradcheck`` fails). A second-order gradient through it is
off by 4e-5 to 7e-4, and two reverse-mode computations agree on the wrong value. Here the same weight is composed of
elementary operations.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.weight_norm import WeightNorm


def composite_weight_norm(direction: Tensor, magnitude: Tensor, dim: int) -> Tensor:
    """``direction * magnitude / ||direction||``, the norm over all axes but ``dim``.

    Args:
        direction: v, of the weight's shape.
        magnitude: g, of the same number of axes, of size 1 on all but ``dim``; any broadcastable shape where ``dim``
            is -1, which in torch means one norm for the whole weight.
    """
    kept = () if dim == -1 else (dim % direction.dim(),)
    others = [axis for axis in range(direction.dim()) if axis not in kept]
    return direction * (magnitude / direction.square().sum(others, keepdim=True).sqrt())


class _Parametrization(nn.Module):
    """In place of torch's ``_WeightNorm`` (``torch.nn.utils.parametrizations``), which has no parameters either."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, magnitude: Tensor, direction: Tensor) -> Tensor:
        return composite_weight_norm(direction, magnitude, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return torch.norm_except_dim(weight, 2, self.dim), weight


class _Hook(WeightNorm):
    """In place of the forward hook of ``torch.nn.utils.weight_norm``."""

    def compute_weight(self, module: nn.Module) -> Tensor:
        direction, magnitude = getattr(module, f"{self.name}_v"), getattr(module, f"{self.name}_g")
        return composite_weight_norm(direction, magnitude, self.dim)


class _Release:
    """After the forward: the weight stays for the reader, its graph and what that keeps alive do not."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        setattr(module, self.name, getattr(module, self.name).detach())


def replace_fused(model: nn.Module) -> int:
    """Replace every fused weight norm in ``model``; parameters and their names stay as they are.

    Returns:
        how many there were.
    """
    count = 0
    for module in model.modules():
        for key, hook in list(module._forward_pre_hooks.items()):
            if type(hook) is WeightNorm:
                module._forward_pre_hooks[key] = _Hook(hook.name, hook.dim)
                module.register_forward_hook(_Release(hook.name))
                setattr(module, hook.name, getattr(module, hook.name).detach())
                count += 1
        for name, part in list(module._modules.items()):
            if part is not None and _is_fused_parametrization(part):
                module._modules[name] = _Parametrization(cast(int, part.dim))
                count += 1
    return count


def fused_weight_norms(model: nn.Module) -> list[str]:
    """The names of the modules whose weight norm :func:`replace_fused` would replace."""
    found = []
    for name, module in model.named_modules():
        hooked = any(type(hook) is WeightNorm for hook in module._forward_pre_hooks.values())
        owner = name.split(".parametrizations.")[0] if _is_fused_parametrization(module) else name
        if hooked or owner != name:
            found.append(owner or type(model).__name__)
    return found


def _is_fused_parametrization(module: Any) -> bool:
    return type(module).__name__ == "_WeightNorm" and type(module).__module__ == "torch.nn.utils.parametrizations"
