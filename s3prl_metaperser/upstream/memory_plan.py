"""How much memory one rater's exact outer step takes, before anything is loaded: an estimate, without torch.

With P the adapting parameters and S inner steps, all second-order, rates learned, an outer step of
:func:`s3prl_metaperser.meta.adjoint.outer_gradient` holds at its peak, beside the model itself::

    2 P                 AdamW's two moments
    1 P                 the outer gradient that the raters of a meta-batch add up to
    (S - 1) P           theta_s, kept from the inner steps for the adjoint steps (S P, the g_s, if all are first-order)
    3 P                 copies in an adjoint step: lambda as it was and as it becomes, and shares of H (eta * lambda)
                        that wait for others to be added to them; with a single micro-batch, whose graph is kept,
                        its gradient replaces one of them (2 P if all steps are first-order)
    activations         of one micro-batch in a Hessian-vector product (in a gradient, if all steps are first-order)

The activations of F frames (50 a second, padding included) in utterances of T frames are, in numbers of 4 bytes::

    F (blocks (LINEAR dim + FFN ffn + heads T ATTENTION) + OUTSIDE dim) + FRONT_END a frame, where that is trained

The constants are a least-squares fit to what ``benchmarks/speed/activation_memory.py`` measured (CPU, fp32, 8 and 16
seconds of audio, 2 to 12 blocks of Base's width and half of it), which they meet within 5 %, WavLM's within 10 %. What
is extrapolated beyond these measurements is named by :func:`basis`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack.hub_index import check_upstream, load_upstream_config

FRAMES_PER_SECOND = 50
GIGABYTES = (16, 32, 80)
#: Not available: CUDA's own context and kernels in bytes, and the share that an allocator loses to fragmentation.
CONTEXT_BYTES, FRAGMENTATION = 0.6e9, 0.1

_PROJECTOR, _CLASSES, _CONV, _POSITION, _GROUPS = 256, 9, 512, 128, 16


@dataclass(frozen=True)
class Setting:
    """How an upstream is fine-tuned; the defaults are the paper's K and those of metarc and tunerc.

    Attributes:
        shots: K, support utterances; they are the outer loss's samples, too.
        inner_steps: S, all differentiated twice, or none (``second_order=False``).
        seconds: mean length of an utterance.
        longest: length of the longest one.
        top: how many blocks adapt, the only ones whose activations are kept; all by default.
        train_front_end: the convolutions over the waveform keep their activations, too, and so does every block.
        bf16: autocast to bfloat16.
        activation_checkpointing: transformer layers run again in the backward pass.
        second_order: Hessian-vector products by reverse-over-reverse; otherwise gradients.
    """

    shots: int = 32
    inner_steps: int = 5
    seconds: float = 4.5
    longest: float = 15.0
    top: int | None = None
    train_front_end: bool = False
    bf16: bool = False
    activation_checkpointing: bool = False
    second_order: bool = True


@dataclass(frozen=True)
class _Constants:
    """Numbers of 4 bytes kept for each frame (see the module's docstring), and the share that options leave of them.

    ``position_bias`` is WavLM's gated one, [T, T] of each head and block. Autocast keeps both the float32 and the
    bfloat16 of much; a Hessian-vector product holds the graphs of recomputed layers all the same.
    """

    linear: float
    ffn: float
    attention: float
    outside: float
    front_end: float
    position_bias: float
    bf16: float
    checkpointed: float


_FIRST_ORDER = _Constants(12.8, 1.6, 1.0, 8.8, 190e3, position_bias=0.75, bf16=1.0, checkpointed=0.4)
_SECOND_ORDER = _Constants(15.6, 4.2, 4.8, 36.0, 360e3, position_bias=1.0, bf16=0.9, checkpointed=0.93)


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
        """Parameters of the front-end, with Base's one group norm or Large's layer norms and biases."""
        weights = _CONV * 10 + _CONV * _CONV * (3 * 4 + 2 * 2)
        return weights + (2 * _CONV if self.blocks <= 12 else 7 * 3 * _CONV)

    @property
    def total(self) -> int:
        """All parameters of the model, those that do not adapt included."""
        return self.parameters(train_front_end=True)

    def activations(self, seconds: float, longest: float, /, **setting: Any) -> float:
        """Bytes of the activations of one micro-batch at their peak.

        Args:
            seconds: padded audio.
            longest: seconds of each utterance in it, in which attention is quadratic.
            setting: fields of :class:`Setting`.
        """
        how = Setting(**setting)
        constants = _SECOND_ORDER if how.second_order else _FIRST_ORDER
        frames, length = seconds * FRAMES_PER_SECOND, min(longest, seconds) * FRAMES_PER_SECOND
        attention = constants.attention + (constants.position_bias if self.family == "wavlm" else 0)
        block = constants.linear * self.dim + constants.ffn * self.ffn + attention * self.heads * length
        blocks = self.blocks if how.top is None or how.train_front_end else how.top
        number = frames * (blocks * block + constants.outside * self.dim)
        if how.activation_checkpointing:
            number *= constants.checkpointed
        if how.bf16:
            number *= constants.bf16
        return 4 * (number + (frames * constants.front_end if how.train_front_end else 0))

    def parameters(self, train_front_end: bool = False, top: int | None = None) -> int:
        """P, upstream and head (9 classes), without parts that only pre-training uses.

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


@dataclass(frozen=True)
class Measured:
    """What one micro-batch took on a device (:mod:`.measured_memory`), under the setting that it was measured with.

    Attributes:
        adapting: P.
        total: all parameters of the model.
        clip_bytes: of an utterance of ``longest`` seconds in a micro-batch, in a Hessian-vector product.
        gradient_clip_bytes: the same in a gradient.
        longest: seconds.
        device: its name.
    """

    adapting: int
    total: int
    clip_bytes: float
    gradient_clip_bytes: float
    longest: float
    device: str

    def parameters(self, train_front_end: bool = False, top: int | None = None) -> int:
        """P of the setting that was measured."""
        return self.adapting

    def activations(self, seconds: float, longest: float, /, second_order: bool = True, **setting: Any) -> float:
        """Of ``seconds`` of padded audio, in proportion to what was measured."""
        return (self.clip_bytes if second_order else self.gradient_clip_bytes) * seconds / self.longest


def shape_of(upstream: str) -> Shape:
    """The shape behind a hub name, from ``upstream_configs/`` or from the name of a published model.

    Raises:
        UserError: the hub has no such name, it has no learned weights, or its size is not known from its name.
    """
    check_upstream(upstream)
    config = load_upstream_config(upstream)
    family = re.match(r"(wavlm|hubert|wav2vec2)(?!_conformer)(?![a-z0-9])", upstream)
    if config and not config.learned:
        raise UserError(f"{upstream} has no learned weights, so there is nothing to fine-tune.")
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
        model: the model itself, including parts that do not adapt.
        optimizer: AdamW's moments.
        outer_gradient: summed over raters.
        kept: from inner to adjoint steps (:func:`s3prl_metaperser.meta.adjoint.kept_bytes`).
        working: copies of the parameters that the adjoint step works on.
        activations: of the largest micro-batch.
        micro_batch_seconds: padded audio in it; a longer utterance is a micro-batch of its own.
        unrolled: total with the textbook's graph over all inner steps, for comparison.
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
        """Sum of all parts, without the device's runtime."""
        return self.model + self.optimizer + self.outer_gradient + self.kept + self.working + self.activations


def estimate(shape: Shape | Measured, micro_batch_seconds: float, **setting: Any) -> Plan:
    """Peak memory of one rater's exact outer step.

    Args:
        micro_batch_seconds: padded audio in a micro-batch.
        setting: fields of :class:`Setting`.
    """
    how = Setting(**setting)
    batch = min(max(micro_batch_seconds, how.longest), max(how.shots * how.longest, how.longest))
    parameters = shape.parameters(how.train_front_end, how.top)
    copy = 4.0 * parameters
    everything = shape.activations(how.shots * how.seconds, how.seconds, **setting)
    model = 4.0 * shape.total
    unrolled = how.inner_steps * everything + (2 * how.inner_steps + 1) * copy
    return Plan(
        parameters=parameters,
        model=model * (1.5 if how.bf16 else 1),
        optimizer=2 * copy,
        outer_gradient=copy,
        kept=kept_copies(how.inner_steps, how.second_order) * copy,
        working=(3 if how.second_order else 2) * copy,
        activations=shape.activations(batch, how.longest, **setting),
        micro_batch_seconds=batch,
        unrolled=model + 3 * copy + unrolled,
    )


def kept_copies(inner_steps: int, second_order: bool = True) -> int:
    """How many copies of the adapting parameters the inner steps leave: theta_s but for the first, or every g_s."""
    return inner_steps - 1 if second_order else inner_steps


def micro_batch_seconds_for(gigabytes: float, shape: Shape | Measured, **setting: Any) -> int | None:
    """The most whole seconds of padded audio in a micro-batch that fit, or None if the longest utterance does not.

    Args:
        gigabytes: the device's, of 1e9 bytes; ``CONTEXT_BYTES`` and ``FRAGMENTATION`` are subtracted.
        setting: fields of :class:`Setting`. The result is at most all K utterances at their longest.
    """
    usable, how = gigabytes * 1e9 * (1 - FRAGMENTATION) - CONTEXT_BYTES, Setting(**setting)
    low, high = math.ceil(how.longest), math.ceil(how.shots * how.longest)
    if estimate(shape, low, **setting).total > usable:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate(shape, middle, **setting).total <= usable else (low, middle - 1)
    return low


def basis(shape: Shape | Measured) -> str:
    """Which parts of a plan are measured, and which are extrapolated."""
    if isinstance(shape, Measured):
        return (
            f"activations and numbers of parameters measured on {shape.device}, one and two utterances of "
            f"{shape.longest:g} s in a micro-batch; computed from there: other micro-batches, copies of the parameters"
        )
    measured = (
        "measured on a CPU in fp32 with random weights: the peak of whole outer steps at Base size, S = 1 and 2, and "
        "activations in micro-batches of 8 and 16 s; extrapolated from there: longer micro-batches, more inner steps, "
        "other devices"
    )
    base = shape.dim == 768 and shape.blocks == 12
    return measured if base else f"extrapolated from Base to Large size, which was {measured}"
