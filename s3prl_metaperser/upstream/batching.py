"""Hidden states of a batch of utterances, equal to those of each utterance alone.

s3prl pads a batch to its longest waveform, and padding changes the other utterances' hidden states: the
convolutional front-end of the Base models normalises over time, padding included, and the frame mask of WavLM
and HuBERT keeps one frame too few or too many. For these models the front-end therefore runs utterance by
utterance (a quarter to a third of the work) and the mask is built from its actual output; the transformer,
which is exact under a correct mask, runs on the batch. Everything else runs one utterance at a time.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3prl_metaperser.errors import UserError, did_you_mean
from s3prl_metaperser.s3prl_stack.replaced import replaced

_TRANSFORMERS = tuple(f"s3prl.upstream.{family}.expert" for family in ("wavlm", "hubert", "wav2vec2"))
_KALDI = "s3prl.upstream.baseline.expert"
# s3prl.upstream.interfaces: how far the frames may be from samples / rate
_TOLERATED_FRAMES = 5
_mel_banks: Callable | None = None


def hidden_states(upstream: nn.Module, wavs: list[Tensor], selection: str = "hidden_states") -> list[Tensor]:
    """The selected features of each utterance, equal to those of a batch of that utterance alone.

    Gradients flow if they are enabled and the upstream lets them. With the upstream in training mode the
    results are as random as its dropout.

    Args:
        upstream: an s3prl upstream.
        wavs: waveforms at 16 kHz, each of shape [samples], all on the upstream's device.
        selection: which output to take (s3prl's ``-s``): a tensor, a list or a dictionary of tensors.

    Returns:
        for each utterance a tensor of shape [L layers, T frames, D features], where T is the number of frames
        that s3prl's Featurizer would keep of it alone: at most round(samples / rate); all frames of an upstream whose
        attribute ``keeps_all_frames`` is true. L is 1 for a single tensor.

    Raises:
        UserError: the upstream has no such output, its frames do not fit its rate, or an utterance is too
            short.
    """
    if len(wavs) > 1 and is_masked_transformer(upstream):
        with _exact(upstream, [len(wav) for wav in wavs]) as frames:
            layers = _select(_run(upstream, wavs), selection)
        alone = [layers[:, index, :count] for index, count in enumerate(frames)]
    else:
        with _mel_banks_once() if _is_kaldi(upstream) else contextlib.nullcontext():
            alone = [_select(_run(upstream, [wav]), selection)[:, 0] for wav in wavs]
    if getattr(upstream, "keeps_all_frames", False):
        return alone
    rate = _rate(upstream, selection)
    return [_as_featurizer_keeps(states, len(wav), rate) for states, wav in zip(alone, wavs, strict=True)]


def _run(upstream: nn.Module, wavs: list[Tensor]) -> dict[str, Any]:
    try:
        return upstream(wavs)
    except (RuntimeError, AssertionError, ValueError) as error:
        shortest = min(len(wav) for wav in wavs)
        if shortest >= 1600:  # a tenth of a second is enough for any
            raise
        raise UserError(
            f"An utterance of {shortest} samples ({shortest / 16:.1f} ms at 16 kHz) is too short for this "
            f"upstream ({type(error).__name__}: {error}). Exclude it."
        ) from error


def _select(outputs: dict[str, Any], selection: str) -> Tensor:
    """The selected output as one tensor of shape [L, B, T, D]."""
    if outputs.get(selection) is None:
        known = sorted(key for key, value in outputs.items() if value is not None and not key.startswith("_"))
        raise UserError(
            f"-s {selection}: this upstream has no such output.{did_you_mean(selection, known)} "
            f"Available: {', '.join(known)}."
        )
    selected = outputs[selection]
    if isinstance(selected, dict):
        selected = list(selected.values())
    return torch.stack(tuple(selected)) if isinstance(selected, (list, tuple)) else selected.unsqueeze(0)


def _rate(upstream: nn.Module, selection: str) -> float:
    """Samples per frame, which s3prl requires an upstream to define."""
    rates: Callable[[str], float] | None = getattr(upstream, "get_downsample_rates", None)
    if rates is None:
        raise UserError(f"The upstream {type(upstream).__module__} lacks get_downsample_rates, which s3prl requires.")
    return rates(selection)


def _as_featurizer_keeps(states: Tensor, samples: int, rate: float) -> Tensor:
    """``states`` [L, T, D] cut to the frames that s3prl's Featurizer keeps of ``samples`` samples."""
    frames = round(samples / rate)
    if abs(states.shape[1] - frames) >= _TOLERATED_FRAMES:
        raise UserError(
            f"The upstream returned {states.shape[1]} frames for {samples} samples, but its rate of {rate} samples "
            f"per frame gives {frames}: features and labels would not be aligned."
        )
    return states[:, :frames]


def _is_kaldi(upstream: nn.Module) -> bool:
    return type(upstream).__module__ == _KALDI and "kaldi" in getattr(upstream, "config", ())


def is_masked_transformer(upstream: nn.Module) -> bool:
    """Whether it is one of s3prl's own experts in which nothing bypasses the padding mask.

    True for WavLM, HuBERT and wav2vec 2.0 with transformer layers; not for conformers, whose convolutions see the
    padding, nor for Hugging Face's models.
    """
    if type(upstream).__module__ not in _TRANSFORMERS or type(upstream).__name__ != "UpstreamExpert":
        return False
    if getattr(upstream, "feature_selection", None) is not None or not getattr(upstream, "apply_padding_mask", True):
        return False
    model: Any = upstream.model  # of s3prl, which has no types
    position: nn.Module = getattr(model.encoder, "pos_conv", None) or nn.Module()
    convolutions = [m for m in position.modules() if isinstance(m, nn.Conv1d)]
    return (
        all(type(layer).__name__ == "TransformerSentenceEncoderLayer" for layer in model.encoder.layers)
        and len(convolutions) == 1
        and not any(isinstance(module, nn.BatchNorm1d) for module in position.modules())
        and getattr(model, "crop_seq_to_multiple", 1) == 1
        and not getattr(model, "input_quantizer", None)
    )


@contextlib.contextmanager
def _exact(upstream: nn.Module, samples: list[int]) -> Iterator[list[int]]:
    """Within the block, ``upstream`` is exact on a batch of utterances of these lengths.

    Yields:
        a list that holds each utterance's number of frames once the upstream has run.
    """
    model: Any = upstream.model  # of s3prl, which has no types
    front_end = model.feature_extractor.forward
    frames: list[int] = []

    def forward(source: Tensor) -> Tensor:  # [B, samples] -> [B, D, T]
        outputs = [front_end(wav[None, :n])[0] for wav, n in zip(source, samples, strict=True)]
        frames[:] = [output.shape[-1] for output in outputs]
        return torch.stack([F.pad(output, (0, max(frames) - output.shape[-1])) for output in outputs])

    def forward_padding_mask(features: Tensor, padding_mask: Tensor) -> Tensor:  # [B, T], True if padded
        counts = torch.tensor(frames, device=features.device)
        return torch.arange(features.shape[1], device=features.device)[None] >= counts[:, None]

    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(model.feature_extractor, "forward", forward))
        if hasattr(model, "forward_padding_mask") and not type(upstream).__module__.endswith("wav2vec2.expert"):
            stack.enter_context(replaced(model, "forward_padding_mask", forward_padding_mask))
        yield frames


@contextlib.contextmanager
def _mel_banks_once() -> Iterator[None]:
    """Within the block torchaudio's mel filters, equal for all utterances, are computed once."""
    from torchaudio.compliance import kaldi

    global _mel_banks
    if _mel_banks is None:
        _mel_banks = functools.lru_cache(maxsize=8)(kaldi.get_mel_banks)
    with replaced(kaldi, "get_mel_banks", _mel_banks):
        yield
