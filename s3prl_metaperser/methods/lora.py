"""Low-rank additions to the upstream's matrices, as all that adapts to a listener, with ``-f``.

- ``LoRA`` (Hu et al. 2022): each matrix W of a transformer layer becomes W + B A (their equation 3, with alpha = r), A
  [r, in] drawn from N(0, 1 / in) and B [out, r] zero, so that nothing has changed before training. The inner steps move
  A and B alone, in training and at test.
- ``Hyper-LoRA``: W becomes W + B diag(M e) A. M, A and B are meta-learned and the same for all raters, a hypernetwork
  that writes the additions from a rater's embedding e, :data:`SIZE` numbers. The inner steps move e alone, from zero,
  where nothing is added (so e is the context of CAVIA, Zintgraf et al. 2019). B is drawn from N(0, 1 / r) and M from
  N(0, 1 / SIZE).

The outer loss trains all of these but e, the inner rates, and the head. The upstream's own weights stay SSL-E's.
``metarc.lora_rank`` is r.

What is chosen where the papers are silent: all matrices of the transformer layers that ``tunerc.adapt`` names, not the
attention's queries and values alone; in an upstream whose layers are not known by name all matrices that adapt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

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
EMBEDDING = "embedding"
#: Numbers of a rater's embedding.
SIZE = 16


class LowRankHead(Head):
    """A head that also holds the additions to the upstream's matrices, so that they are stored and adapt with it.

    Args:
        head: whose parameters it takes over.
        shapes: matrix of the upstream, by its name in the model -> [out, in].
        rank: r.
        seed: names the generator of what is drawn.
    """

    def __init__(self, head: Head, shapes: Mapping[str, torch.Size], rank: int, *seed: object):
        nn.Module.__init__(self)
        self.weights, self.projector, self.classifier = head.weights, head.projector, head.classifier
        self.low_rank, self._names = nn.ParameterDict(), tuple(shapes)
        generator, example = torch_generator("low rank", *seed), head.weights
        for name, (outputs, inputs) in shapes.items():
            for part, value in self.drawn(outputs, inputs, rank, generator).items():
                self.low_rank[f"{_key(name)}/{part}"] = nn.Parameter(value.to(example))

    @staticmethod
    def drawn(outputs: int, inputs: int, rank: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """What one matrix has of its own, by name."""
        return {"A": _normal((rank, inputs), inputs, generator), "B": torch.zeros(outputs, rank)}

    def addition(self, parameters: Mapping[str, torch.Tensor], key: str) -> torch.Tensor:
        """What is added to a matrix [out, in]."""
        return parameters[f"{key}/B"] @ parameters[f"{key}/A"]

    def in_force(self, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The model's parameters with the additions added."""
        added = {name: self.addition(parameters, f"{OWN}{_key(name)}") for name in self._names}
        return {**parameters, **{name: parameters[name] + change for name, change in added.items()}}


class EmbeddingHead(LowRankHead):
    """The same, its additions written from an embedding."""

    def __init__(self, head: Head, shapes: Mapping[str, torch.Size], rank: int, *seed: object):
        super().__init__(head, shapes, rank, *seed)
        self.low_rank[EMBEDDING] = nn.Parameter(head.weights.new_zeros(SIZE))

    @staticmethod
    def drawn(outputs: int, inputs: int, rank: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {
            "A": _normal((rank, inputs), inputs, generator),
            "B": _normal((outputs, rank), rank, generator),
            "M": _normal((rank, SIZE), SIZE, generator),
        }

    def addition(self, parameters: Mapping[str, torch.Tensor], key: str) -> torch.Tensor:
        scale = parameters[f"{key}/M"] @ parameters[f"{OWN}{EMBEDDING}"]
        return parameters[f"{key}/B"] @ (scale[:, None] * parameters[f"{key}/A"])


class LoRA(MetaPerSER):
    """Meta-PerSER whose inner loop adapts low-rank additions alone."""

    head: ClassVar[type[LowRankHead]] = LowRankHead
    #: How the names of what the inner steps move begin, and of what the outer steps leave.
    inner: ClassVar[str] = OWN
    left: ClassVar[tuple[str, ...]] = (UPSTREAM,)

    def _with_rates(self, learner: HeadLearner, task: TrainingTask) -> ModelState:
        metarc = self.options.downstream_expert.metarc
        assert task.model is not None, "this system fine-tunes an upstream"
        own = new_learner(
            task, head=self.head(learner.head, matrices(task.model), metarc.lora_rank, self.name, task.seed)
        )
        adapting = [name for name in own.parameters() if name.startswith(self.inner)]
        rates = InnerRates(adapting, metarc.inner_steps, metarc.inner_lr, learned=metarc.lslr)
        return ModelState(own, rates.to(task.device))

    def outer_gradient(self, state: ModelState, batch: EpisodeBatch, step: int, task: TrainingTask) -> float:
        """The gradient of all but what the outer steps leave as it is."""
        loss = super().outer_gradient(state, batch, step, task)
        for name, parameter in state.parameters().items():
            if name.startswith(self.left):
                parameter.grad = None
        return loss


class HyperLoRA(LoRA):
    """An embedding of the listener, from which meta-learned matrices write the additions."""

    head = EmbeddingHead
    inner = f"{OWN}{EMBEDDING}"
    left = (UPSTREAM, f"{OWN}{EMBEDDING}")


def matrices(model: FineTunedModel) -> dict[str, torch.Size]:
    """The matrices that get an addition, by name, with their shapes."""
    all_ = {n: p.shape for n, p in model.named_adapted().items() if n.startswith(UPSTREAM) and p.dim() == 2}
    layers = {n: shape for n, shape in all_.items() if group_of(n.removeprefix(UPSTREAM)).startswith("layer.")}
    return layers or all_


def _normal(shape: tuple[int, int], over: int, generator: torch.Generator) -> torch.Tensor:
    """From N(0, 1 / over)."""
    return torch.empty(shape).normal_(0, over**-0.5, generator=generator)


def _key(name: str) -> str:
    """A name without the dot, which a parameter's cannot have."""
    return name.replace(".", "/")
