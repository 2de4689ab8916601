"""Meta-PerSER over the whole model: SSL-E, then meta-training with the exact adjoint (sections 2.3.1 to 2.3.4)."""

from __future__ import annotations

import numpy as np
import torch

from s3prl_metaperser import parallel
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta.adjoint import NonFinite, adapt, outer_gradient
from s3prl_metaperser.meta.annealing import second_order_steps
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.methods.base import ModelState, Predictor, Support, TrainingTask
from s3prl_metaperser.methods.entire import EntireZero
from s3prl_metaperser.methods.ssl_e import fine_tuned_initialisation
from s3prl_metaperser.methods.tuning import Overrides, grid
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.protocol.loss import weighted_targets
from s3prl_metaperser.upstream.memory import explaining_memory
from s3prl_metaperser.upstream.micro_batches import graphs_worth_keeping, micro_losses


class MetaPerSEREntire(EntireZero):
    """MAML over raters with the paper's four switches in ``metarc``; upstream and head adapt together."""

    name = "Meta-PerSER"
    personalises = True

    def tunable(self) -> list[Overrides]:
        return grid("rates", "finetuned", self.options)

    @property
    def outer_steps(self) -> int:
        return self.options.runner.total_steps

    def blank(self, task: TrainingTask) -> ModelState:
        self.model = task.model
        metarc = self.options.downstream_expert.metarc
        names = list(task.model.named_adapted())
        rates = InnerRates(names, metarc.inner_steps, metarc.inner_lr, learned=metarc.lslr).to(task.device)
        return ModelState(head=task.model.head, rates=rates, model=task.model)

    def initialise(self, task: TrainingTask) -> ModelState:
        if self.options.downstream_expert.metarc.initialisation:
            fine_tuned_initialisation(task)
        return self.blank(task)

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """Raters are shared out over processes; gradients are the mean over all raters of the meta-batch."""
        metarc = self.options.downstream_expert.metarc
        twice = second_order_steps(
            step,
            self.outer_steps,
            metarc.inner_steps,
            annealed=metarc.derivative_annealing,
            fraction=metarc.annealed_fraction,
            scope=metarc.annealing_scope,
        )
        state.model.train(self.options.downstream_expert.tunerc.dropout)
        parameters, total = state.parameters(), 0.0
        try:
            for index, rater in parallel.share(batch.raters):
                where = f"Outer step {step}, rater {rater}"
                support, kept = self._losses(task, batch.support_rows[index], batch.support_targets[index], step, rater)
                query = None
                if not metarc.combined_set:
                    query, _ = self._losses(
                        task, batch.query_rows[index], batch.query_targets[index], step, rater, "query"
                    )
                try:
                    with explaining_memory(where):
                        found = outer_gradient(parameters, state.rates, support, twice, query, keep_graphs=kept)
                except NonFinite as error:
                    raise UserError(f"{where}: {error} The last checkpoint is kept.") from None
                _add(parameters, found.parameters, 1 / len(batch.raters))
                if state.rates.values.requires_grad:
                    _add({"": state.rates.values}, {"": found.rates}, 1 / len(batch.raters))
                total += found.loss / len(batch.raters)
        finally:
            state.model.eval()
        parallel.sum_gradients([*parameters.values(), *[p for p in state.rates.parameters() if p.requires_grad]])
        return parallel.sum_value(total)

    def _losses(self, task: TrainingTask, rows: torch.Tensor, targets: torch.Tensor, *seed: object):
        """One rater's samples, without what filled a short episode up, as micro-batches; and graphs worth keeping."""
        present = targets.sum(-1) > 0
        plain = targets[present] / targets[present].sum(-1, keepdim=True)
        weighted = weighted_targets(plain.to(task.device), task.class_weights)
        seconds = self.options.downstream_expert.tunerc.micro_batch_seconds
        waves = task.features[np.asarray(rows[present])]
        losses = micro_losses(task.model, waves, weighted, seconds, "meta", task.seed, *seed)
        return losses, graphs_worth_keeping([len(wave) for wave in waves], seconds)

    def engine(self, state: ModelState) -> str:
        return "adjoint"

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        losses, evalrc = self.support_losses(support, "meta-test", support.seed), self.options.downstream_expert.evalrc
        with explaining_memory(f"{self.name}, adapting to episode {support.seed},"):
            return adapt(state.parameters(), state.rates.scaled(evalrc.rate_factor), losses, evalrc.steps)


def _add(parameters, gradients, factor: float) -> None:
    """Add a share of gradients to ``.grad``."""
    for name, parameter in parameters.items():
        change = gradients[name].to(parameter.dtype) * factor
        parameter.grad = change if parameter.grad is None else parameter.grad.add_(change)
