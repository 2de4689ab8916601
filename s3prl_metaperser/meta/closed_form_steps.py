"""Forward through the closed form: one pass of the linear head for A raters, and one inner step.

Nothing here builds a graph. Classes come before samples ([A, C, K]), which is the orientation in which the products
with C=9 rows are fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


class Samples:
    """K samples of each of A raters.

    Args:
        features: layer-major, [A, L, K * D].
        targets: weighted targets, [A, K, C].

    Attributes:
        targets: [A, C, K].
        weight: of each sample, [A, 1, K].
    """

    def __init__(self, features: Tensor, targets: Tensor):
        self.features = features
        self.targets = targets.transpose(1, 2).contiguous()
        self.weight = self.targets.sum(1, keepdim=True)

    def mixed(self, shares: Tensor) -> Tensor:
        """Weighted sums over layers: shares [A, L] -> [A, K, D]."""
        raters, _, samples = self.targets.shape
        if self.features.shape[1] == 1:  # the softmax of a single weight is one
            return self.features.view(raters, samples, -1)
        return torch.bmm(shares[:, None], self.features).view(raters, samples, -1)

    def by_layer(self, values: Tensor) -> Tensor:
        """The adjoint of :meth:`mixed`: [A, K, D] -> inner products with each layer, [A, L]."""
        return torch.bmm(values.flatten(1)[:, None], self.features.transpose(1, 2)).squeeze(1)


@dataclass(frozen=True)
class Theta:
    """theta_s of A raters, the projector's change as a sum of outer products: ``W1_s = W1 - up^T down``.

    Attributes:
        projector: W1, [H, D] for all raters or [A, H, D].
        mixing, bias, classifier, classifier_bias: [A, L], [A, H], [A, C, H], [A, C].
        ups: room for U_t, [A, room * C, H]; ``taken`` * C rows are in use. The thetas of one adaptation share it, and
            each uses the rows that were there when it was made.
        downs: the same for E_t, [A, room * C, D].
    """

    mixing: Tensor
    projector: Tensor
    bias: Tensor
    classifier: Tensor
    classifier_bias: Tensor
    ups: Tensor
    downs: Tensor
    taken: int = 0

    @classmethod
    def shared(cls, theta: Sequence[Tensor], samples: Samples, room: int) -> Theta:
        """theta_0, in the order of ``model.PARAMETERS``, the same for all raters, with room for so many steps."""
        mixing, projector, bias, classifier, classifier_bias = theta
        raters, (classes, hidden) = len(samples.features), classifier.shape
        ups = classifier.new_empty(raters, room * classes, hidden)
        downs = classifier.new_empty(raters, room * classes, projector.shape[1])
        own = (x.expand(raters, *x.shape) for x in (mixing, bias, classifier, classifier_bias))
        mixing, bias, classifier, classifier_bias = own
        return cls(mixing, projector, bias, classifier, classifier_bias, ups, downs)

    @property
    def up(self) -> Tensor:
        """U_t of the steps so far, [A, s * C, H]."""
        return self.ups[:, : self.taken * self.classifier.shape[1]]

    @property
    def down(self) -> Tensor:
        """E_t of the steps so far, [A, s * C, D]."""
        return self.downs[:, : self.taken * self.classifier.shape[1]]

    def stepped(self, rate: Tensor, gradient: Gradient) -> Theta:
        """theta_{s+1}; ``rate`` is the row of the five tensors' rates, in the order of ``model.PARAMETERS``."""
        classes = self.classifier.shape[1]
        new = slice(self.taken * classes, (self.taken + 1) * classes)
        self.ups[:, new] = rate[1] * self.classifier
        self.downs[:, new] = gradient.down
        mixing, _, bias, classifier, classifier_bias = rate.unbind()
        return replace(
            self,
            mixing=torch.addcmul(self.mixing, mixing, gradient.mixing, value=-1),
            bias=torch.addcmul(self.bias, bias, gradient.bias, value=-1),
            classifier=torch.addcmul(self.classifier, classifier, gradient.classifier, value=-1),
            classifier_bias=torch.addcmul(self.classifier_bias, classifier_bias, gradient.classifier_bias, value=-1),
            taken=self.taken + 1,
        )

    def folded(self) -> Theta:
        """The same theta with a projector for each rater and room for as many steps again."""
        projector = self.projector.expand(len(self.mixing), *self.projector.shape[-2:])
        return replace(self, projector=torch.baddbmm(projector, self.up.transpose(1, 2), self.down, alpha=-1), taken=0)


