"""MLDG (Li et al. 2018), DA-MLDG (Gandhi et al.), and what DA-MLDG's public code computes."""

from __future__ import annotations

import numpy as np
import torch

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise.base import Step
from s3prl_metaperser.generalise.deep_all import DeepAll
from s3prl_metaperser.generalise.meta_step import Margin, Problem, Samples, outer_gradient, unrolled_gradient
from s3prl_metaperser.generalise.model import DomainModel
from s3prl_metaperser.protocol.domain_batches import DomainBatch
from s3prl_metaperser.seeding import numpy_generator


class Divided(DeepAll):
    """A system that divides the domains of each batch into meta-train S' and meta-test V."""

    def prepare(self, model: DomainModel) -> None:
        wanted, names = self.general.meta_test_domains, self.sources.names
        if wanted >= len(names):
            raise UserError(
                f"{self.name} divides the sources ({', '.join(names)}) into meta-train and meta-test, and "
                f"generalrc.meta_test_domains={wanted} leaves none to meta-train on. Name more sources"
                f"{', or lower it.' if len(names) > 1 else '.'}"
            )
        super().prepare(model)

    def outer_gradient(self, model: DomainModel, batch: DomainBatch, step: int) -> Step:
        present = batch.present
        if len(present) < 2:  # a pooled batch of one domain: nothing to divide
            alone = super().outer_gradient(model, batch, step)
            return Step(alone.loss, {**alone.values, "undivided": 1.0})
        test = self.chosen(present, step)
        train = [domain for domain in present if domain not in test]
        divided = self.divided_gradient(model, batch.part(train), batch.part(test), step)
        if self.options.downstream_expert.datarc.batches == "balanced":
            return divided
        values = {**divided.values, "undivided": 0.0}  # the log has the share of those that are not
        return Step(divided.loss, values, divided.each)

    def divided_gradient(self, model: DomainModel, train: DomainBatch, test: DomainBatch, step: int) -> Step:
        """:meth:`outer_gradient` of a batch in two."""
        raise NotImplementedError

    def chosen(self, present: list[int], step: int) -> list[int]:
        """The meta-test domains of a step: uniformly drawn, or by their number of samples (``choose: by_size``)."""
        many = min(self.general.meta_test_domains, len(present) - 1)
        sizes = self.sources.counts.sum(1)[present].astype(np.float64)
        shares = sizes / sizes.sum() if self.general.choose == "by_size" else None
        generator = numpy_generator("meta-test domains", self.sources.seed, step)
        return sorted(generator.choice(present, many, replace=False, p=shares).tolist())

    def samples(self, part: DomainBatch, *names: object) -> Samples:
        """A part of a batch with the weight of each sample in its loss.

        Args:
            names: tell what is drawn for it from what is drawn for others.
        """
        ones = torch.ones(len(part), dtype=torch.float64, device=part.labels.device, requires_grad=True)
        (weights,) = torch.autograd.grad(self.mean_loss(ones, part.domains), ones)
        return Samples(part.inputs, part.labels, weights, (self.sources.seed, *names))


class MLDG(Divided):
    """A step on S' must help on V, too: ``L_S'(theta) + L_V(theta - inner_lr grad L_S'(theta))``, exactly to second
    order (``order: 1``: without the Hessian)."""

    @property
    def margin(self) -> Margin | None:
        """What stands before the second loss; None is 1."""
        return None

    def divided_gradient(self, model: DomainModel, train: DomainBatch, test: DomainBatch, step: int) -> Step:
        general = self.general
        problem = Problem(
            *(model, self.samples(train, "train", step), self.samples(test, "test", step)),
            *(general.inner_lr, self.margin),
            criterion=self.sample_losses,
            micro_batch=general.micro_batch,
        )
        engine = unrolled_gradient if general.engine == "loop" else outer_gradient
        found = engine(problem, second_order=general.order == 2)
        for name, parameter in model.named_parameters():
            if name in found.gradient:
                parameter.grad = found.gradient[name]
        values = {"train_loss": found.train_loss, "test_loss": found.test_loss}
        return Step(found.loss, values, {} if self.margin is None else {"margin": found.margin})


class DAMLDG(MLDG):
    """MLDG, whose second loss counts as much as the domains are apart: times the margin gamma (Eq. 2 and 3)."""

    @property
    def margin(self) -> Margin | None:
        given = self.general.margin
        return Margin(given.gradient == "attached", given.absolute, given.temperature, given.largest)


class Public(Divided):
    """What the public code of both computes: the gradient of L_S' alone.

    There the meta-test loss is that of another network than the one that is trained, so it reaches no weight
    (TensorFlow's ``v.assign = tensor`` sets an attribute). What is left is Deep-All with one domain's samples deleted
    from each batch.
    """

    def divided_gradient(self, model: DomainModel, train: DomainBatch, test: DomainBatch, step: int) -> Step:
        return DeepAll.outer_gradient(self, model, train, step)
