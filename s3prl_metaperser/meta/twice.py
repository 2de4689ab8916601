"""What torch cannot differentiate twice, found before anybody trains on a wrong gradient.

Three kinds: parts whose double backward is **wrong** (torch's fused weight norm: two reverse-mode computations agree on
the wrong value), parts that have **none** (fused attention, cuDNN's and oneDNN's recurrent layers, functions of one's
own marked ``once_differentiable``), and values changed **in place** after somebody kept them. The first is refused,
attention and recurrent layers run by another kernel while second derivatives are taken, and the rest is named.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils.checkpoint as checkpoints
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta.weight_norm import fused_weight_norms, replace_fused


class NotTwice(UserError):
    """A part of the model or of its loss cannot be differentiated twice."""


@dataclass(frozen=True)
class Finding:
    """One part that cannot be differentiated twice.

    Attributes:
        where: the module's name in the model, or ``"the loss"``.
        what: autograd's name of the part, such as ``CudnnRnnBackward0``.
        advice: what to use instead.
    """

    where: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.advice}"


#: A pattern of autograd's names: what to use instead.
_ADVICE = {
    r"Flash|Efficient|CudnnAttention|FusedAttention": (
        "Attention has a fused kernel of its own here. Use torch.nn.functional.scaled_dot_product_attention, whose "
        "mathematical kernel is chosen while second derivatives are taken, or an attention without fused kernels "
        "(Hugging Face: attn_implementation='eager')."
    ),
    r"CudnnRnn|Mkldnn.*Rnn|MkldnnRnn|Miopen": (
        "Run the recurrent layer without the vendor's kernel: torch.backends.cudnn.flags(enabled=False), "
        "torch.backends.mkldnn.flags(enabled=False)."
    ),
    r"WeightNorm": "Use s3prl_metaperser.meta.prepare(model), which composes it of elementary operations.",
    r"Ctc": "CTC has no second derivative in torch. Use a loss of elementary operations, or second_order=False.",
}
_ONCE = once_differentiable(lambda context: None).__code__  # that of every backward so marked
_OTHER = (
    "Write it of torch operations, or leave @once_differentiable away and make its backward differentiable; or use "
    "second_order=False."
)


def prepare(model: nn.Module) -> int:
    """Replace what torch differentiates twice wrongly, in place; parameters and their names stay as they are.

    Returns:
        how many parts were replaced (fused weight norms of ``torch.nn.utils``).
    """
    return replace_fused(model)


def refuse_fused(model: nn.Module) -> None:
    """Raise :class:`NotTwice` if ``model`` holds a part whose second derivatives torch gets wrong."""
    found = fused_weight_norms(model)
    if found:
        raise NotTwice(
            f"{found[0]} uses torch's fused weight norm, whose second derivatives are wrong. "
            "Call s3prl_metaperser.meta.prepare(model) once, or use second_order=False."
        )


@contextlib.contextmanager
def double_backward_attention() -> Iterator[None]:
    """Attention with a backend that can be differentiated twice; the fused ones cannot."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@contextlib.contextmanager