@dataclass(frozen=True)
class Pass:
    """One forward pass of A raters' samples.

    Attributes:
        shares: softmax of the layer weights, [A, L].
        mixed: h, [A, K, D].
        combined: M = W2 W1_s, [A, C, D].
        between: W2 U^T, [A, C, s * C].
        log_probabilities, probabilities: [A, C, K].
    """

    theta: Theta
    samples: Samples
    shares: Tensor
    mixed: Tensor
    combined: Tensor
    between: Tensor
    log_probabilities: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class Gradient:
    """Of the support loss, by the five tensors.

    Attributes:
        mixing, bias, classifier, classifier_bias: shapes as in :class:`Theta`.
        down: E, [A, C, D]; the projector's is ``W2^T E``.
    """

    mixing: Tensor
    down: Tensor
    bias: Tensor
    classifier: Tensor
    classifier_bias: Tensor


@dataclass(frozen=True)
class Step:
    """One inner step.

    Attributes:
        delta: gradient by the logits, [A, C, K].
        by_layer: gradient by ``shares``, [A, L].
        overlap: F = E E_prev^T, [A, C, s * C].
        after: theta_{s+1}.
    """

    forward: Pass
    delta: Tensor
    by_layer: Tensor
    overlap: Tensor
    gradient: Gradient
    after: Theta


def forward(theta: Theta, samples: Samples) -> Pass:
    """The head's outputs at theta."""
    shares = torch.softmax(theta.mixing, -1)
    mixed = samples.mixed(shares)
    combined = times_projector(theta.classifier, theta.projector)
    between = torch.bmm(theta.classifier, theta.up.transpose(1, 2))
    if theta.taken:
        combined.baddbmm_(between, theta.down, alpha=-1)
    offset = torch.baddbmm(theta.classifier_bias[:, :, None], theta.classifier, theta.bias[:, :, None])
    logits = torch.baddbmm(offset, combined, mixed.transpose(1, 2))
    logs = torch.log_softmax(logits, 1)
    return Pass(theta, samples, shares, mixed, combined, between, logs, logs.exp())


def inner_step(theta: Theta, rate: Tensor, samples: Samples) -> Step:
    """One step of the inner loop and all that its derivative needs; ``rate`` [5]."""
    at = forward(theta, samples)
    delta = (samples.weight * at.probabilities).sub_(samples.targets).div_(samples.targets.shape[2])
    down = torch.bmm(delta, at.mixed)
    classifier_bias = delta.sum(2)
    classifier = times_projector_transposed(down, theta.projector)
    overlap = torch.bmm(down, theta.down.transpose(1, 2))
    if theta.taken:
        classifier.baddbmm_(overlap, theta.up, alpha=-1)
    classifier.baddbmm_(classifier_bias[:, :, None], theta.bias[:, None])
    bias = torch.bmm(classifier_bias[:, None], theta.classifier).squeeze(1)
    if samples.features.shape[1] > 1:
        by_layer = samples.by_layer(torch.bmm(delta.transpose(1, 2), at.combined))
        mixing = through_softmax(at.shares, by_layer)
    else:
        by_layer = mixing = torch.zeros_like(theta.mixing)
    gradient = Gradient(mixing, down, bias, classifier, classifier_bias)
    return Step(at, delta, by_layer, overlap, gradient, theta.stepped(rate, gradient))


def outer_pass(theta: Theta, samples: Samples) -> tuple[Pass, Tensor]:
    """The pass that the outer loss is of, and the loss: over samples and raters the mean of ``-T log p``."""
    final = forward(theta, samples)
    raters, _, count = samples.targets.shape
    return final, -(samples.targets * final.log_probabilities).sum() / (raters * count)


def multiplied_out(theta: Theta) -> tuple[Tensor, Tensor, Tensor]:
    """What predicting needs of a folded theta: layer weights [A, L], ``W2 W1`` [A, C, D] and ``W2 b1 + b2`` [A, C]."""
    offset = torch.baddbmm(theta.classifier_bias[:, :, None], theta.classifier, theta.bias[:, :, None]).squeeze(2)
    return theta.mixing, times_projector(theta.classifier, theta.projector), offset


def through_softmax(shares: Tensor, values: Tensor) -> Tensor:
    """The Jacobian of the softmax, which is symmetric, at ``shares`` [A, L] times ``values`` [A, L]."""
    return shares * (values - (shares * values).sum(-1, keepdim=True))


def times_projector(rows: Tensor, projector: Tensor) -> Tensor:
    """[A, C, H] times W1 -> [A, C, D]; one product where all raters share it, of one's rows where they share those."""
    if projector.dim() == 2 and not rows.stride(0):
        return (rows[0] @ projector).expand(len(rows), -1, -1)
    if projector.dim() == 3:
        return torch.bmm(rows, projector)
    return (rows.reshape(-1, rows.shape[2]) @ projector).view(*rows.shape[:2], -1)


def times_projector_transposed(rows: Tensor, projector: Tensor) -> Tensor:
    """[A, C, D] times W1^T -> [A, C, H]."""
    if projector.dim() == 3:
        return torch.bmm(rows, projector.transpose(1, 2))
    return (rows.reshape(-1, rows.shape[2]) @ projector.T).view(*rows.shape[:2], -1)
