"""The closed form of the inner loop for the linear head on pooled features: exact, and several times faster.

With ``delta`` the loss's gradient with respect to the logits [C, K] and ``h`` the mixed features [K, D], the gradient
by the projector is ``W2^T E`` with ``E = delta h`` [C, D]: its rank is at most C. So the fast projector

    W1_s = W1 - sum_t U_t^T E_t,        U_t = eta_t W2_t [C, H]

is never built; only U and E are carried, and every product with W1_s goes through them. Both the inner gradients and
the gradient of the outer loss through them (:mod:`s3prl_metaperser.meta.closed_form_reverse`) are written by hand, so
that nothing of autograd's bookkeeping is left: an outer step is products of matrices and little else.

It is exact only for this head (softmax-weighted sum, linear, mean, linear, soft cross-entropy); for everything else
:mod:`s3prl_metaperser.meta.inner_loop` is the loop, and the oracle for this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from s3prl_metaperser.meta import closed_form_adapt
from s3prl_metaperser.meta.closed_form_reverse import reverse
from s3prl_metaperser.meta.closed_form_steps import Samples, Theta, inner_step, multiplied_out, outer_pass
from s3prl_metaperser.meta.model import PARAMETERS
from s3prl_metaperser.meta.rates import InnerRates

#: Steps after which adaptation folds the outer products into a projector for each episode: more cost more than that.
ROOM = 4
#: Bytes that the episodes adapted together may work on; so many stay in a CPU's cache.
AT_ONCE = 6 << 20


def applies_to(parameters: Mapping[str, Tensor], rates: InnerRates) -> bool:
    """Whether the closed form is exact: these are the head's five tensors, and each has one rate a step."""
    if tuple(parameters) != PARAMETERS or rates.names != PARAMETERS or rates.values.shape[1] != len(PARAMETERS):
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


def gathered(features: Tensor, rows: Tensor) -> Tensor:
    """``layer_major(features[rows])`` in one copy: features [N, L, D], rows [A, K] -> [A, L, K * D]."""
    raters, samples = rows.shape
    utterances, layers, size = features.shape
    places = rows[:, None] * layers + torch.arange(layers, device=rows.device)[:, None]  # [A, L, K]
    chosen = features.reshape(utterances * layers, size).index_select(0, places.flatten())
    return chosen.view(raters, layers, samples * size)


