"""Backward through the closed form: the gradient of the outer loss by theta_0 and by the rates, written by hand.

One reverse sweep over the inner steps. ``x_bar`` is the gradient of the outer loss by ``x``. The projector's is
collected as rows ``left`` [n, H] and ``right`` [n, D] and is one product at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from s3prl_metaperser.meta.closed_form_steps import (
    Pass,
    Step,
    Theta,
    through_softmax,
    times_projector,
    times_projector_transposed,
)


def reverse(
    theta: Theta, steps: Sequence[Step], final: Pass, rates: Tensor, second_order: Sequence[bool]
) -> tuple[Tensor, ...]:
    """Gradients of the mean outer loss.

    Args:
        theta: after the last step.
        final: the pass of the outer loss.
        rates: [S', 5]; steps beyond S' used the last row.
        second_order: for each step, whether its gradient is differentiated or a constant.

    Returns:
        by the five tensors of theta_0, in the order of ``model.PARAMETERS``, and by ``rates``.
    """
    sweep = _Sweep(theta, passes=1 + 2 * sum(second_order))
    samples = final.samples
    scale = samples.targets.shape[0] * samples.targets.shape[2]
    sweep.through_pass(final, (samples.weight * final.probabilities - samples.targets) / scale)
    rates_bar = torch.zeros_like(rates)
    for number in reversed(range(len(steps))):
        row = min(number, len(rates) - 1)
        rates_bar[row] += sweep.by_rate(steps[number], number)
        if second_order[number]:
            sweep.through_step(steps[number], number, rates[row])
    return *sweep.result(), rates_bar


class _Sweep:
    """Gradients by theta_s and by all U_t and E_t with t < s, while s goes down.

    Attributes:
        mixing, bias, classifier, classifier_bias, ups, downs: as in :class:`Theta`, of the outer loss; no rows of
            ``downs`` where no step's gradient is differentiated, since nobody would read them.
    """

    def __init__(self, theta: Theta, passes: int):
        self.mixing = torch.zeros_like(theta.mixing)
        self.bias = torch.zeros_like(theta.bias)
        self.classifier = torch.zeros_like(theta.classifier)
        self.classifier_bias = torch.zeros_like(theta.classifier_bias)
        self.ups = torch.zeros_like(theta.ups)
        self.downs = torch.zeros_like(theta.downs if passes > 1 else theta.downs[:, :0])
        self.left = theta.classifier.new_empty(passes, *theta.classifier.shape)
        self.right = theta.classifier.new_empty(passes, *theta.classifier.shape[:2], theta.projector.shape[1])
        self.filled = 0

    def result(self) -> tuple[Tensor, ...]:
        """By theta_0: sums over raters."""
        projector = self.left.flatten(0, 2).T @ self.right.flatten(0, 2)
        return self.mixing.sum(0), projector, self.bias.sum(0), self.classifier.sum(0), self.classifier_bias.sum(0)

    def by_rate(self, step: Step, number: int) -> Tensor:
        """By the five rates of a step, from what is known of the theta after it, [5]."""
        gradient, new = step.gradient, self._rows(number)
        return torch.stack(
            (
                -_inner(self.mixing, gradient.mixing),
                _inner(self.ups[:, new], step.forward.theta.classifier),
                -_inner(self.bias, gradient.bias),
                -_inner(self.classifier, gradient.classifier),
                -_inner(self.classifier_bias, gradient.classifier_bias),
            )
        )

    def through_step(self, step: Step, number: int, rate: Tensor) -> None:
        """From theta_{s+1} to theta_s through the step's gradient."""
        at, theta = step.forward, step.forward.theta
        mixing_rate, projector_rate, bias_rate, classifier_rate, classifier_bias_rate = rate.unbind()
        own = self._rows(number)
        # what the step subtracted: its gradient's gradient
        bias_bar = -bias_rate * self.bias
        classifier_bar = -classifier_rate * self.classifier
        delta_sum_bar = -classifier_bias_rate * self.classifier_bias
        self.classifier.addcmul_(projector_rate, self.ups[:, own])  # U_s = rate * W2_s

        # b1's gradient: W2^T sum(delta)
        delta_sum = step.gradient.classifier_bias
        delta_sum_bar += torch.bmm(theta.classifier, bias_bar[:, :, None]).squeeze(2)
        self.classifier.baddbmm_(delta_sum[:, :, None], bias_bar[:, None])

        # W2's gradient: E W1^T - F U + sum(delta) b1^T
        left, right = self._row_pair()
        left.copy_(classifier_bar)
        right.copy_(step.gradient.down)
        down_bar = times_projector(classifier_bar, theta.projector).add_(self.downs[:, own])
        delta_sum_bar += torch.bmm(classifier_bar, theta.bias[:, :, None]).squeeze(2)
        self.bias.add_(torch.bmm(delta_sum[:, None], classifier_bar).squeeze(1))
        if number:
            before = slice(0, own.start)
            overlap_bar = torch.bmm(classifier_bar, theta.up.transpose(1, 2)).neg_()
            self.ups[:, before].baddbmm_(step.overlap.transpose(1, 2), classifier_bar, alpha=-1)
            down_bar.baddbmm_(overlap_bar, theta.down)  # F = E E_prev^T
            self.downs[:, before].baddbmm_(overlap_bar.transpose(1, 2), step.gradient.down)

        # E = delta h, and the layer weights' gradient, through delta^T M and the layers
        delta_bar = torch.baddbmm(delta_sum_bar[:, :, None], down_bar, at.mixed.transpose(1, 2))
        mixed_bar = torch.bmm(step.delta.transpose(1, 2), down_bar)
        combined_bar = shares_bar = None
        if at.samples.features.shape[1] > 1:
            mixing_bar = -mixing_rate * self.mixing
            inner = (at.shares * mixing_bar).sum(-1, keepdim=True)
            mean = (at.shares * step.by_layer).sum(-1, keepdim=True)
            shares_bar = mixing_bar * (step.by_layer - mean) - inner * step.by_layer
            projected_bar = at.samples.mixed(at.shares * (mixing_bar - inner))
            delta_bar.baddbmm_(at.combined, projected_bar.transpose(1, 2))
            combined_bar = torch.bmm(step.delta, projected_bar)

        # delta = (weight p - T) / K, and p is a softmax
        weighted = delta_bar.mul_(at.samples.weight / at.samples.targets.shape[2])
        logits_bar = at.probabilities * (weighted - (at.probabilities * weighted).sum(1, keepdim=True))
        self.through_pass(at, logits_bar, mixed_bar, combined_bar, shares_bar)

    def through_pass(
        self,
        at: Pass,
        logits_bar: Tensor,
        mixed_bar: Tensor | None = None,
        combined_bar: Tensor | None = None,
        shares_bar: Tensor | None = None,
    ) -> None:
        """From the logits [A, C, K] of a pass, and what else of it was used, to its theta."""
        theta, (left, combined) = at.theta, self._row_pair()
        torch.bmm(logits_bar, at.mixed, out=combined)
        if combined_bar is not None:
            combined += combined_bar
        offset_bar = logits_bar.sum(2)
        left.copy_(theta.classifier)

        # offset = W2 b1 + b2
        self.classifier_bias += offset_bar
        self.bias += torch.bmm(offset_bar[:, None], theta.classifier).squeeze(1)
        self.classifier.baddbmm_(offset_bar[:, :, None], theta.bias[:, None])

        # M = W2 W1 - (W2 U^T) E
        self.classifier += times_projector_transposed(combined, theta.projector)
        if theta.taken:
            before = slice(0, theta.taken * theta.classifier.shape[1])
            between_bar = torch.bmm(combined, theta.down.transpose(1, 2)).neg_()
            self.classifier.baddbmm_(between_bar, theta.up)
            self.ups[:, before].baddbmm_(between_bar.transpose(1, 2), theta.classifier)
            if self.downs.shape[1]:
                self.downs[:, before].baddbmm_(at.between.transpose(1, 2), combined, alpha=-1)

        # h = sum over layers
        if at.samples.features.shape[1] > 1:
            by_logits = logits_bar.transpose(1, 2)
            mixed_bar = (
                torch.bmm(by_logits, at.combined) if mixed_bar is None else mixed_bar.baddbmm_(by_logits, at.combined)
            )
            total = at.samples.by_layer(mixed_bar)
            self.mixing += through_softmax(at.shares, total if shares_bar is None else total + shares_bar)

    def _rows(self, number: int) -> slice:
        classes = self.classifier.shape[1]
        return slice(number * classes, (number + 1) * classes)

    def _row_pair(self) -> tuple[Tensor, Tensor]:
        """The next A * C rows of the projector's gradient, [A, C, H] and [A, C, D]."""
        self.filled += 1
        return self.left[self.filled - 1], self.right[self.filled - 1]


def _inner(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum()
