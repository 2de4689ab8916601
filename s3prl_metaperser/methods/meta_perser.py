"""Meta-PerSER: an initialisation and inner-loop rates, meta-learned over the training raters (section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from s3prl_metaperser.meta import closed_form
from s3prl_metaperser.meta.annealing import second_order_steps
from s3prl_metaperser.meta.inner_loop import adapt, adapt_without_graph, expand
from s3prl_metaperser.meta.model import PARAMETERS, pooled_logits
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.methods.base import ModelState, Predictor, Support, System, TrainingTask, new_head
from s3prl_metaperser.methods.initialisation import consensus_initialisation
from s3prl_metaperser.methods.tuning import Overrides, grid
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.protocol.loss import soft_cross_entropy, weighted_targets


class MetaPerSER(System):
    """MAML over raters, with the paper's four parts as switches in ``metarc``.

    ``initialisation`` (INI), ``combined_set`` (CSMT), ``derivative_annealing`` (DA), ``lslr`` (LSLR).
    """

    name = "Meta-PerSER"
    episodes_at_once = 32

    def tunable(self) -> list[Overrides]:
        return grid("rates", "frozen", self.options)

    @property
    def outer_steps(self) -> int:
        return self.options.runner.total_steps

    def _rates(self) -> InnerRates:
        metarc = self.options.downstream_expert.metarc
        return InnerRates(PARAMETERS, metarc.inner_steps, metarc.inner_lr, learned=metarc.lslr)

    def blank(self, task: TrainingTask) -> ModelState:
        head = new_head(self.options, *task.features.shape[1:], len(task.classes), "blank")
        return ModelState(head=head, rates=self._rates())

    def initialise(self, task: TrainingTask) -> ModelState:
        if self.options.downstream_expert.metarc.initialisation:
            head = consensus_initialisation(task)
        else:
            layers, features = task.features.shape[1:]
            head = new_head(self.options, layers, features, len(task.classes), "meta", task.seed)
        return ModelState(head=head.to(task.device), rates=self._rates().to(task.device))

    def outer_loss(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> torch.Tensor:
        metarc = self.options.downstream_expert.metarc
        twice = second_order_steps(
            step,
            self.outer_steps,
            metarc.inner_steps,
            annealed=metarc.derivative_annealing,
            fraction=metarc.annealed_fraction,
            scope=metarc.annealing_scope,
        )
        by_layer = self.engine(state) == "closed form"
        support = self._gather(task, batch.support_rows, batch.support_targets, by_layer)
        query = support
        if not metarc.combined_set:
            query = self._gather(task, batch.query_rows, batch.query_targets, by_layer)
        if by_layer:
            other = None if query is support else query
            return closed_form.outer_loss(state.parameters(), state.rates, *support, twice, other)
        parameters = expand(state.parameters(), len(batch.raters))
        adapted = adapt(lambda p: _loss(p, *support), parameters, state.rates.at, twice)
        return _loss(adapted, *query).mean()

    def engine(self, state: ModelState) -> str:
        """``closed form`` where it is exact for this head, else (or with ``metarc.engine: loop``) ``loop``."""
        wanted = self.options.downstream_expert.metarc.engine
        exact = closed_form.applies_to(state.parameters(), state.rates)
        return "closed form" if exact and wanted == "auto" else "loop"

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return self._adapted(state, [support], closed_form.adapt)[0]

    def adapt_many(self, state: ModelState, supports: Sequence[Support]) -> list[Predictor]:
        """Adaptation to several episodes; in closed form all at once, and theta multiplied out."""
        return self._adapted(state, supports, closed_form.adapt_to_predict)

    def _adapted(self, state: ModelState, supports: Sequence[Support], in_closed_form: Callable) -> list[Predictor]:
        targets = [weighted_targets(support.targets, self.class_weights) for support in supports]
        evalrc = self.options.downstream_expert.evalrc
        steps, rates = evalrc.steps, state.rates.scaled(evalrc.rate_factor)
        if self.engine(state) == "closed form":
            features = torch.stack([support.features.transpose(0, 1) for support in supports]).flatten(2)
            found = in_closed_form(state.parameters(), rates, features, torch.stack(targets), steps)
            return [{name: values[index] for name, values in found.items()} for index in range(len(supports))]
        return [
            adapt_without_graph(
                lambda p, x=support.features, t=weighted: _loss(p, x, t), state.parameters(), rates.at, steps
            )
            for support, weighted in zip(supports, targets, strict=True)
        ]

    def _gather(
        self, task: TrainingTask, rows: torch.Tensor, targets: torch.Tensor, by_layer: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [A, K, L, D] (``by_layer``: [A, L, K * D]) and weighted targets [A, K, C] of a batch.

        Filling and scaling of short episodes are in ``targets``; the sample weight is of the unscaled target, whose
        entries sum to one.
        """
        device = task.device
        rows, targets = rows.to(device), targets.to(device)
        scale = targets.sum(-1, keepdim=True)
        plain = targets / scale.clamp_min(torch.finfo(targets.dtype).tiny)
        if by_layer:
            features = closed_form.gathered(task.features, rows)
        else:
            features = task.features[rows]
        return features, scale * weighted_targets(plain, self.class_weights)


def _loss(parameters, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return soft_cross_entropy(pooled_logits(parameters, features), targets)
