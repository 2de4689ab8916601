"""Priors of output adaptations, learned over the training raters: what a listener's numbers are likely to be.

Numbers theta_r of rater r are normally distributed over raters with mean m and covariance S, and the rater's labels
given theta_r as for a listener (:mod:`.output_only`). m and S are those of greatest posterior, by
expectation-maximisation with Laplace's approximation of each rater's posterior, N(theta_r, V_r), 1 / V_r the Fisher
information of the labels there plus 1 / S (which is the Hessian where logits are linear in theta):

    m = (m0 + sum_r theta_r) / (1 + R)
    S = (N S0 + (m - m0)(m - m0)' + sum_r [(theta_r - m)(theta_r - m)' + V_r]) / (N + 1 + R).

m0 and S0 are the fixed prior's, S0 diagonal; they count like one rater for the mean, like N = 4 for the covariance, so
that S has full rank whatever R is. A system that adapts is asked, as for a listener, about samples that it has not
adapted to; one that does not about the raters' clips as they are, which its training has seen.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from s3prl_metaperser.methods.output_only import Output

#: How many raters the fixed prior counts like in the covariance.
COUNTS = 4.0
#: Rounds in which raters' numbers are fitted anew, steps of EM in each, and when both end, in S0's deviations.
ROUNDS, MOST_STEPS, STILL = 4, 100, 1e-3
#: Of a rater's fit, in standard deviations of the prior; and by which logits are differentiated.
TOLERANCE, STEP = 1e-6, 1e-4
#: One rater's log-probabilities [N, C] and label distributions [N, C].
Rated = tuple[torch.Tensor, torch.Tensor]
#: A normal distribution over raters: its mean [P] and its covariance [P, P].
Normal = tuple[torch.Tensor, torch.Tensor]


def learned_prior(output: Output, rated: Sequence[Rated]) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean m, float64 [P], and a lower triangular factor L of the covariance, S = L L', float64 [P, P].

    In each round a rater's likelihood is replaced by the normal distribution that touches it at the rater's most
    probable numbers; EM on these is linear algebra. ``outputrc.spread`` has no part in it: it widens what is learned.
    """
    output = copy.copy(output)
    output.spread = 1.0
    mean, deviation = output.prior(rated[0][0].shape[-1])
    first = found = mean, torch.diag(deviation**2)
    for _ in range(ROUNDS):
        before, touching = found, [_touching(output, *each, *found) for each in rated]
        information, pulls = (torch.stack(each) for each in zip(*touching, strict=True))
        for _ in range(MOST_STEPS):
            last, found = found, _em_step(information, pulls, found, first)
            if _moved(last, found, deviation) < STILL / 2:
                break
        if _moved(before, found, deviation) < STILL:
            break
    return found[0], torch.linalg.cholesky(found[1])


def _em_step(information: torch.Tensor, pulls: torch.Tensor, prior: Normal, first: Normal) -> Normal:
    """The next mean and covariance.

    Args:
        information: of each rater's numbers, 1 / W, where the likelihood is N(theta; u, W), [R, P, P].
        pulls: u / W, [R, P].
        first: the fixed prior.
    """
    inverse = torch.linalg.inv(prior[1])
    widths = torch.linalg.inv(information + inverse)
    places = torch.einsum("rpq,rq->rp", widths, pulls + inverse @ prior[0])
    mean = (first[0] + places.sum(0)) / (1 + len(places))
    apart = torch.cat([places - mean, (mean - first[0])[None]])
    total = COUNTS * first[1] + apart.T @ apart + widths.sum(0)
    return mean, total / (COUNTS + 1 + len(places))


def _moved(one: Normal, other: Normal, deviation: torch.Tensor) -> float:
    """The largest change, in the fixed prior's standard deviations."""
    mean, covariance = (two - each for each, two in zip(one, other, strict=True))
    return max(
        (mean / deviation).abs().max().item(), (covariance / torch.outer(deviation, deviation)).abs().max().item()
    )


def _touching(
    output: Output, logs: torch.Tensor, targets: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """1 / W and u / W of the N(theta; u, W) that touches a rater's likelihood (:func:`_em_step`)."""
    place = output.fit_under(logs, targets, mean, torch.linalg.cholesky(covariance), TOLERANCE)
    moves = STEP * torch.eye(len(place), dtype=torch.float64)
    slopes = [(output.apply(place + move, logs) - output.apply(place - move, logs)) / (2 * STEP) for move in moves]
    jacobian = torch.stack(slopes, -1)  # [N, C, P]
    said = torch.softmax(output.apply(place, logs), -1)
    middle = torch.einsum("nc,ncp->np", said, jacobian)
    information = torch.einsum("nc,ncp,ncq->pq", said, jacobian, jacobian) - middle.T @ middle
    return information, information @ place + torch.linalg.solve(covariance, place - mean)
