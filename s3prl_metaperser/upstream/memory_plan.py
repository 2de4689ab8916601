"""How much memory one rater's exact outer step takes, before anything is loaded: an estimate, without torch.

With P the adapting parameters and S inner steps, all second-order, rates learned, an outer step of
:func:`s3prl_metaperser.meta.adjoint.outer_gradient` holds at its peak, beside the model itself::

    2 P                 AdamW's two moments
    1 P                 the outer gradient that the raters of a meta-batch add up to
    (S - 1) P           theta_s, kept from the inner steps for the adjoint steps (S P, the g_s, if all are first-order)
    3 P                 copies in an adjoint step: lambda as it was and as it becomes, and shares of H (eta * lambda)
                        that wait for others to be added to them; of a single micro-batch, whose graph is kept, its
                        gradient in place of one of them (2 P if all steps are first-order)
    activations         of one micro-batch in a Hessian-vector product (in a gradient, if all steps are first-order)

The activations of F frames (50 a second, padding included) in utterances of T frames are, in numbers of 4 bytes::

    F (blocks (LINEAR dim + FFN ffn + heads T ATTENTION) + OUTSIDE dim) + FRONT_END a frame, where that is trained

The constants are a least-squares fit to what ``benchmarks/speed/activation_memory.py`` measured (CPU, fp32, 8 and 16
seconds of audio, 2 to 12 blocks of Base's width and half of it), which they meet within 5 %, WavLM's within 10 %. What
is carried on beyond these measurements is named by :func:`basis`.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Any

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack.hub_index import check_upstream, load_upstream_config

FRAMES_PER_SECOND = 50
GIGABYTES = (16, 32, 80)
#: The setting that the shipped plans are for: the paper's K, the defaults of metarc and of fine-tuning.
SHOTS, INNER_STEPS, MEAN_SECONDS, LONGEST_SECONDS = 32, 5, 4.5, 15.0
#: Not to be had: CUDA's own context and kernels in bytes, and a share for what an allocator loses to fragmentation.
CONTEXT_BYTES, FRAGMENTATION = 0.6e9, 0.1

_PROJECTOR, _CLASSES, _CONV, _POSITION, _GROUPS = 256, 9, 512, 128, 16


@dataclass(frozen=True)
class _Constants:
    """Numbers of 4 bytes kept for each frame; see the module's docstring."""

    linear: float
    ffn: float
    attention: float
    outside: float
    front_end: float


_FIRST_ORDER = _Constants(linear=12.8, ffn=1.6, attention=1.0, outside=8.8, front_end=190e3)
_SECOND_ORDER = _Constants(linear=15.6, ffn=4.2, attention=4.8, outside=36.0, front_end=360e3)
# (first order, second order): WavLM's gated position bias, [T, T] of each head and block; and what options leave
_POSITION_BIAS = (0.75, 1.0)
_BF16 = (1.0, 0.9)  # autocast keeps both the float32 and the bfloat16 of much
_CHECKPOINTED = (0.4, 0.93)  # a Hessian-vector product holds the recomputed layers' graphs all the same
#: (S, bytes of the adjoint, of the unrolled graph): measured peaks of an outer step above the loaded model,
#: wav2vec 2.0 Base, K = 4 utterances of 2 s (``benchmarks/speed/finetuned_step.py``)
MEASURED_PEAKS = ((1, 1.761e9, 1.779e9), (2, 2.123e9, 3.117e9))


