"""Fine-tuning a whole upstream (``-f``): preparing it, and upstream and head as one model.

Its options (``options`` below; any object with these attributes)::

    adapt: str = "all"               all, top:N or names of groups (:mod:`s3prl_metaperser.upstream.groups`)
    train_front_end: bool = False    train the convolutions over the waveform, which s3prl also freezes
    micro_batch_seconds: float = 20  padded audio in one forward pass (:func:`.micro_batches.micro_batches`)
    longest_seconds: float = 15      longer utterances are cropped (:mod:`s3prl_metaperser.upstream.inputs`)
    bf16: bool = False               autocast to bfloat16, on CUDA only
    activation_checkpointing: bool = False   (:mod:`s3prl_metaperser.upstream.recompute`)
    dropout: bool = False            the checkpoint's own dropout rates, with masks that a seed repeats
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_metaperser.corpora.audio import RATE
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta.stateless import in_place_of_its_own
from s3prl_metaperser.meta.twice import double_backward_attention, refuse_once
from s3prl_metaperser.meta.weight_norm import replace_fused
from s3prl_metaperser.upstream.batching import hidden_states
from s3prl_metaperser.upstream.groups import adapting
from s3prl_metaperser.upstream.pooling import Pooling, pooled_frames
from s3prl_metaperser.upstream.recompute import recomputed


def prepare(upstream: nn.Module, options: Any) -> None:
    """Prepare an s3prl upstream for fine-tuning and second derivatives, in place; its state dict keeps its keys.

    Weight norm is composed of elementary operations; layerdrop and SpecAugment are off; the convolutional front-end
    runs without a graph unless it is trained; only parameters that ``options.adapt`` names require a gradient; the
    upstream is in evaluation mode, with gradients on.

    Raises:
        UserError: ``options.adapt`` fits no parameters of this upstream.
    """
    names = adapting(upstream, options.adapt, options.train_front_end)
    for name, parameter in upstream.named_parameters():
        parameter.requires_grad_(name in names)
    replace_fused(upstream)
    for module in upstream.modules():
        wanted = {"layerdrop": 0.0, "encoder_layerdrop": 0.0}
        wanted["feature_grad_mult"] = 1.0 if options.train_front_end else 0.0  # 0 is no_grad; else no double backward
        for attribute, value in wanted.items():
            if isinstance(getattr(module, attribute, None), int | float):
                setattr(module, attribute, value)
        config = getattr(module, "config", None)  # Hugging Face's
        for attribute, off in (("layerdrop", 0.0), ("apply_spec_augment", False)):
            if hasattr(config, attribute):
                setattr(config, attribute, off)
        if isinstance(getattr(module, "_requires_grad", None), bool):  # Hugging Face's front-end
            module._requires_grad = options.train_front_end
    upstream.eval()


class FineTunedModel(nn.Module):
    """Upstream and head as one model from waveforms to logits.

    The upstream is prepared (:func:`prepare`). One backward pass on a second of noise then finds functions without a
    second derivative, which are refused, and parameters that the logits do not depend on (used only in pre-training, or
    above the selected layer), which are excluded.

    In training mode with ``options.dropout`` the upstream's dropout is on; otherwise it is always off, whatever
    the upstream's own mode.

    Args:
        upstream: from s3prl's hub.
        head: from pooled features [K, L, D] of the selected layers to logits [K, C].
        options: see the module's docstring.
        selection: s3prl's ``-s``.
        layer: s3prl's ``-l``, one layer of the selected features instead of all.
        normalize: layer norm of each frame (``--upstream_feature_normalize``).
        pooling: of frames over time (:func:`.pooled_frames`).

    Raises:
        UserError: no parameter of the upstream would adapt.
        NotTwice: a function in it has no second derivative (:mod:`s3prl_metaperser.meta.twice`).
    """

    def __init__(
        self,
        upstream: nn.Module,
        head: nn.Module,
        options: Any,
        selection: str = "hidden_states",
        layer: int | None = None,
        normalize: bool = False,
        pooling: Pooling = "mean",
    ):
        super().__init__()
        prepare(upstream, options)
        self.pooling = pooling
        self.upstream, self.head = upstream, head
        self.options = options
        self._batch_norms = tuple(m for m in upstream.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
        self.selection, self.layer, self.normalize = selection, layer, normalize
        if selection == "hidden_states" and layer is not None and layer >= 0 and getattr(upstream, "hooks", None):
            self.selection, self.layer = f"hidden_state_{layer}", None  # so that nothing above it is in the graph
        self.eval()
        self._exclude_unused()

    def forward(self, wavs: list[Tensor]) -> Tensor:
        """Logits [K, C] of waveforms, each [n] at 16 kHz on the model's device; their grouping changes nothing."""
        return self.head(self.embed(wavs))

    def embed(self, wavs: list[Tensor]) -> Tensor:
        """Pooled features of the selected layers, [K, L, D]: all that the head needs of the frames."""
        self._set_dropout()
        with contextlib.ExitStack() as stack:
            if self.options.bf16 and wavs[0].is_cuda:
                stack.enter_context(torch.autocast("cuda", torch.bfloat16))
            if self.options.activation_checkpointing and torch.is_grad_enabled():
                stack.enter_context(recomputed(self.upstream))
            states = hidden_states(self.upstream, wavs, self.selection)
        return torch.stack([self._pooled(frames, len(wav) / RATE) for frames, wav in zip(states, wavs, strict=True)])

    def named_adapted(self) -> dict[str, nn.Parameter]:
        """The parameters that adapt, by name, the head's among them; in an order that does not change."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def functional(self, parameters: Mapping[str, Tensor], wavs: list[Tensor]) -> Tensor:
        """Logits [K, C] with these ``parameters`` in place of the model's own; they may be differentiated twice.

        Args:
            parameters: exactly those of :meth:`named_adapted`, by name.

        Raises:
            ValueError: a parameter is missing or unknown.
        """
        expected = self.named_adapted().keys()
        if parameters.keys() != expected:
            missing, unknown = sorted(expected - parameters.keys()), sorted(parameters.keys() - expected)
            raise ValueError(f"parameters must be those that adapt: missing {missing[:3]}, unknown {unknown[:3]}")
        in_force = getattr(self.head, "in_force", dict)  # a head may hold additions to the upstream's parameters
        with double_backward_attention(), in_place_of_its_own(self, in_force(parameters)):
            return self(wavs)

    def _pooled(self, frames: Tensor, seconds: float) -> Tensor:
        """[L, T, D] -> [L', D], in at least float32."""
        if self.layer is not None:
            frames = frames[self.layer].unsqueeze(0)
        if frames.dtype in (torch.bfloat16, torch.float16):
            frames = frames.float()
        if self.normalize and len(frames) > 1:  # as s3prl: only what is summed
            frames = F.layer_norm(frames, frames.shape[-1:])
        return pooled_frames(frames, seconds, self.pooling)

    def _set_dropout(self) -> None:
        wanted = self.training and self.options.dropout
        if self.upstream.training != wanted:
            self.upstream.train(wanted)
        for norm in self._batch_norms:
            norm.eval()  # batch statistics would tie the utterances of a batch together

    def _exclude_unused(self) -> None:
        parameters = [p for p in self.upstream.parameters() if p.requires_grad]
        if not parameters:
            raise UserError("This upstream has no parameters to fine-tune. Remove -f, or choose another tunerc.adapt.")
        example = next(self.head.parameters())
        noise = torch.randn(16000, generator=torch.Generator().manual_seed(0)).to(example)
        with torch.enable_grad():
            logits = self([noise])
        refuse_once(logits)
        gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)
        if all(gradient is None for gradient in gradients):
            raise UserError(
                f"No parameter in tunerc.adapt: {self.options.adapt} affects the selected features. "
                "Choose other parameters or other features (-s, -l)."
            )
