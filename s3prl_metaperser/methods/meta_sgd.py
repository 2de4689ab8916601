"""Meta-SGD (Li, Zhou, Chen & Li 2017): an initialisation and a rate for each of its numbers, for one inner step.

theta' = theta - alpha * grad L_support(theta), a product by element (their equation 3); theta and alpha are learned by
the gradient of L_query(theta') (equation 4), second order throughout. Meta-testing takes that one step, too, whatever
``evalrc.steps`` says. A rate may change its sign.

What the paper leaves open: rates start from ``metarc.inner_lr``, all alike (theirs from random values), and are learned
at ``metarc.lslr_lr``.
"""

from __future__ import annotations

from s3prl_metaperser.meta import adjoint
from s3prl_metaperser.meta.rates import ElementRates
from s3prl_metaperser.methods.base import ModelState, TrainingTask
from s3prl_metaperser.methods.learner import HeadLearner
from s3prl_metaperser.methods.meta_perser import MetaPerSER, OneRater
from s3prl_metaperser.methods.tuning import Overrides, factors


class MetaSGD(MetaPerSER):
    """One inner step at learned rates, one for each number."""

    def tunable(self) -> list[Overrides]:
        """A factor on all rates: as many choices as other systems have between rates and steps."""
        return factors(self.scope, self.options)

    def _with_rates(self, learner: HeadLearner, task: TrainingTask) -> ModelState:
        rates = ElementRates(learner.parameters(), self.options.downstream_expert.metarc.inner_lr)
        return ModelState(learner, rates.to(task.device))

    def one_raters(self, one: OneRater) -> adjoint.OuterGradient:
        """The exact gradient of one rater with the whole model."""
        query = one.support if one.query is None else one.query
        return adjoint.one_step_gradient(one.parameters, one.rates, one.support, query)
