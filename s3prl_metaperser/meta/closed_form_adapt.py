"""Many steps on the same samples without a graph: meta-testing and validation, in terms of the samples' inner products.

The inner loop sees features only through ``X W1_s^T``, where X [L * K, D] are one episode's samples of all layers. A
step changes W1 by ``-U^T E`` with ``E = a X`` and ``a`` = shares x delta [C, L * K], so

    Q_{s+1} = X W1_{s+1}^T = Q_s - (X X^T) a^T U

needs no product of size D: X X^T and Q_0 are made once, and every later step works on [L * K, H]. What has been learned
comes out multiplied by the classifier, ``M = W2_S W1_S`` [C, D], since only that is needed to predict.

Gradient descent with weight decay, as ``torch.optim.SGD`` has it, keeps a share of every tensor in each step: then
``W1_S`` is that share to the power S of W1, less a sum whose steps have kept as much since.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from s3prl_metaperser.meta.closed_form_steps import Samples, Theta, multiplied_out, through_softmax


def pays(samples: int, layers: int, size: int) -> bool:
    """Whether X X^T [L * K, L * K] is small enough beside X [L * K, D] to be worth making."""
    return samples * layers <= size


def adapted(
    theta: Theta, rates: Tensor, samples: Samples, steps: int, kept: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The inner steps of A episodes.

    Args:
        theta: theta_0; its room is not used.
        rates: [S, 5]; later steps reuse row S.
        kept: share of every tensor that a step keeps before its gradient is taken off: 1 - rate * weight decay.

    Returns:
        layer weights [A, L], ``M`` [A, C, D] and ``W2 b1 + b2`` [A, C]; logits are ``mixed M^T`` plus the latter.
    """
    (episodes, layers, _), count = samples.features.shape, samples.targets.shape[2]
    rows = samples.features.view(episodes, layers * count, -1)
    projected = (rows.flatten(0, 1) @ theta.projector.T).view(episodes, layers, -1)
    products = _products(rows).view(episodes, layers, -1)
    mixing, bias, classifier, offset = theta.mixing, theta.bias, theta.classifier, theta.classifier_bias
    past: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in range(steps):
        mixing_rate, projector_rate, bias_rate, classifier_rate, offset_rate = rates[min(number, len(rates) - 1)]
        shares = torch.softmax(mixing, -1)
        hidden = torch.bmm(shares[:, None], projected).view(episodes, count, -1).add_(bias[:, None])
        logits = torch.baddbmm(offset[:, :, None], classifier, hidden.transpose(1, 2))
        delta = torch.softmax(logits, 1).mul_(samples.weight).sub_(samples.targets).div_(count)
        by_offset = delta.sum(2)
        # b1's part is the same for every layer; the softmax's Jacobian takes a constant to zero
        by_hidden = torch.bmm(delta.transpose(1, 2), classifier)
        by_layer = torch.bmm(by_hidden.view(episodes, 1, -1), projected.transpose(1, 2)).squeeze(1)
        up = projector_rate * classifier
        seen = torch.bmm(delta, torch.bmm(shares[:, None], products).view(episodes, count, -1))  # E X^T, [A, C, L * K]
        projected.view(episodes, layers * count, -1).baddbmm_(seen.transpose(1, 2), up, beta=kept, alpha=-1)
        past.append((shares, delta, up))
        by_bias = torch.bmm(by_offset[:, None], classifier).squeeze(1)
        if kept != 1:
            mixing, offset, classifier, bias = (kept * value for value in (mixing, offset, classifier, bias))
        mixing = torch.addcmul(mixing, mixing_rate, through_softmax(shares, by_layer), value=-1)
        offset = torch.addcmul(offset, offset_rate, by_offset, value=-1)
        classifier = torch.addcmul(classifier, classifier_rate, torch.bmm(delta, hidden), value=-1)
        bias = torch.addcmul(bias, bias_rate, by_bias, value=-1)
    final = replace(theta, mixing=mixing, bias=bias, classifier=classifier, classifier_bias=offset)
    if kept != 1:
        final = replace(final, projector=kept**steps * theta.projector)
        past = [(shares, delta, kept ** (steps - 1 - t) * up) for t, (shares, delta, up) in enumerate(past)]
    mixing, combined, offset = multiplied_out(final)
    if past:
        combined.baddbmm_(_learned(past, classifier), rows, alpha=-1)
    return mixing, combined, offset


def _products(rows: Tensor) -> Tensor:
    """X X^T of [A, n, D]; of a symmetric matrix three quarters are enough."""
    half = rows.shape[1] // 2
    upper, lower = rows[:, :half], rows[:, half:]
    found = rows.new_empty(len(rows), rows.shape[1], rows.shape[1])
    found[:, :half, :half] = torch.bmm(upper, upper.transpose(1, 2))
    found[:, half:, half:] = torch.bmm(lower, lower.transpose(1, 2))
    found[:, :half, half:] = torch.bmm(upper, lower.transpose(1, 2))
    found[:, half:, :half] = found[:, :half, half:].transpose(1, 2)
    return found


def _learned(past: list[tuple[Tensor, Tensor, Tensor]], classifier: Tensor) -> Tensor:
    """``W2 sum_t U_t^T a_t`` [A, C, L * K], from each step's shares [A, L], delta [A, C, K] and U [A, C, H]."""
    shares, delta, up = (torch.stack(part, 1) for part in zip(*past, strict=True))
    episodes, steps, classes, count = delta.shape
    weights = torch.bmm(classifier, up.flatten(1, 2).transpose(1, 2)).view(episodes, classes, steps, classes)
    by_step = weights.transpose(1, 2) @ delta  # [A, t, C, K]
    found = torch.bmm(shares.transpose(1, 2), by_step.flatten(2)).view(episodes, -1, classes, count)
    return found.transpose(1, 2).reshape(episodes, classes, -1)
