"""The most probable parameters under a Gaussian prior: one solver for all that is fitted to K labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize

#: Stop where no entry of the gradient is larger, in standard deviations of the prior.
TOLERANCE = 1e-8
MOST_STEPS = 1000


def most_probable(
    energy: Callable[[torch.Tensor], torch.Tensor], mean: torch.Tensor, deviation: torch.Tensor
) -> torch.Tensor:
    """The minimum of ``energy(x) + sum(((x - mean) / deviation)^2) / 2`` by L-BFGS from the mean; the same every time.

    Args:
        energy: minus the log-likelihood of parameters, float64 [P], as a scalar that can be differentiated.
        mean: the prior's, float64 [P].
        deviation: the prior's standard deviations, float64 [P].

    Returns:
        float64 [P]; NaN where the energy is not finite at the mean.
    """

    def value_and_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(point).requires_grad_()
        with torch.enable_grad():
            total = energy(mean + deviation * x) + 0.5 * (x**2).sum()
            (gradient,) = torch.autograd.grad(total, x)
        return total.item(), gradient.numpy()

    start = np.zeros(len(mean))
    if not np.isfinite(value_and_gradient(start)[0]):
        return torch.full_like(mean, torch.nan)
    limits = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "ftol": 0.0, "gtol": TOLERANCE, "maxcor": 20}
    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=limits)
    return mean + deviation * torch.from_numpy(found.x)
