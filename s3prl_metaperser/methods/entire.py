"""Entire-Zero and Entire-Few: SSL-E as it is, or fine-tuned as a whole on the K samples (section 2.4)."""

from __future__ import annotations

import numpy as np
import torch

from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, Support, System, TrainingTask
from s3prl_metaperser.methods.ssl_e import fine_tuned_initialisation
from s3prl_metaperser.methods.tuning import Overrides, grid
from s3prl_metaperser.protocol.loss import weighted_targets
from s3prl_metaperser.upstream.memory import explaining_memory
from s3prl_metaperser.upstream.micro_batches import micro_batches, micro_losses


class EntireZero(System):
    """SSL-E, evaluated without adaptation; never looks at the support samples."""

    name = "Entire-Zero"
    personalises = False

    def blank(self, task: TrainingTask) -> ModelState:
        self.model = task.model
        return ModelState(head=task.model.head, model=task.model)

    def initialise(self, task: TrainingTask) -> ModelState:
        fine_tuned_initialisation(task)
        return self.blank(task)

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        return {name: value.detach() for name, value in state.parameters().items()}

    def predict(self, predictor: Predictor, query: Inputs) -> np.ndarray:
        seconds = self.options.downstream_expert.tunerc.micro_batch_seconds
        found = np.empty((len(query), len(self.class_weights)), dtype=np.float32)
        with torch.no_grad(), explaining_memory(f"{self.name}, predicting {len(query)} utterances,"):
            for group in micro_batches([len(wave) for wave in query], seconds):
                logits = self.model.functional(predictor, [query[index] for index in group])
                found[group] = torch.softmax(logits.float(), dim=-1).cpu().numpy()
        return found

    def support_losses(self, support: Support, *seed: object):
        """The support loss as micro-batches."""
        weighted = weighted_targets(support.targets, self.class_weights)
        seconds = self.options.downstream_expert.tunerc.micro_batch_seconds
        return micro_losses(self.model, support.features, weighted, seconds, *seed)


class EntireFew(EntireZero):
    """All parameters adapt with a conventional optimiser: one batch, ``evalrc.steps`` steps."""

    name = "Entire-Few"
    personalises = True

    def tunable(self) -> list[Overrides]:
        return grid("optimizer", "finetuned", self.options)

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        expert = self.options.downstream_expert
        leaves = {name: value.detach().clone().requires_grad_() for name, value in state.parameters().items()}
        kind = getattr(torch.optim, expert.fewrc.optimizer)
        optimizer = kind(leaves.values(), lr=expert.fewrc.lr, weight_decay=expert.fewrc.weight_decay)
        losses = self.support_losses(support, "few", support.seed)
        with torch.enable_grad(), explaining_memory(f"{self.name}, adapting to episode {support.seed},"):
            for step in range(expert.evalrc.steps):
                optimizer.zero_grad(set_to_none=True)
                for loss in losses:
                    loss(leaves, step).backward()
                optimizer.step()
        return {name: value.detach() for name, value in leaves.items()}