def outer_loss(
    parameters: Mapping[str, Tensor],
    rates: InnerRates,
    features: Tensor,
    targets: Tensor,
    second_order: Sequence[bool],
    query: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The mean outer loss over raters; differentiate it once, with ``backward()``.

    Args:
        parameters: theta_0 by the names in ``PARAMETERS``, shared by all raters.
        features: of the support samples, [A, L, K * D] (:func:`layer_major`).
        targets: weighted targets of the support samples, [A, K, C].
        second_order: for each of the S inner steps.
        query: features [A, L, Q * D] and weighted targets [A, Q, C] of the outer loss; by default the support samples.

    Returns:
        a scalar.
    """
    tensors = [parameters[name] for name in PARAMETERS]
    return _OuterLoss.apply(*tensors, rates.values, features, targets, tuple(second_order), query)


class _OuterLoss(torch.autograd.Function):
    """Loss and gradient in one go: the gradient is made where the loss is, and scaled when it is asked for."""

    @staticmethod
    def forward(context, mixing, projector, bias, classifier, classifier_bias, rates, features, targets, orders, query):
        samples = Samples(features, targets)
        theta = Theta.shared([mixing, projector, bias, classifier, classifier_bias], samples, room=len(orders))
        steps = []
        for number in range(len(orders)):
            steps.append(inner_step(theta, rates[min(number, len(rates) - 1)], samples))
            theta = steps[-1].after
        final, loss = outer_pass(theta, samples if query is None else Samples(*query))
        if any(context.needs_input_grad):
            context.save_for_backward(*reverse(theta, steps, final, rates, orders))
        return loss

    @staticmethod
    @once_differentiable
    def backward(context, scale):
        return *(scale * gradient for gradient in context.saved_tensors), None, None, None, None


def gradients(parameters: Mapping[str, Tensor], features: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Of the loss of each of A heads on its own samples, for another optimiser than the inner loop.

    Args:
        parameters: each tensor with a leading axis A.
        features, targets: as :func:`adapt`'s.
    """
    with torch.no_grad():
        mixing, projector, bias, classifier, classifier_bias = (parameters[name] for name in PARAMETERS)
        ups, downs = (classifier.new_empty(*classifier.shape[:2], size) for size in projector.shape[1:])
        theta = Theta(mixing, projector, bias, classifier, classifier_bias, ups, downs)
        found = inner_step(theta, classifier.new_zeros(len(PARAMETERS)), Samples(features, targets)).gradient
        of_projector = torch.bmm(classifier.transpose(1, 2), found.down)
        by_tensor = (found.mixing, of_projector, found.bias, found.classifier, found.classifier_bias)
        return dict(zip(PARAMETERS, by_tensor, strict=True))


def adapt(
    parameters: Mapping[str, Tensor], rates: InnerRates, features: Tensor, targets: Tensor, steps: int
) -> dict[str, Tensor]:
    """The inner steps for A episodes at once, without a graph.

    Args:
        features: [A, L, K * D].
        targets: weighted targets, [A, K, C].

    Returns:
        theta after ``steps`` steps, each tensor with a leading axis A.
    """
    with torch.no_grad():
        theta = _stepped(parameters, rates, Samples(features, targets), steps)
        found = (theta.mixing, theta.projector, theta.bias, theta.classifier, theta.classifier_bias)
        return dict(zip(PARAMETERS, found, strict=True))


def adapt_to_predict(
    parameters: Mapping[str, Tensor],
    rates: InnerRates,
    features: Tensor,
    targets: Tensor,
    steps: int,
    kept: float = 1.0,
) -> dict[str, Tensor]:
    """A head for each of A episodes with the same logits as :func:`adapt`'s, in a fraction of the time.

    Its projector is ``W2 W1`` [A, C, D] and its classifier the identity: theta multiplied out, which is all that
    predicting needs. Arguments are those of :func:`adapt`, and ``kept``, the share of theta that a step keeps
    (:func:`.closed_form_adapt.adapted`).
    """
    (episodes, layers, size), (_, count, classes) = features.shape, targets.shape
    hidden, size = parameters["classifier.weight"].shape[1], size // count
    products = kept != 1 or closed_form_adapt.pays(count, layers, size)
    numbers = count * layers * (count * layers + hidden) if products else size * (count * layers + hidden)
    at_once = max(1, AT_ONCE // (numbers * features.element_size()))
    with torch.no_grad():
        parts = []
        for start in range(0, episodes, at_once):
            samples = Samples(features[start : start + at_once], targets[start : start + at_once])
            if products:
                theta = Theta.shared([parameters[name] for name in PARAMETERS], samples, room=0)
                parts.append(closed_form_adapt.adapted(theta, rates.values, samples, steps, kept))
            else:
                parts.append(multiplied_out(_stepped(parameters, rates, samples, steps)))
        mixing, combined, offset = (torch.cat(part) for part in zip(*parts, strict=True))
        identity = torch.eye(classes, dtype=combined.dtype, device=combined.device)
        found = mixing, combined, offset, identity.expand(episodes, -1, -1), torch.zeros_like(offset)
        return dict(zip(PARAMETERS, found, strict=True))


def _stepped(parameters: Mapping[str, Tensor], rates: InnerRates, samples: Samples, steps: int) -> Theta:
    """theta after ``steps`` steps, folded."""
    room = min(steps, ROOM)
    theta = Theta.shared([parameters[name] for name in PARAMETERS], samples, room=room)
    for step in range(steps):
        if theta.taken == room:
            theta = theta.folded()
        theta = inner_step(theta, rates.values[min(step, len(rates.values) - 1)], samples).after
    return theta.folded()
