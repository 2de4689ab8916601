"""Meta-PerSER: an initialisation and inner-loop rates, meta-learned over the training raters (section 2.3).

On a frozen upstream the inner steps are computed in closed form, or by the reference loop; with ``-f`` the whole model
starts from SSL-E and the outer gradient comes from the exact adjoint. Table 2's rows are this system with its four
switches fixed (:func:`s3prl_metaperser.methods.table2_rows`): the first is MAML from a random head, with a support and
a query set, second-order gradients throughout and one fixed inner rate. Rows two to five are in the order in which the
paper's prose names the parts; it does not say which published row is which part (the tick marks are lost).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta import adjoint, closed_form
from s3prl_metaperser.meta.annealing import second_order_steps
from s3prl_metaperser.meta.inner_loop import adapt, adapt_without_graph, expand
from s3prl_metaperser.meta.micro_gradients import MicroLoss
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.methods.base import ModelState, Predictor, Support, System, TrainingTask
from s3prl_metaperser.methods.few import each
from s3prl_metaperser.methods.initialisation import initialised
from s3prl_metaperser.methods.learner import HeadLearner, Parameters, new_learner
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.protocol.loss import unfilled, weighted_batch, weighted_targets
from s3prl_metaperser.upstream.micro_batches import graphs_worth_keeping

#: Features and projections of the raters whose outer gradient is computed at once: what a CPU's last cache holds. The
#: paper's nine are always together.
PART_BYTES = 32 << 20


class OneRater(NamedTuple):
    """What the outer gradient of one rater with the whole model goes by.

    Attributes:
        support: micro-batches of the inner steps.
        query: micro-batches of the outer loss; None: those of ``support``.
        step: the outer step, counted from 1.
        kept: graphs that are worth keeping.
    """

    parameters: Parameters
    rates: InnerRates
    support: Sequence[MicroLoss]
    query: Sequence[MicroLoss] | None
    step: int
    kept: int


class MetaPerSER(System):
    """MAML over raters, with the paper's four parts as switches in ``metarc``.

    ``initialisation`` (INI), ``combined_set`` (CSMT), ``derivative_annealing`` (DA), ``lslr`` (LSLR).
    """

    frozen_at_once = 32

    def blank(self, task: TrainingTask) -> ModelState:
        return self._with_rates(new_learner(task, "blank"), task)

    def initialise(self, task: TrainingTask) -> ModelState:
        from_ssl_e = self.options.downstream_expert.metarc.initialisation
        return self._with_rates(initialised(task) if from_ssl_e else new_learner(task, "meta", task.seed), task)

    def _with_rates(self, learner: HeadLearner, task: TrainingTask) -> ModelState:
        metarc = self.options.downstream_expert.metarc
        rates = InnerRates(list(learner.parameters()), metarc.inner_steps, metarc.inner_lr, learned=metarc.lslr)
        return ModelState(learner, rates.to(task.device))

    def _second_order(self, step: int) -> list[bool]:
        metarc = self.options.downstream_expert.metarc
        return second_order_steps(
            step,
            self.outer_steps,
            metarc.inner_steps,
            annealed=metarc.derivative_annealing,
            fraction=metarc.annealed_fraction,
            scope=metarc.annealing_scope,
        )

    def engine(self, state: ModelState) -> str:
        """``adjoint`` for a whole model; for a head ``closed form`` where that is exact, else ``loop``.

        With ``metarc.engine: loop`` always the loop.
        """
        if self.scope == "finetuned":
            return "adjoint"
        exact = closed_form.applies_to(state.parameters(), rates_of(state))
        return "closed form" if exact and self.options.downstream_expert.metarc.engine == "auto" else "loop"

    # -- training ----------------------------------------------------------------------------------------------

    def outer_loss(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> torch.Tensor:
        """The mean over all raters at once, on pooled features."""
        by_layer, twice, rates = self.engine(state) == "closed form", self._second_order(step), rates_of(state)
        support = self._gather(task, batch.support_rows, batch.support_targets, by_layer)
        query = support
        if not self.options.downstream_expert.metarc.on_support:
            query = self._gather(task, batch.query_rows, batch.query_targets, by_layer)
        if by_layer:
            other = None if query is support else query
            return closed_form.outer_loss(state.parameters(), rates, *support, twice, other)
        (inner,), (outer,) = state.learner.losses(*support), state.learner.losses(*query)
        parameters = expand(state.parameters(), len(batch.raters))
        return outer(adapt(functools.partial(at_once, inner), parameters, rates.at, twice), 0).mean()

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """The gradient of the mean over all raters of the meta-batch."""
        if self.scope == "frozen":
            return part_by_part(self, state, batch, step, task)
        separate, rates = not self.options.downstream_expert.metarc.on_support, rates_of(state)
        parameters, share = state.parameters(), 1 / len(batch.raters)

        def gradient(index: int, rater: str) -> list[float]:
            support, kept = self._losses(
                state, task, batch.support_rows[index], batch.support_targets[index], step, rater
            )
            query = None
            if separate:
                rows, targets = batch.query_rows[index], batch.query_targets[index]
                query, _ = self._losses(state, task, rows, targets, step, rater, "query")
            try:
                found = self.one_raters(OneRater(parameters, rates, support, query, step, kept))
            except adjoint.NonFinite as error:
                raise UserError(f"Outer step {step}, rater {rater}: {error} The last checkpoint is kept.") from None
            _add(parameters, found.parameters, share)
            if rates.values.requires_grad:
                _add({"": rates.values}, {"": found.rates}, share)
            return [found.loss / len(batch.raters)]

        return self.rater_by_rater(state, batch, step, gradient)

    def one_raters(self, one: OneRater) -> adjoint.OuterGradient:
        """The outer gradient of one rater with the whole model."""
        of = one.parameters, one.rates, one.support, self._second_order(one.step), one.query
        return adjoint.outer_gradient(*of, keep_graphs=one.kept)

    def _gather(
        self, task: TrainingTask, rows: torch.Tensor, targets: torch.Tensor, by_layer: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [A, K, L, D] (``by_layer``: [A, L, K * D]) and weighted targets [A, K, C] of a batch."""
        rows, targets = rows.to(task.device), targets.to(task.device)
        features = closed_form.gathered(task.pooled, rows) if by_layer else task.pooled[rows]
        return features, weighted_batch(targets, self.class_weights)

    def _losses(
        self, state: ModelState, task: TrainingTask, rows: torch.Tensor, targets: torch.Tensor, *seed: object
    ) -> tuple[list[MicroLoss], int]:
        """One rater's samples, without what filled a short episode up, as micro-batches; and graphs worth keeping."""
        present = targets.sum(-1) > 0
        weighted = weighted_targets(unfilled(targets[present]).to(task.device), self.class_weights)
        audio = task.waveforms[np.asarray(rows[present])]
        seconds = self.options.downstream_expert.tunerc.micro_batch_seconds
        kept = graphs_worth_keeping([len(wave) for wave in audio], seconds)
        return state.learner.losses(audio, weighted, "meta", task.seed, *seed), kept

    # -- meta-testing ------------------------------------------------------------------------------------------

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        if self.scope == "frozen":
            return self._adapted(state, [support], closed_form.adapt)[0]
        losses, evalrc = self.losses(state, support, "meta-test"), self.options.downstream_expert.evalrc
        with self.adapting(state, support):
            return adjoint.adapt(state.parameters(), rates_of(state).scaled(evalrc.rate_factor), losses, evalrc.steps)

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        """Adaptation to several episodes; in closed form all at once, and theta multiplied out."""
        if self.scope == "frozen":
            return self._adapted(state, supports, closed_form.adapt_to_predict)
        return super().adapt_many(state, supports)

    def _adapted(
        self, state: ModelState, supports: Sequence[Support], in_closed_form: Callable[..., Parameters]
    ) -> list[Predictor]:
        targets = [weighted_targets(support.targets, self.class_weights) for support in supports]
        evalrc = self.options.downstream_expert.evalrc
        steps, rates = evalrc.steps, rates_of(state).scaled(evalrc.rate_factor)
        if self.engine(state) == "closed form":
            features = torch.stack([support.pooled.transpose(0, 1) for support in supports]).flatten(2)
            return [*each(in_closed_form(state.parameters(), rates, features, torch.stack(targets), steps))]
        found: list[Predictor] = []
        for support, weighted in zip(supports, targets, strict=True):
            (loss,) = state.learner.losses(support.features, weighted)
            found.append(adapt_without_graph(functools.partial(at_once, loss), state.parameters(), rates.at, steps))
        return found


def part_by_part(system: System, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
    """:meth:`.System.outer_gradient` on pooled features, a crowd's raters in parts that fit in memory."""
    sample = task.pooled.shape[1:].numel() + system.options.downstream_expert.modelrc.projector_dim
    fitting, total = PART_BYTES // (4 * batch.support_rows.shape[1] * sample), 0.0
    for part in batch.parts(max(1, fitting)):
        share = system.outer_loss(state, part, step, task) * (len(part.raters) / len(batch.raters))
        share.backward()
        total += share.item()
    return total


def rates_of(state: ModelState) -> InnerRates:
    assert state.rates is not None, "a state of this system has inner rates"
    return state.rates


def at_once(loss: MicroLoss, parameters: Parameters) -> torch.Tensor:
    """The loss of a head's samples, which are one batch and the same at each step."""
    return loss(parameters, 0)


def _add(parameters: Parameters, gradients: Parameters, factor: float) -> None:
    """Add a share of gradients to ``.grad``."""
    for name, parameter in parameters.items():
        change = gradients[name].to(parameter.dtype) * factor
        parameter.grad = change if parameter.grad is None else parameter.grad.add_(change)
