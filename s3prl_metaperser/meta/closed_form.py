"""The closed form of the inner loop for the linear head on pooled features: exact, and several times faster.

With ``d`` the loss's gradient with respect to the logits [K, C] and ``h`` the mixed features [K, D], the projector's
gradient is ``W2^T E`` with ``E = d^T h`` [C, D]: its rank is at most C. So the fast projector

    W1_s = W1 - sum_t U_t^T E_t,        U_t = eta_t W2_t [C, H]

is never built; only U and E are carried, and every product with W1_s goes through them. The inner gradients are written
by hand, so that the outer gradient, second-order terms and rates included, is one ordinary backward pass.

It is exact only for this head (softmax-weighted sum, linear, mean, linear, soft cross-entropy); for everything else
:mod:`s3prl_metaperser.meta.inner_loop` is the loop, and the oracle for this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.model import PARAMETERS


def applies_to(parameters: Mapping[str, Tensor], rates: InnerRates) -> bool:
    """Whether the closed form is exact: these are the head's five tensors, and all of them have rates."""
    if tuple(parameters) != PARAMETERS or rates.names != PARAMETERS:
        return False
    mixing, projector, projector_bias, classifier, classifier_bias = parameters.values()
    return (
        mixing.dim() == projector_bias.dim() == classifier_bias.dim() == 1
        and projector.dim() == classifier.dim() == 2
        and classifier.shape[1] == projector.shape[0] == len(projector_bias)
        and classifier.shape[0] == len(classifier_bias)
    )


def layer_major(features: Tensor) -> Tensor:
    """[A, K, L, D] -> [A, L, K * D], the layout in which mixing is one fast matrix-vector product a rater."""
    raters, samples, layers, size = features.shape
    return features.transpose(1, 2).reshape(raters, layers, samples * size)