@dataclass(frozen=True)
class Shape:
    """A transformer upstream with the usual head.

    Attributes:
        family: wavlm, hubert or wav2vec2.
        blocks: transformer layers; one less than the hidden states.
        dim: size of a hidden state; the feed-forward layers have ``4 * dim``, a head of attention 64.
    """

    family: str
    blocks: int
    dim: int

    @property
    def ffn(self) -> int:
        return 4 * self.dim

    @property
    def heads(self) -> int:
        return self.dim // 64

    @property
    def front_end_parameters(self) -> int:
        """Of the convolutions over the waveform, with Base's one group norm or Large's layer norms and biases."""
        weights = _CONV * 10 + _CONV * _CONV * (3 * 4 + 2 * 2)
        return weights + (2 * _CONV if self.blocks <= 12 else 7 * 3 * _CONV)

    def parameters(self, train_front_end: bool = False, top: int | None = None) -> int:
        """P, upstream and head (9 classes); parts that only pre-training uses are not among them.

        Args:
            top: ``tunerc.adapt: top:N``, the last N blocks and the head; by default all.
        """
        dim, ffn = self.dim, self.ffn
        block = 4 * (dim * dim + dim) + 2 * dim * ffn + ffn + dim + 4 * dim
        before = 2 * _CONV + _CONV * dim + dim
        position = dim * (dim // _GROUPS) * _POSITION + _POSITION + dim
        head = self.blocks + 1 + dim * _PROJECTOR + _PROJECTOR + _PROJECTOR * _CLASSES + _CLASSES
        if self.family == "wavlm":
            block += 64 * 8 + 8 + self.heads
        if top is None:
            total = self.blocks * block + before + position + 2 * dim + head
            total += 320 * self.heads if self.family == "wavlm" else 0  # in the first block, for all
        else:
            total = top * block + head
        return total + (self.front_end_parameters if train_front_end else 0)


def shape_of(upstream: str) -> Shape:
    """The shape behind a hub name, from ``upstream_configs/`` or from the name of a published model.

    Raises:
        UserError: the hub has no such name, nothing of it could be fine-tuned, or its size is not known from its name.
    """
    check_upstream(upstream)
    config = load_upstream_config(upstream)
    family = re.match(r"(wavlm|hubert|wav2vec2)(?![a-z0-9])", upstream)
    if config and not config.learned:
        raise UserError(f"{upstream} has no learned weights: there is nothing to fine-tune and nothing to plan.")
    if family and config:
        return Shape(family[1], config.layers - 1, config.dim)
    if family and re.fullmatch(r"\w+?(_base\w*)?", upstream) and (upstream == family[1] or "_base" in upstream):
        return Shape(family[1], 12, 768)
    if family and re.match(r"\w+?_large", upstream):
        return Shape(family[1], 24, 1024)
    raise UserError(
        f"The size of {upstream} is not known from its name. Name a published model of the same size, "
        "such as wavlm_base, hubert_base, wav2vec2_base_960 or wavlm_large."
    )


@dataclass(frozen=True)
class Plan:
    """Bytes at the peak of one rater's outer step.

    Attributes:
        parameters: P, their number.
        model: the model itself, with what of it does not adapt.
        optimizer: AdamW's moments.
        outer_gradient: summed over raters.
        kept: from inner to adjoint steps (:func:`s3prl_metaperser.meta.adjoint.kept_bytes`).
        working: copies of the parameters that the adjoint step works on.
        activations: of the largest micro-batch.
        micro_batch_seconds: padded audio in it; an utterance that is longer is one by itself.
        unrolled: total of the textbook's graph over all inner steps, for comparison.
    """

    parameters: int
    model: float
    optimizer: float
    outer_gradient: float
    kept: float
    working: float
    activations: float
    micro_batch_seconds: float
    unrolled: float

    @property
    def total(self) -> float:
        """All of it, without what the device's runtime takes for itself."""
        return self.model + self.optimizer + self.outer_gradient + self.kept + self.working + self.activations


def activation_bytes(
    shape: Shape,
    seconds: float,
    longest: float,
    *,
    second_order: bool = True,
    top: int | None = None,
    train_front_end: bool = False,
    bf16: bool = False,
    activation_checkpointing: bool = False,
) -> float:
    """Activations of one micro-batch at their peak.

    Args:
        seconds: padded audio.
        longest: seconds of each utterance in it, which attention is quadratic in.
        second_order: a Hessian-vector product by reverse-over-reverse; otherwise a gradient.
        top: how many blocks adapt, of which alone activations are kept; all by default.
        train_front_end: the convolutions over the waveform keep theirs, too, and with them every block.
        bf16: autocast to bfloat16.
        activation_checkpointing: transformer layers run again in the backward pass.
    """
    constants = _SECOND_ORDER if second_order else _FIRST_ORDER
    frames, length = seconds * FRAMES_PER_SECOND, min(longest, seconds) * FRAMES_PER_SECOND
    attention = constants.attention
    if shape.family == "wavlm":
        attention += _POSITION_BIAS[second_order]
    block = constants.linear * shape.dim + constants.ffn * shape.ffn + attention * shape.heads * length
    blocks = shape.blocks if top is None or train_front_end else top
    number = frames * (blocks * block + constants.outside * shape.dim)
    if activation_checkpointing:
        number *= _CHECKPOINTED[second_order]
    if bf16:
        number *= _BF16[second_order]
    return 4 * (number + (frames * constants.front_end if train_front_end else 0))


def estimate(
    shape: Shape,
    micro_batch_seconds: float,
    *,
    shots: int = SHOTS,
    inner_steps: int = INNER_STEPS,
    seconds: float = MEAN_SECONDS,
    longest: float = LONGEST_SECONDS,
    second_order: bool = True,
    top: int | None = None,
    train_front_end: bool = False,
    bf16: bool = False,
    activation_checkpointing: bool = False,
) -> Plan:
    """Peak memory of one rater's exact outer step.

    Args:
        micro_batch_seconds: padded audio in a micro-batch.
        shots: K, support utterances; they are the outer loss's samples, too.
        inner_steps: S, all differentiated twice, or none (``second_order=False``).
        seconds: mean length of an utterance.
        longest: length of the longest one.
        top, train_front_end, bf16, activation_checkpointing: as in :func:`activation_bytes`.
    """
    activations_of = functools.partial(
        activation_bytes,
        shape,
        second_order=second_order,
        top=top,
        train_front_end=train_front_end,
        bf16=bf16,
        activation_checkpointing=activation_checkpointing,
    )
    batch = min(max(micro_batch_seconds, longest), max(shots * longest, longest))
    parameters = shape.parameters(train_front_end, top)
    copy = 4.0 * parameters
    activations = activations_of(batch, longest)
    everything = activations_of(shots * seconds, seconds)
    model = 4.0 * shape.parameters(train_front_end=True)
    unrolled = inner_steps * everything + (2 * inner_steps + 1) * copy
    return Plan(
        parameters=parameters,
        model=model * (1.5 if bf16 else 1),
        optimizer=2 * copy,
        outer_gradient=copy,
        kept=kept_copies(inner_steps, second_order) * copy,
        working=(3 if second_order else 2) * copy,
        activations=activations,
        micro_batch_seconds=batch,
        unrolled=model + 3 * copy + unrolled,
    )


def kept_copies(inner_steps: int, second_order: bool = True) -> int:
    """How many copies of the adapting parameters the inner steps leave: theta_s but for the first, or every g_s."""
    return inner_steps - 1 if second_order else inner_steps


def micro_batch_seconds_for(gigabytes: float, shape: Shape, **setting: Any) -> int | None:
    """The most whole seconds of padded audio in a micro-batch that fit, or None if the longest utterance does not.

    Args:
        gigabytes: of the device, of 1e9 bytes; ``CONTEXT_BYTES`` and ``FRAGMENTATION`` are taken off.
        setting: as for :func:`estimate`. More than all K utterances at their longest is never asked for.
    """
    usable = gigabytes * 1e9 * (1 - FRAGMENTATION) - CONTEXT_BYTES
    longest = setting.get("longest", LONGEST_SECONDS)
    low, high = math.ceil(longest), math.ceil(setting.get("shots", SHOTS) * longest)
    if estimate(shape, low, **setting).total > usable:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate(shape, middle, **setting).total <= usable else (low, middle - 1)
    return low


def basis(shape: Shape) -> str:
    """In words: what of a plan was measured, and what is extrapolated."""
    measured = (
        "measured on a CPU in fp32 with random weights: the peak of whole outer steps at Base size, S = 1 and 2, and "
        "activations in micro-batches of 8 and 16 s; extrapolated from there: longer micro-batches, more inner steps, "
        "other devices"
    )
    return (
        measured
        if shape.dim == 768 and shape.blocks == 12
        else f"extrapolated from Base to Large size, which was {measured}"
    )
