"""The most probable linear classifier under a Gaussian prior, from K soft labels; it can be differentiated.

With features x_k, prior mean phi_0 and prior covariance V (the same for every class) the classifier phi minimises

    -sum_k T_k . log softmax(x_k phi) + sum_c (phi - phi_0)_c' V^-1 (phi - phi_0)_c / 2.

It is convex. Its solution is phi = phi_0 + V X' a with a [K, C], so that the K logits are Z_0 + G a with Z_0 = X phi_0
and G = X V X' [K, K], and a = T - (sum_c T_kc) softmax(Z_0 + G a): the K samples are all that is ever solved for.
Newton's steps are those of Rasmussen & Williams (2006), algorithm 3.3 (Laplace's approximation of a multi-class
Gaussian process, here with a linear kernel): C Cholesky factors of K x K instead of one of (K C) x (K C).

The gradient of the solution by anything that Z_0, G and T come from is that of the implicit function theorem (as in
iMAML, Rajeswaran et al. 2019, section 3): no step of the solver is differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Newton's steps end where no entry of a is further off than this.
TOLERANCE = 1e-10
MOST_STEPS, MOST_HALVINGS = 100, 30


def logistic_map(offset: Tensor, gram: Tensor, targets: Tensor) -> Tensor:
    """The coefficients a of the most probable classifier, for any number of listeners at once.

    Args:
        offset: Z_0, the K samples' logits at the prior mean, float64 [..., K, C].
        gram: G, the prior covariance of the K samples' logits of a class, float64 [..., K, K].
        targets: T, float64 [..., K, C]: label distributions, or multiples of them; a sample of zeros has no say.

    Returns:
        a, float64 [..., K, C]; the logits of a new sample x are x phi_0 + (x V X') a. NaN where an argument is.

    Examples:
        Two samples that the prior mean cannot tell apart, labelled differently:

        >>> eye = torch.eye(2, dtype=torch.float64)
        >>> a = logistic_map(0 * eye, eye, eye)
        >>> torch.allclose(a, eye - torch.softmax(a, -1))
        True
    """
    said = targets.sum(-1, keepdim=True)
    with torch.no_grad():
        found = _newton(offset, gram, targets, said)
        shares = said * torch.softmax(offset + gram @ found, -1)
    residual = found + said * torch.softmax(offset + gram @ found, -1) - targets
    return found - _solved(gram.detach(), shares, said.detach(), residual)


def _newton(offset: Tensor, gram: Tensor, targets: Tensor, said: Tensor) -> Tensor:
    """Newton's method, its steps halved where they would lead uphill."""
    found = torch.zeros_like(targets)
    energy = _energy(found, offset, gram, targets)
    for _ in range(MOST_STEPS):
        shares = said * torch.softmax(offset + gram @ found, -1)
        residual = found + shares - targets
        if not residual.abs().max() > TOLERANCE:
            break
        step, share = _solved(gram, shares, said, residual), torch.ones_like(energy)
        for _ in range(MOST_HALVINGS):
            after = _energy(found - share * step, offset, gram, targets)
            uphill = after > energy + 1e-12 * (1 + energy.abs())
            if not uphill.any():
                break
            share = torch.where(uphill, share / 2, share)
        found, energy = found - share * step, after
    return found


def _energy(a: Tensor, offset: Tensor, gram: Tensor, targets: Tensor) -> Tensor:
    """What is minimised, [..., 1, 1]."""
    moved = gram @ a
    value = (a * moved).sum((-1, -2)) / 2 - (targets * torch.log_softmax(offset + moved, -1)).sum((-1, -2))
    return value[..., None, None]


def _solved(gram: Tensor, shares: Tensor, said: Tensor, right: Tensor) -> Tensor:
    """(I + W G)^-1 ``right`` with W the curvature of the likelihood, block-diagonal over samples:
    W_k = diag(shares_k) - shares_k shares_k' / said_k."""
    samples = gram.shape[-1]
    root = shares.transpose(-1, -2).sqrt()  # [..., C, K]
    inner = (
        torch.eye(samples, dtype=gram.dtype, device=gram.device)
        + root[..., None] * gram[..., None, :, :] * (root[..., None, :])
    )
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(inner).L)
    each = root[..., None] * inverse * root[..., None, :]  # E_c, [..., C, K, K]
    moved = torch.einsum("...ckl,...lc->...kc", each, gram @ right)
    silent = torch.diag_embed((said[..., 0] == 0).to(gram.dtype))
    together = torch.linalg.solve_ex(each.sum(-3) + silent, moved.sum(-1, keepdim=True)).result[..., 0]
    return right - moved + torch.einsum("...ckl,...l->...kc", each, together)
