"""A few numbers fitted to labels: the most probable ones under a Gaussian prior, and the weights of a mixture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize

#: Below this a probability counts as this.
SMALLEST = 1e-12
#: Stop where no entry of the gradient is larger, in standard deviations of the prior.
TOLERANCE = 1e-8
MOST_STEPS = 1000
#: Weights of a mixture stop where none changes by more.
STILL = 1e-10
MOST_MIXED = 5000


def most_probable(
    energy: Callable[[torch.Tensor], torch.Tensor],
    mean: torch.Tensor,
    deviation: torch.Tensor,
    tolerance: float = TOLERANCE,
) -> torch.Tensor:
    """The minimum of ``energy(x) + sum(((x - mean) / deviation)^2) / 2`` by L-BFGS from the mean; the same every time.

    Args:
        energy: minus the log-likelihood of parameters, float64 [P], as a scalar that can be differentiated.
        mean: the prior's, float64 [P].
        deviation: the prior's standard deviations, float64 [P], or a factor of its covariance, [P, P].
        tolerance: of the gradient, in standard deviations.

    Returns:
        float64 [P]; NaN where the energy is not finite at the mean.
    """

    def at(x: torch.Tensor) -> torch.Tensor:
        return mean + (deviation @ x if deviation.dim() == 2 else deviation * x)

    def value_and_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(point).requires_grad_()
        with torch.enable_grad():
            total = energy(at(x)) + 0.5 * (x**2).sum()
            (gradient,) = torch.autograd.grad(total, x)
        return total.item(), gradient.numpy()

    start = np.zeros(len(mean))
    if not np.isfinite(value_and_gradient(start)[0]):
        return torch.full_like(mean, torch.nan)
    limits = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "ftol": 0.0, "gtol": tolerance, "maxcor": 20}
    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=limits)
    return at(torch.from_numpy(found.x))


def mixture_weights(probabilities: torch.Tensor, targets: torch.Tensor, counts: float) -> torch.Tensor:
    """The most probable weights of R predictors, by EM (Dempster et al. 1977), from equal ones; there is one maximum.

    They maximise ``sum_kc t_kc log(sum_r w_r p_rkc) + counts / R sum_r log w_r``: the labels' likelihood under the
    weighted mean of the predictions, and a Dirichlet prior that counts like ``counts`` labels dealt out equally.

    Args:
        probabilities: of each predictor for each sample, float64 [R, K, C].
        targets: label distributions, float64 [K, C].
        counts: above 0.

    Returns:
        float64 [R], which sum to one.
    """
    raters = len(probabilities)
    found = torch.full((raters,), 1 / raters, dtype=torch.float64)
    for _ in range(MOST_MIXED):
        mixed = torch.einsum("r,rkc->kc", found, probabilities).clamp_min(SMALLEST)
        shares = found * torch.einsum("rkc,kc->r", probabilities, targets / mixed)
        now = (shares + counts / raters) / (shares.sum() + counts)
        moved, found = (now - found).abs().max(), now
        if moved < STILL:
            break
    return found


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [N, C] to the power of ``1 / temperature``, made to sum to one again; as they are at 1."""
    if temperature == 1:
        return probabilities
    logs = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST)) / temperature
    raised = np.exp(logs - logs.max(-1, keepdims=True))
    return (raised / raised.sum(-1, keepdims=True)).astype(np.float32)