def outer_loss(
    parameters: Mapping[str, Tensor],
    rates: InnerRates,
    features: Tensor,
    targets: Tensor,
    second_order: Sequence[bool],
    query: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The mean outer loss over raters; differentiate it with ``backward()``.

    Args:
        parameters: theta_0 by the names in ``PARAMETERS``, shared by all raters.
        features: of the support samples, [A, L, K * D] (:func:`layer_major`).
        targets: weighted targets of the support samples, [A, K, C].
        second_order: for each of the S inner steps.
        query: features [A, L, Q * D] and weighted targets [A, Q, C] of the outer loss; by default the support samples.

    Returns:
        a scalar.
    """
    fast = _Fast(parameters, len(features))
    for step, twice in enumerate(second_order):
        fast = fast.stepped(rates.values[min(step, len(rates.values) - 1)], features, targets, twice)
    outer_features, outer_targets = query or (features, targets)
    logits = fast.logits(fast.mixed(outer_features, outer_targets.shape[1]))
    return -(outer_targets * torch.log_softmax(logits, -1)).sum(-1).mean()


def adapt(
    parameters: Mapping[str, Tensor], rates: InnerRates, features: Tensor, targets: Tensor, steps: int
) -> dict[str, Tensor]:
    """The inner steps for meta-testing, for A episodes at once and without a graph.

    Args:
        features: [A, L, K * D].
        targets: weighted targets, [A, K, C].

    Returns:
        theta after ``steps`` steps, each tensor with a leading axis A.
    """
    with torch.no_grad():
        fast = _Fast(parameters, len(features))
        for step in range(steps):
            fast = fast.stepped(rates.values[min(step, len(rates.values) - 1)], features, targets, True)
        return {name: value.detach() for name, value in fast.materialised().items()}


class _Fast:
    """theta_s of A raters, with the projector's change as a sum of outer products.

    ``up`` [A, s * C, H] and ``down`` [A, s * C, D] hold U_t and E_t of the steps so far; None before the first.
    """

    def __init__(self, parameters: Mapping[str, Tensor], raters: int):
        mixing, self.projector, bias, classifier, classifier_bias = (parameters[name] for name in PARAMETERS)
        self.mixing = mixing.expand(raters, -1)
        self.bias = bias.expand(raters, -1)
        self.classifier = classifier.expand(raters, -1, -1)
        self.classifier_bias = classifier_bias.expand(raters, -1)
        self.up: Tensor | None = None
        self.down: Tensor | None = None

    def mixed(self, features: Tensor, samples: int) -> Tensor:
        """Softmax-weighted layer sums, [A, L, K * D] -> [A, K, D]."""
        if features.shape[1] == 1:  # the softmax of a single weight is one
            return features.view(len(features), samples, -1)
        return _Mix.apply(torch.softmax(self.mixing, -1), features).view(len(features), samples, -1)

    def logits(self, mixed: Tensor) -> Tensor:
        """[A, K, D] -> [A, K, C]."""
        offset = torch.bmm(self.classifier, self.bias[:, :, None]).squeeze(-1) + self.classifier_bias
        return torch.baddbmm(offset[:, None], mixed, self._combined().transpose(1, 2))

    def _combined(self) -> Tensor:
        """``W2_s W1_s``, [A, C, D]."""
        raters, classes, hidden = self.classifier.shape
        product = (self.classifier.reshape(raters * classes, hidden) @ self.projector).view(raters, classes, -1)
        if self.up is None:
            return product
        return torch.baddbmm(product, torch.bmm(self.classifier, self.up.transpose(1, 2)), self.down, alpha=-1)

    def stepped(self, rate: Tensor, features: Tensor, targets: Tensor, twice: bool) -> _Fast:
        """theta_{s+1}; ``rate`` is the row of the five tensors' rates, in the order of ``PARAMETERS``."""
        with torch.set_grad_enabled(twice and torch.is_grad_enabled()):
            gradients = self._gradients(features, targets)
        mixing, down, bias, classifier, classifier_bias = gradients
        following = object.__new__(_Fast)
        following.projector = self.projector
        following.mixing = self.mixing if mixing is None else self.mixing - rate[0] * mixing
        following.bias = self.bias - rate[2] * bias
        following.classifier = self.classifier - rate[3] * classifier
        following.classifier_bias = self.classifier_bias - rate[4] * classifier_bias
        # to first order the projector's gradient W2^T E is a constant, and so is the W2 in it
        up = rate[1] * (self.classifier if twice else self.classifier.detach())
        following.up = up if self.up is None else torch.cat((self.up, up), dim=1)
        following.down = down if self.down is None else torch.cat((self.down, down), dim=1)
        return following

    def _gradients(self, features: Tensor, targets: Tensor):
        """Of the support loss: by layer weights [A, L], E [A, C, D], and by b1, W2 and b2."""
        raters, samples, classes = targets.shape
        mixed = self.mixed(features, samples)
        combined = self._combined()
        offset = torch.bmm(self.classifier, self.bias[:, :, None]).squeeze(-1) + self.classifier_bias
        logits = torch.baddbmm(offset[:, None], mixed, combined.transpose(1, 2))
        delta = (targets.sum(-1, keepdim=True) * torch.softmax(logits, -1) - targets) / samples
        down = torch.bmm(delta.transpose(1, 2), mixed)
        by_bias = delta.sum(1)
        by_classifier = (down.reshape(raters * classes, -1) @ self.projector.T).view(raters, classes, -1)
        if self.up is not None:
            by_classifier = torch.baddbmm(by_classifier, torch.bmm(down, self.down.transpose(1, 2)), self.up, alpha=-1)
        by_classifier = torch.baddbmm(by_classifier, by_bias[:, :, None], self.bias[:, None])
        by_projector_bias = torch.bmm(by_bias[:, None], self.classifier).squeeze(1)
        by_mixing = None
        if features.shape[1] > 1:
            shares = torch.softmax(self.mixing, -1)
            by_shares = _Project.apply(torch.bmm(delta, combined).view(raters, -1), features)
            by_mixing = shares * (by_shares - (shares * by_shares).sum(-1, keepdim=True))
        return by_mixing, down, by_projector_bias, by_classifier, by_bias

    def materialised(self) -> dict[str, Tensor]:
        """The five tensors, each with a leading axis A."""
        projector = self.projector.expand(len(self.mixing), -1, -1)
        if self.up is not None:
            projector = torch.baddbmm(projector, self.up.transpose(1, 2), self.down, alpha=-1)
        values = (self.mixing, projector, self.bias, self.classifier, self.classifier_bias)
        return dict(zip(PARAMETERS, values, strict=True))


class _Mix(torch.autograd.Function):
    """shares [A, L], features [A, L, N] -> [A, N]; features are constants."""

    @staticmethod
    def forward(context, shares: Tensor, features: Tensor) -> Tensor:
        context.features = features
        mixed = features.new_empty(features.shape[0], features.shape[2])
        for rater, layers in enumerate(features):  # one matrix-vector product each, in the orientation that is fast
            torch.mv(layers.t(), shares[rater].contiguous(), out=mixed[rater])
        return mixed

    @staticmethod
    def backward(context, gradient: Tensor):
        return _Project.apply(gradient, context.features), None


class _Project(torch.autograd.Function):
    """The adjoint of :class:`_Mix`: [A, N], features [A, L, N] -> [A, L]."""

    @staticmethod
    def forward(context, values: Tensor, features: Tensor) -> Tensor:
        context.features = features
        return torch.bmm(values[:, None], features.transpose(1, 2)).squeeze(1)

    @staticmethod
    def backward(context, gradient: Tensor):
        return _Mix.apply(gradient, context.features), None