def differentiable_twice(model: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Within the block kernels are chosen that can be differentiated twice; errors that remain are put into words."""
    if not wanted:
        yield
        return
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with contextlib.ExitStack() as stack:
        stack.enter_context(double_backward_attention())
        if recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(_without_onednn())
        try:
            yield
        except RuntimeError as error:
            raise _in_words(error) from error


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    """torch.backends.mkldnn.flags also sets what a CPU build warns about."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


_BEGINS = checkpoints.check_backward_validity  # what a reentrant checkpoint, and nothing else, calls first


@contextlib.contextmanager
def reentrant_refused() -> Iterator[None]:
    """Within the block a checkpoint with ``use_reentrant=True`` raises :class:`NotTwice` as soon as it begins.

    It has no gradient by named parameters; torch says so on the way back, or, where none of its inputs has a gradient
    (it comes first in the model), leaves all of its parameters out, first order included, with a warning.
    """

    def refused(inputs: object) -> None:
        raise NotTwice(
            "A checkpoint with use_reentrant=True is in the model, which loses gradients here. "
            "Use torch.utils.checkpoint with use_reentrant=False (Hugging Face: "
            "gradient_checkpointing_enable({'use_reentrant': False}))."
        )

    checkpoints.check_backward_validity = refused
    try:
        yield
    finally:
        checkpoints.check_backward_validity = _BEGINS


def refuse_once(value: Tensor) -> None:
    """Raise :class:`NotTwice` if a function in the graph of ``value`` is marked ``once_differentiable``.

    Torch raises no error by itself where the gradient is asked for by name: the part is left out of the second
    derivative in silence.
    """
    for finding in _of_graph(value, {}):
        name = finding.what.removesuffix("Backward")
        raise NotTwice(f"The loss goes through {name}, which is marked @once_differentiable. {_OTHER}")


def not_twice(model: nn.Module, batch: Any, loss: Callable[[Any, Any], Tensor]) -> list[Finding]:
    """What of ``loss(model, batch)`` cannot be differentiated twice, by module; nothing is changed or trained.

    One forward pass, one gradient and one derivative of it. What a function of one's own computes *wrongly* no graph
    shows: :func:`s3prl_metaperser.meta.check` does.

    Args:
        model: as it will be trained.
        batch: a few samples suffice.
        loss: ``loss(model, batch)``, a scalar.
    """
    found = [Finding(name, "fused weight norm", _ADVICE["WeightNorm"]) for name in fused_weight_norms(model)]
    made_by: dict[Any, str] = {}
    hooks = [module.register_forward_hook(_noting(name, made_by)) for name, module in model.named_modules() if name]
    try:
        with differentiable_twice(model), torch.enable_grad():
            with reentrant_refused():
                value = loss(model, batch)
            found += _of_graph(value, made_by)
            if not found:
                _differentiated_twice(value, model)
    except NotTwice as error:
        found.append(Finding("the model or its loss", str(error).split(". ")[0], ". ".join(str(error).split(". ")[1:])))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _differentiated_twice(value: Tensor, model: nn.Module) -> None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
    moving = [g.sum() for g in gradients if g is not None and g.requires_grad]
    if moving:
        torch.autograd.grad(torch.stack(moving).sum(), parameters, allow_unused=True)


def _noting(name: str, made_by: dict[Any, str]) -> Callable[..., None]:
    """Notes which module made a node of the graph: the innermost one that gives it out first."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        for tensor in _tensors(output):
            if tensor.grad_fn is not None:
                made_by.setdefault(tensor.grad_fn, name)

    return hook


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _of_graph(value: Tensor, made_by: dict[Any, str]) -> list[Finding]:
    """Nodes that have no derivative of their own; each is named by the module whose output comes next after it."""
    found, seen = {}, set()
    waiting = [(value.grad_fn, "the loss")]
    while waiting:
        node, where = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        where = made_by.get(node, where)
        if _once(node):
            what = type(node).__name__
            found[where, what] = Finding(where, what, _advice(what))
        waiting += [(parent, where) for parent, _ in node.next_functions]
    return list(found.values())


def _once(node: Any) -> bool:
    """Whether a function of somebody's own, written in Python, is marked as differentiable once."""
    own = getattr(type(node), "_forward_cls", None)
    return own is not None and getattr(own.backward, "__code__", None) is _ONCE


def _advice(what: str) -> str:
    return next((text for pattern, text in _ADVICE.items() if re.search(pattern, what, re.IGNORECASE)), _OTHER)


def _in_words(error: RuntimeError) -> Exception:
    text = str(error).splitlines()[0]
    missing = re.search(r"derivative for '?(?:aten::)?(\w+)'? is not implemented", text)
    if missing:
        return NotTwice(f"torch has no second derivative of {missing[1]}. {_advice(missing[1])}")
    if "once_differentiable" in text:
        return NotTwice(f"A function of its own in the model or its loss is marked @once_differentiable. {_OTHER}")
    if "inplace operation" in text:
        return NotTwice(
            "A value that a derivative needs was changed in place (x += y, relu_(), inplace=True). Write x = x + y, "
            "inplace=False; torch.autograd.set_detect_anomaly(True) shows the line."
        )
    return error
