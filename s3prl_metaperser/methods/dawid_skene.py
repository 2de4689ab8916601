"""Dawid-Skene: one latent judgement of a clip, which each rater reports through a table of their own.

Dawid and Skene (1979), with a classifier in place of the classes' shares, fitted jointly (Raykar et al. 2010). Of clip
n, whose embedding is x_n, the latent class is c with probability q_nc, q_n = softmax(A x_n + b). Rater r reports class
d with probability T_r[c, d], independently of others given c. The rows of T_r are softmax(log T0 + S + D_r),
T0 = 0.7 identity + 0.3 / C. Training minimises over A, b, S and all D_r

    - sum_n log sum_c q_nc prod_{r rated n} prod_d T_r[c, d]^y_nrd  +  minus the logarithms of the priors,

y_nr the rater's label distribution, by L-BFGS. Priors are Gaussian: S around 0 with a standard deviation of 2, D_r
around 0 with 0.7, A around 1.5 times the consensus initialisation's classifier with 0.58 (embeddings divided by their
root mean square norm), b around 1.5 times its bias with 10. Nothing else of the model is trained: embeddings are the
consensus initialisation's, with ``-f`` SSL-E's. The likelihood is plain, not class-balanced.

A new listener's labels are predicted as q T. ``Dawid-Skene``: D is the most probable one given the K labels, under the
same prior as the training raters' (times ``outputrc.spread``). ``Dawid-Skene:mixture``: T is a weighted mean of the
training raters' tables and the common one, weights by EM with a Dirichlet prior that counts like C labels, C over
``outputrc.spread``. Before any label is seen T is the common table, D = 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from s3prl_metaperser.methods.base import Inputs, ModelState, Predictor, Support, System, TrainingTask
from s3prl_metaperser.methods.initialisation import initialised
from s3prl_metaperser.methods.learner import HeadLearner, new_head, new_learner
from s3prl_metaperser.methods.map_fit import SMALLEST, mixture_weights, most_probable, tempered

#: What T0 has outside of the identity; standard deviations of the priors of A, b, S and D.
CONFUSED, CLASSIFIER, BIAS, COMMON, OWN = 0.3, 3**-0.5, 10.0, 2.0, 0.7
#: The consensus classifier, trained on many raters' answers at once, is flatter than one judgement.
SHARPENED = 1.5
#: Of the joint fit's gradient, in standard deviations of the priors.
TOLERANCE = 1e-3
#: Clips that are embedded at once.
AT_ONCE = 256
#: A predictor's entry for the listener's table, [C latent, C reported].
TABLE = "table"


class DawidSkene(System):
    """The listener's table is the most probable one."""

    def blank(self, task: TrainingTask) -> ModelState:
        return ModelState(_learner(task))

    def initialise(self, task: TrainingTask) -> ModelState:
        start = initialised(task)
        learner = _learner(task)
        parameters, prefix = learner.parameters(), learner.prefix
        weight, bias = (value.detach().cpu() for value in start.classifier(start.parameters()))
        fitted = fit_tables(_embedded(start, task), *_answers(task), weight, bias)
        with torch.no_grad():
            for name, value in {**start.parameters(), **{f"{prefix}{n}": v for n, v in fitted.items()}}.items():
                parameters[name].copy_(value)
        return ModelState(learner)

    def adapt(self, state: ModelState, support: Support) -> Predictor:
        own = self.unadapted(state)
        heard = torch.from_numpy(super().predict(state, own, support.features)).double()
        return {**own, TABLE: self.table(state, heard, support.targets.detach().cpu().double()).to(own[TABLE])}

    def table(self, state: ModelState, heard: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The listener's table, float64 [C, C].

        Args:
            heard: probabilities of the latent class of the K clips, [K, C].
            targets: the listener's label distributions, [K, C].
        """
        common, _ = _logits(state)
        classes = len(common)

        def energy(own: torch.Tensor) -> torch.Tensor:
            said = heard @ torch.softmax(common + own.reshape(classes, classes), -1)
            return -(targets * torch.log(said.clamp_min(SMALLEST))).sum()

        nothing = torch.zeros(classes * classes, dtype=torch.float64)
        own = most_probable(energy, nothing, OWN * self._spread + nothing)
        return torch.softmax(common + own.reshape(classes, classes), -1)

    def unadapted(self, state: ModelState) -> Predictor:
        common, _ = _logits(state)
        own = super().unadapted(state)
        return {**own, TABLE: torch.softmax(common, -1).to(next(iter(own.values())))}

    def predict(self, state: ModelState, predictor: Predictor, query: Inputs) -> np.ndarray:
        said = super().predict(state, predictor, query) @ predictor[TABLE].cpu().numpy()
        return tempered(said, self.options.downstream_expert.outputrc.temperature)

    @property
    def _spread(self) -> float:
        return self.options.downstream_expert.outputrc.spread


class DawidSkeneMixture(DawidSkene):
    """The listener's table is a weighted mean of the training raters' tables and the common one."""

    def table(self, state: ModelState, heard: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        common, raters = _logits(state)
        tables = torch.softmax(torch.cat([common[None], common + raters]), -1)
        weights = mixture_weights(heard @ tables, targets, len(common) / self._spread)
        return torch.einsum("r,rcd->cd", weights, tables)


class Tables(nn.Module):
    """Tables as logits, T0 apart.

    Attributes:
        common: S, [C, C].
        raters: D, [R, C, C], in the order of the task's raters.
    """

    def __init__(self, raters: int, classes: int):
        super().__init__()
        self.common = nn.Parameter(torch.zeros(classes, classes))
        self.raters = nn.Parameter(torch.zeros(raters, classes, classes))


def fit_tables(
    hidden: torch.Tensor,
    clips: torch.Tensor,
    raters: torch.Tensor,
    answers: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """The most probable classifier and tables.

    Args:
        hidden: embeddings of n clips, float64 [n, H].
        clips: of each rating its clip, int64 [N].
        raters: of each rating its rater, int64 [N], from 0 to R - 1.
        answers: label distributions, float64 [N, C].
        weight, bias: the consensus classifier, [C, H] and [C].

    Returns:
        ``classifier.weight``, ``classifier.bias``, ``tables.common`` [C, C] and ``tables.raters`` [R, C, C], float64.
    """
    classes, features, count = *weight.shape, int(raters.max()) + 1
    scale = hidden.square().sum(-1).mean().sqrt()
    inputs, start = hidden / scale, before(classes)
    shapes = {"weight": (classes, features), "bias": (classes,), "common": (classes, classes)}
    shapes["raters"] = (count, classes, classes)
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    nothing = torch.zeros(sum(sizes[2:]), dtype=torch.float64)
    mean = torch.cat([SHARPENED * scale * weight.double().flatten(), SHARPENED * bias.double(), nothing])
    widths = zip(sizes, (CLASSIFIER, BIAS, COMMON, OWN), strict=True)
    deviation = torch.cat([torch.full((size,), width, dtype=torch.float64) for size, width in widths])

    def parts(found: torch.Tensor) -> dict[str, torch.Tensor]:
        split = zip(shapes.items(), found.split(sizes), strict=True)
        return {name: values.reshape(shape) for (name, shape), values in split}

    def energy(found: torch.Tensor) -> torch.Tensor:
        own = parts(found)
        latent = torch.log_softmax(inputs @ own["weight"].T + own["bias"], -1)
        tables = torch.log_softmax(start + own["common"] + own["raters"], -1)
        told = (tables[raters] @ answers[:, :, None])[:, :, 0]
        return -torch.logsumexp(latent.index_add(0, clips, told), -1).sum()

    own = parts(most_probable(energy, mean, deviation, TOLERANCE))
    classifier = {"classifier.weight": own["weight"] / scale, "classifier.bias": own["bias"]}
    return {**classifier, "tables.common": own["common"], "tables.raters": own["raters"]}


def before(classes: int) -> torch.Tensor:
    """log T0, float64 [C, C]."""
    return torch.log((1 - CONFUSED) * torch.eye(classes, dtype=torch.float64) + CONFUSED / classes)


def _logits(state: ModelState) -> tuple[torch.Tensor, torch.Tensor]:
    """log T0 + S, [C, C], and D of each training rater, [R, C, C]; float64 on the CPU."""
    parameters, prefix = state.parameters(), state.learner.prefix
    common, raters = (parameters[f"{prefix}tables.{name}"].detach().cpu().double() for name in ("common", "raters"))
    return before(len(common)) + common, raters


def _learner(task: TrainingTask) -> HeadLearner:
    """A learner whose head has tables beside it."""
    layers, features = task.features.shape[1:]
    head: nn.Module = new_head(task.options, layers, features, len(task.classes), "blank")
    head.tables = Tables(len(task.raters), len(task.classes))
    return new_learner(task, head=head)


def _embedded(learner: HeadLearner, task: TrainingTask) -> torch.Tensor:
    """What the classifier sees of each clip that a training rater rated, float64 [n, H], on the CPU."""
    own: Mapping[str, torch.Tensor] = {name: value.detach() for name, value in learner.parameters().items()}
    rows, found = task.consensus.rows, []
    with learner.explaining("Embedding the training raters' clips"):
        for start in range(0, len(rows), AT_ONCE):
            found.append(learner.embed(own, task.inputs(rows[start : start + AT_ONCE])).cpu().double())
    return torch.cat(found)


def _answers(task: TrainingTask) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each rating its clip among those of :func:`_embedded`, its rater, and its label distribution."""
    place = {utterance: index for index, utterance in enumerate(task.consensus.utterances)}
    tables = list(task.raters.values())
    clips = np.array([place[utterance] for table in tables for utterance in table.utterances], dtype=np.int64)
    raters = np.repeat(np.arange(len(tables)), [len(table.utterances) for table in tables])
    answers = np.concatenate([table.targets for table in tables]).astype(np.float64)
    return torch.from_numpy(clips), torch.from_numpy(raters), torch.from_numpy(answers)
