"""LoRA: low-rank additions to the upstream's matrices are all that adapts to a listener (Hu et al. 2022), with ``-f``.

Each matrix W of a transformer layer becomes W + B A (their equation 3, with alpha = r) with A [r, in] drawn from
N(0, 1 / in) and B [out, r] zero, so that nothing has changed before training. The inner steps move A and B alone, in
training and at test, as Meta-PerSER's move everything; the outer loss trains where A and B start, their inner rates and
the head. The upstream's own weights stay SSL-E's. ``metarc.lora_rank`` is r.

What is chosen where the paper is silent: all matrices of the transformer layers that ``tunerc.adapt`` names, not the
attention's queries and values alone; in an upstream whose layers are not known by name all matrices that adapt.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from s3prl_metaperser.meta.model import Head
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.methods.base import ModelState, TrainingTask
from s3prl_metaperser.methods.learner import HeadLearner, new_learner
from s3prl_metaperser.methods.meta_perser import MetaPerSER
from s3prl_metaperser.protocol.loader import EpisodeBatch
from s3prl_metaperser.seeding import torch_generator
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.groups import group_of

UPSTREAM, OWN = "upstream.", "head.low_rank."


class LoRA(MetaPerSER):
    """Meta-PerSER whose inner loop adapts low-rank additions alone."""

    def _with_rates(self, learner: HeadLearner, task: TrainingTask) -> ModelState:
        metarc = self.options.downstream_expert.metarc
        assert task.model is not None, "this system fine-tunes an upstream"
        head = LowRankHead(learner.head, matrices(task.model), metarc.lora_rank, "lora", task.seed)
        own = new_learner(task, head=head)
        adapting = [name for name in own.parameters() if name.startswith(OWN)]
        rates = InnerRates(adapting, metarc.inner_steps, metarc.inner_lr, learned=metarc.lslr)
        return ModelState(own, rates.to(task.device))

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """The gradient of the additions, their rates and the head."""
        loss = super().outer_gradient(state, batch, step, task)
        for name, parameter in state.parameters().items():
            if name.startswith(UPSTREAM):
                parameter.grad = None
        return loss


class LowRankHead(Head):
    """A head that also holds the additions to the upstream's matrices, so that they are stored and adapt with it.

    Args:
        head: whose parameters it takes over.
        shapes: matrix of the upstream, by its name in the model -> [out, in].
        rank: r.
        seed: names the generator of A.
    """

    def __init__(self, head: Head, shapes: Mapping[str, torch.Size], rank: int, *seed: object):
        nn.Module.__init__(self)
        self.weights, self.projector, self.classifier = head.weights, head.projector, head.classifier
        generator, example = torch_generator("low rank", *seed), head.weights
        self.low_rank = nn.ParameterDict()
        for name, (outputs, inputs) in shapes.items():
            drawn = torch.empty(rank, inputs).normal_(0, inputs**-0.5, generator=generator)
            self.low_rank[f"{_key(name)}/A"] = nn.Parameter(drawn.to(example))
            self.low_rank[f"{_key(name)}/B"] = nn.Parameter(example.new_zeros(outputs, rank))
        self._names = tuple(shapes)

    def in_force(self, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The model's parameters with the additions added."""
        found = dict(parameters)
        for name in self._names:
            key = f"{OWN}{_key(name)}"
            found[name] = parameters[name] + parameters[f"{key}/B"] @ parameters[f"{key}/A"]
        return found


def matrices(model: FineTunedModel) -> dict[str, torch.Size]:
    """The matrices that get an addition, by name, with their shapes."""
    all_ = {n: p.shape for n, p in model.named_adapted().items() if n.startswith(UPSTREAM) and p.dim() == 2}
    layers = {n: shape for n, shape in all_.items() if group_of(n.removeprefix(UPSTREAM)).startswith("layer.")}
    return layers or all_


def _key(name: str) -> str:
    """A name without the dot, which a parameter's cannot have."""
    return name.replace(".", "/")
