"""Micro-batches of bounded size, and their losses, which make up the meta-gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from s3prl_metaperser.corpora.audio import RATE
from s3prl_metaperser.meta.masks import drawn_from
from s3prl_metaperser.protocol.loss import soft_cross_entropy
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.front_end import once

#: Indices of a micro-batch's utterances, and (parameters, inner step) -> their logits [n, C].
MicroLogits = tuple[list[int], Callable[[Mapping[str, Tensor], int], Tensor]]


def micro_batches(samples: Sequence[int], seconds: float) -> list[list[int]]:
    """Group utterances of similar length so that no group, padded to its longest, exceeds ``seconds`` of audio.

    Args:
        samples: length of each utterance at 16 kHz.
        seconds: an utterance longer than that is a group of its own.

    Returns:
        indices into ``samples``, each once; from the longest to the shortest, the same for the same lengths.
    """
    limit = seconds * RATE
    groups: list[list[int]] = []
    for index in sorted(range(len(samples)), key=lambda i: (-samples[i], i)):
        if groups and samples[groups[-1][0]] * (len(groups[-1]) + 1) <= limit:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def graphs_worth_keeping(samples: Sequence[int], seconds: float) -> int:
    """For :func:`s3prl_metaperser.meta.adjoint.outer_gradient`: 1 if all is one micro-batch with room to spare, else 0.

    Keeping a single micro-batch's graph saves a forward and a backward pass of the adjoint's first step. Together with
    the outer loss's graph it takes 1.4 times the activations of a Hessian-vector product
    (``benchmarks/speed/results/``), so it may hold only two thirds of ``seconds``.
    """
    return int(len(micro_batches(samples, seconds / 1.5)) == 1)


def micro_logits(model: FineTunedModel, wavs: Sequence[Tensor], seconds: float, *seed: object) -> list[MicroLogits]:
    """Logits of K utterances in micro-batches: indices into ``wavs``, and what gives their logits.

    With dropout on, the masks depend only on ``seed``, the inner step and the micro-batch, so that a second call sees
    the same ones. A frozen front-end runs only at the first call; its outputs are kept as long as the functions.

    Args:
        wavs: K waveforms, each [n] at 16 kHz, on any device.
        seconds: padded audio in one micro-batch.
        seed: identifies this adaptation, e.g. outer step and rater.
    """

    def of(group: list[int], number: int) -> Callable[[Mapping[str, Tensor], int], Tensor]:
        front_end: list[Tensor] = []

        def logits(parameters: Mapping[str, Tensor], step: int) -> Tensor:
            example = next(iter(parameters.values()))
            batch = [wavs[index].to(example.device) for index in group]
            draws = model.training and model.options.dropout
            masks = drawn_from([example.device], *seed, step, number) if draws else contextlib.nullcontext()
            with once(model.upstream, front_end), masks:
                return model.functional(parameters, batch)

        return logits

    groups = micro_batches([len(wav) for wav in wavs], seconds)
    return [(group, of(group, number)) for number, group in enumerate(groups)]


def micro_losses(
    model: FineTunedModel, wavs: Sequence[Tensor], weighted_targets: Tensor, seconds: float, *seed: object
) -> list[Callable[[Mapping[str, Tensor], int], Tensor]]:
    """Losses of K utterances as micro-batches (:data:`s3prl_metaperser.meta.micro_gradients.MicroLoss`).

    Their sum is the class-balanced soft cross-entropy's mean over the K utterances. Arguments are those of
    :func:`micro_logits`, and ``weighted_targets`` [K, C] (:func:`s3prl_metaperser.protocol.loss.weighted_targets`).
    """

    def share(
        group: list[int], logits: Callable[[Mapping[str, Tensor], int], Tensor]
    ) -> Callable[[Mapping[str, Tensor], int], Tensor]:
        def loss(parameters: Mapping[str, Tensor], step: int) -> Tensor:
            found = logits(parameters, step)
            return soft_cross_entropy(found, weighted_targets[group].to(found.device)) * (len(group) / len(wavs))

        return loss

    return [share(group, logits) for group, logits in micro_logits(model, wavs, seconds, *seed)]
