"""Reptile (Nichol, Achiam & Schulman 2018): the initialisation moves towards where each rater's adaptation ends.

With theta_S(r) the parameters after ``metarc.inner_steps`` inner steps on rater r's K samples, all at the fixed rate
``metarc.inner_lr``, an outer step follows the gradient (theta - mean_r theta_S(r)) / inner_lr: the paper's algorithm 2
with the step handed to an adaptive optimiser (section 3: "(phi - W) / alpha as the gradient ... such as Adam").
That is the gradient of the squared distance |theta - theta_S|^2 / (2 inner_lr) with theta_S held fixed (section 5.2),
which is what is logged as the outer loss. Nothing is differentiated through inner steps and no query samples are used.

What the paper leaves open: it takes each inner step on a minibatch of a task, here on all K samples, as in
meta-testing. With a single inner step Reptile is plain training on all raters (section 3), so ``inner_steps`` must be
larger for it to be meta-learning.
"""

from __future__ import annotations

import functools

import torch

from s3prl_metaperser.meta import adjoint, closed_form
from s3prl_metaperser.meta.inner_loop import adapt_without_graph, expand
from s3prl_metaperser.methods.base import ModelState, TrainingTask
from s3prl_metaperser.methods.meta_perser import MetaPerSER, OneRater, at_once, rates_of
from s3prl_metaperser.protocol.loader import EpisodeBatch


class Reptile(MetaPerSER):
    """Meta-PerSER's inner steps, and the way that they went as the outer gradient."""

    def outer_loss(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> torch.Tensor:
        """Half the squared distance to where the inner steps end, over the inner rate; the mean over raters."""
        by_layer, rates, start = self.engine(state) == "closed form", rates_of(state), state.parameters()
        metarc = self.options.downstream_expert.metarc
        support = self._gather(task, batch.support_rows, batch.support_targets, by_layer)
        if by_layer:
            ends = closed_form.adapt(start, rates, *support, metarc.inner_steps)
        else:
            (loss,) = state.learner.losses(*support)
            many = expand(start, len(batch.raters))
            ends = adapt_without_graph(functools.partial(at_once, loss), many, rates.at, metarc.inner_steps)
        distances = torch.stack([((value - ends[name]) ** 2).sum() for name, value in start.items()])
        return distances.sum() / (2 * metarc.inner_lr * len(batch.raters))

    def one_raters(self, one: OneRater) -> adjoint.OuterGradient:
        """The same distance and its gradient, with the whole model."""
        metarc = self.options.downstream_expert.metarc
        ends = adjoint.adapt(one.parameters, one.rates, one.support, metarc.inner_steps)
        way = {name: (value.detach() - ends[name]) / metarc.inner_lr for name, value in one.parameters.items()}
        loss = sum(metarc.inner_lr / 2 * float((part.double() ** 2).sum()) for part in way.values())
        return adjoint.OuterGradient(loss, way, torch.zeros_like(one.rates.values))
