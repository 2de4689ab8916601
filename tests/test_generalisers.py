"""Systems of domain generalisation, each against a second way to its loss or its step."""

from __future__ import annotations

import copy
import dataclasses
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call

from s3prl_metaperser.config.domain_options import DomainOptions
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise import AVERAGES, GENERALISERS, mixstyle, mixup
from s3prl_metaperser.generalise.averaging import SWAD
from s3prl_metaperser.generalise.base import Sources
from s3prl_metaperser.generalise.meta_step import Margin, Problem, Samples, outer_gradient
from s3prl_metaperser.generalise.model import PooledModel
from s3prl_metaperser.generalise.resnet18 import ResNet18
from s3prl_metaperser.meta import closed_form
from s3prl_metaperser.meta.micro_gradients import NonFinite
from s3prl_metaperser.meta.rates import InnerRates
from s3prl_metaperser.protocol.domain_batches import DomainBatch
from s3prl_metaperser.protocol.loss import soft_cross_entropy

LEARNING = [name for name in GENERALISERS if GENERALISERS.get(name).facts.learns]
C, SIZES = 3, (5, 8, 4)
SPEAKERS = 7
COUNTS = np.array([[10, 20, 30], [5, 5, 200], [40, 1, 2]])
ON_FRAMES = {"MixStyle"}


def options(validation=0.2, **general) -> DomainOptions:
    expert = {"generalrc": general, "datarc": {"validation": validation}}
    return DomainOptions.from_config({"downstream_expert": expert})


def made(name: str, model=None, steps=12, **general):
    """(system, model) in float64."""
    model = pooled() if model is None else model
    system = GENERALISERS.get(name)(options(**general), Sources(tuple("abc"), tuple("xyz"), COUNTS, 4, steps, SPEAKERS))
    system.prepare(model)
    return system.double(), model


def pooled(nonlinear: bool = True) -> PooledModel:
    return PooledModel((2, 6), 5, C, torch.Generator().manual_seed(2), nonlinear).double().train()


def batch(seed=0, sizes=SIZES, shape=(2, 6)) -> DomainBatch:
    generator = torch.Generator().manual_seed(seed)
    domains = torch.cat([torch.full((size,), place) for place, size in enumerate(sizes)])
    inputs = torch.randn(len(domains), *shape, generator=generator, dtype=torch.float64)
    shifts = torch.randn(len(sizes), *shape, generator=generator, dtype=torch.float64)
    labels, speakers = (torch.randint(many, (len(domains),), generator=generator) for many in (C, SPEAKERS))
    return DomainBatch(inputs + shifts[domains], labels, domains, speakers)


def gradient_of(name: str, given: DomainBatch, step=1, **general):
    """(step's report, flat gradient) of a new system."""
    system, model = made(name, **general)
    report = system.outer_gradient(model, given, step)
    return report, flat_gradient(model)


def flat_gradient(model) -> torch.Tensor:
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()]
    )


# -- losses and penalties in NumPy ---------------------------------------------------------------------------------


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def losses(logits, labels):
    return -np.log(softmax(logits)[np.arange(len(labels)), labels])


def mean_of_domains(values, domains):
    return np.mean([values[domains == d].mean() for d in range(3)])


def irm(features, logits, labels, domains):
    """The derivative by the scale in closed form."""
    slopes = ((softmax(logits) - np.eye(C)[labels]) * logits).sum(1)
    return np.mean([slopes[domains == d].mean() ** 2 for d in range(3)])


def vrex(features, logits, labels, domains):
    return np.var([losses(logits, labels)[domains == d].mean() for d in range(3)])


def coral(features, logits, labels, domains, means=False):
    found = []
    for one, other in ((0, 1), (0, 2), (1, 2)):
        a, b = features[domains == one], features[domains == other]
        apart = np.linalg.norm(np.cov(a.T) - np.cov(b.T)) ** 2 / (4 * features.shape[1] ** 2)
        found.append(apart + means * np.mean((a.mean(0) - b.mean(0)) ** 2))
    return np.mean(found)


def fishr(features, logits, labels, domains):
    """From each sample's gradient of the classifier, one by one."""
    variances = []
    for d in range(3):
        rows = zip(features[domains == d], (softmax(logits) - np.eye(C)[labels])[domains == d], strict=True)
        variances.append(np.var([np.outer(slope, [*seen, 1.0]) for seen, slope in rows], axis=0, ddof=1))
    return np.mean([(v - np.mean(variances, axis=0)) ** 2 for v in variances])


def sd(features, logits, labels, domains):
    return 0.5 * np.mean(np.linalg.norm(logits, axis=1) ** 2)


PENALTIES = {
    "IRM": (irm, {}),
    "V-REx": (vrex, {}),
    "CORAL": (coral, {}),
    "CORAL, means too": (lambda *given: coral(*given, means=True), {"means": True}),
    "Fishr": (fishr, {}),
    "SD": (sd, {}),
}


@pytest.mark.parametrize("case", PENALTIES)
def test_a_penalty_and_its_gradient_are_those_of_its_equation(case):
    oracle, changes = PENALTIES[case]
    given, weight = batch(), 3.0
    labels, domains = given.labels.numpy(), given.domains.numpy()
    system, model = made(case.partition(",")[0], penalty=weight, anneal_steps=0, **changes)

    def penalty_and_objective(parameters):
        with torch.no_grad():
            features = functional_call(
                Featurizer(model), {f"model.{n}": v for n, v in parameters.items()}, given.inputs
            )
            logits = features @ parameters["classifier.weight"].T + parameters["classifier.bias"]
        features, logits = features.numpy(), logits.numpy()
        value = oracle(features, logits, labels, domains)
        return value, mean_of_domains(losses(logits, labels), domains) + weight * value

    report = system.outer_gradient(model, given, 1)
    theta = {name: value.detach() for name, value in model.named_parameters()}
    assert (report.values["penalty"], report.loss) == pytest.approx(penalty_and_objective(theta), rel=1e-10)
    generator, found = torch.Generator().manual_seed(1), flat_gradient(model)
    for _ in range(4):
        way = {n: torch.randn(v.shape, generator=generator, dtype=torch.float64) for n, v in theta.items()}

        def at(h, way=way):
            return penalty_and_objective({n: v + h * way[n] for n, v in theta.items()})[1]

        slopes = [(at(h) - at(-h)) / (2 * h) for h in (1e-4, 2e-4)]
        along = sum((way[n] * p.grad).sum() for n, p in model.named_parameters() if p.grad is not None).item()
        assert along == pytest.approx((4 * slopes[0] - slopes[1]) / 3, rel=1e-6, abs=1e-8 * found.norm().item())


class Featurizer(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model.features(inputs)


def test_fishr_averages_variances_over_steps_and_the_newest_counts_once_as_in_the_published_code():
    system, model = made("Fishr", penalty=0.0, variance_decay=0.9)
    given = [batch(seed) for seed in (0, 1)]
    reports = [system.outer_gradient(model, each, step + 1).values["penalty"] for step, each in enumerate(given)]
    variances = []
    for each in given:
        with torch.no_grad():
            features, logits = model.features(each.inputs).numpy(), model(each.inputs).numpy()
        slopes = softmax(logits) - np.eye(C)[each.labels]
        outer = np.einsum("nc,nh->nch", slopes, np.c_[features, np.ones(len(features))])
        variances.append(np.array([outer[each.domains == d].var(0, ddof=1) for d in range(3)]))
    averages = 0.9 * variances[0] + variances[1]
    assert reports[1] == pytest.approx(((averages - averages.mean(0)) ** 2).mean(), rel=1e-10)


def test_the_penaltys_weight_rises_in_a_straight_line():
    system, _ = made("V-REx", penalty=10.0, anneal_steps=4)
    assert [system.weight(step) for step in (1, 2, 4, 9)] == [2.5, 5.0, 10.0, 10.0]
    assert made("V-REx", penalty=10.0)[0].weight(1) == 10.0
    assert made("IRM")[0].weight(1) == made("V-REx")[0].weight(1) == 1.0
    for name, whole in (("Fishr", 10.0), ("DANN", 1.0)):
        own = made(name, steps=20)[0]
        assert [own.weight(step) for step in (3, 6, 20)] == [whole / 2, whole, whole], "over three tenths of training"
        assert made(name, steps=20, anneal_steps=0)[0].weight(1) == whole


@pytest.mark.parametrize("name", ["IRM", "V-REx", "CORAL", "Fishr", "SD", "GroupDRO", "RSC"])
def test_a_batch_of_one_domain_or_with_a_lone_sample_gives_finite_gradients(name):
    for domains in ([0, 0, 0, 0], [0, 0, 0, 1]):
        given = dataclasses.replace(batch(sizes=(4,)), domains=torch.tensor(domains))
        report, gradient = gradient_of(name, given)
        assert np.isfinite(report.loss)
        assert torch.isfinite(gradient).all()
        assert gradient.any()


# -- systems of their own ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GroupDRO", "Fish"])
def test_what_goes_by_the_sources_means_says_so_in_its_options(name):
    assert made(name, loss_mean="pooled")[0].general.loss_mean == "domain"


def test_groupdro_raises_the_share_of_the_worst_domain_and_weights_losses_by_it():
    system, model = made("GroupDRO", group_lr=0.5)
    given, shares = batch(), np.full(3, 1 / 3)
    with torch.no_grad():
        each = losses(model(given.inputs).numpy(), given.labels.numpy())
    means = np.array([each[given.domains == d].mean() for d in range(3)])
    for step in (1, 2, 3):
        shares = shares * np.exp(0.5 * means)
        shares /= shares.sum()
        assert system.outer_gradient(model, given, step).loss == pytest.approx(shares @ means)
    assert shares.argmax() == means.argmax()
    present = given.part([0, 2])  # a domain that is not in the batch keeps its share against the others
    system.outer_gradient(model, present, 4)
    assert system.shares.sum() == pytest.approx(1)


def test_rsc_mutes_what_a_loop_over_samples_mutes():
    given = batch()
    system, model = made("RSC", drop_features=0.4, drop_samples=0.5)
    with torch.no_grad():
        features = model.features(given.inputs)
    masks, lost = [], []
    for row, label in zip(features, given.labels, strict=True):
        leaf = row.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model.classifier(leaf)[label], leaf)
        masks.append((slope.numpy() < np.percentile(slope.numpy(), 60)).astype(float))
        both = [
            softmax(model.classifier(f)[None].detach().numpy())[0, label] for f in (row, row * torch.tensor(masks[-1]))
        ]
        lost.append(both[0] - both[1])
    hardest = np.array(lost) >= np.percentile(lost, 50)
    expected = np.where(hardest[:, None], masks, 1.0)
    assert torch.equal(system.kept(model, features, given.labels), torch.tensor(expected))
    logits = (features * torch.tensor(expected)) @ model.classifier.weight.T + model.classifier.bias
    each = losses(logits.detach().numpy(), given.labels.numpy())
    assert system.outer_gradient(model, given, 1).loss == pytest.approx(mean_of_domains(each, given.domains.numpy()))


class Drawn:
    """Stands for a generator: one permutation, one lambda a sample, and always below 1/2."""

    def __init__(self, size):
        self.order, self.share = np.roll(np.arange(size), 3), np.linspace(0.1, 0.9, size)

    def permutation(self, size):
        return self.order

    def beta(self, one, other, size):
        return self.share

    def random(self):
        return 0.0


def test_mixup_mixes_inputs_and_losses_by_the_same_share(monkeypatch):
    given = batch()
    drawn = Drawn(len(given))
    monkeypatch.setattr(mixup, "numpy_generator", lambda *names: drawn)
    system, model = made("Mixup")
    inputs = torch.stack(
        [
            s * given.inputs[i] + (1 - s) * given.inputs[j]
            for i, (j, s) in enumerate(zip(drawn.order, drawn.share, strict=True))
        ]
    )
    with torch.no_grad():
        logits, labels = model(inputs).numpy(), given.labels.numpy()
    each = drawn.share * losses(logits, labels) + (1 - drawn.share) * losses(logits, labels[drawn.order])
    report = system.outer_gradient(model, given, 1)
    assert report.loss == pytest.approx(mean_of_domains(each, given.domains.numpy()))
    waves = dataclasses.replace(given, inputs=list(given.inputs))
    heard = []
    model.forward = lambda inputs: heard.append(inputs) or model.classifier(model.features(torch.stack(inputs)))
    assert system.outer_gradient(model, waves, 1).loss == pytest.approx(report.loss)
    assert isinstance(heard[0], list)


def test_mixstyle_gives_each_channel_the_mixture_of_two_recordings_means_and_deviations(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    state = 3 + 2 * torch.randn(4, 6, 9, 8, generator=generator, dtype=torch.float64)
    partner, share = torch.tensor([2, 0, 3, 1]), torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    mixed = mixstyle.mixed(state, partner, share)
    for of in (torch.mean, torch.std):
        own = of(state, (2, 3))
        expected = share[:, None] * own + (1 - share[:, None]) * own[partner]
        assert torch.allclose(of(mixed, (2, 3)), expected, rtol=1e-6)
    assert torch.allclose(mixed[3], state[3])

    model = ResNet18(1, C, generator, channels=2).double()
    given = batch(shape=(1, 12, 10))
    monkeypatch.setattr(mixstyle, "numpy_generator", lambda *names: Drawn(len(given)))
    mixed_loss = made("MixStyle", model)[0].outer_gradient(model, given, 1).loss
    plain = [made("Deep-All", model)[0].outer_gradient(model, given, 1).loss for _ in range(2)]
    assert plain[0] == pytest.approx(plain[1])  # no hook is left behind
    assert mixed_loss != pytest.approx(plain[0], rel=1e-3)
    with pytest.raises(UserError, match="network=resnet18"):
        made("MixStyle")


@pytest.mark.parametrize("adversary", ["source", "speaker"])
def test_dann_turns_the_discriminators_gradient_on_its_way_to_the_features(adversary):
    given = batch()
    system, model = made("DANN", penalty=0.7, anneal_steps=0, adversary=adversary)
    features = model.features(given.inputs)
    told = system.discriminator(features)
    parameters, of_system = list(model.parameters()), list(system.discriminator.parameters())

    def mean(logits, labels):
        each = -torch.log_softmax(logits, -1)[torch.arange(len(labels)), labels]
        return torch.stack([each[given.domains == d].mean() for d in range(3)]).mean()

    loss, adversary = (
        mean(model.classifier(features), given.labels),
        mean(told, given.domains if adversary == "source" else given.speakers),
    )
    expected = torch.autograd.grad(loss - 0.7 * adversary, parameters, retain_graph=True)
    of_discriminator = torch.autograd.grad(adversary, of_system)
    system.outer_gradient(model, given, 1)
    for parameter, gradient in zip(parameters + of_system, expected + of_discriminator, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-14)


def test_fish_follows_a_copy_that_takes_one_step_a_domain():
    given, rate = batch(), 0.3
    orders = set()
    for step in range(1, 4):
        system, model = made("Fish", inner_lr=rate)
        system.outer_gradient(model, given, step)
        ways = {}
        for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
            other = copy.deepcopy(pooled())
            optimizer = torch.optim.SGD(other.parameters(), rate)
            for domain in order:
                part = given.part([domain])
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(other(part.inputs), part.labels).backward()
                optimizer.step()
            pairs = zip(pooled().parameters(), other.parameters(), strict=True)
            ways[order] = torch.cat([((a - b) / (3 * rate)).flatten() for a, b in pairs])
        orders |= {order for order, way in ways.items() if torch.allclose(way, flat_gradient(model), atol=1e-13)}
    assert len(orders) > 1  # it is one of the six ways, and not always the same


# -- MLDG and its kin ----------------------------------------------------------------------------------------------


def test_mldg_divides_domains_at_random_and_never_lets_v_be_all():
    system, _ = made("MLDG", meta_test_domains=2)
    drawn = [tuple(system.chosen([0, 1, 2], step)) for step in range(1, 200)]
    assert set(drawn) == {(0, 1), (0, 2), (1, 2)}
    assert len(system.chosen([0, 2], 1)) == 1
    by_size, _ = made("MLDG", choose="by_size")
    shares = np.bincount([by_size.chosen([0, 1, 2], step)[0] for step in range(1, 2001)]) / 2000
    assert shares == pytest.approx(COUNTS.sum(1) / COUNTS.sum(), abs=0.04)
    with pytest.raises(UserError, match=r"meta_test_domains=3 leaves none"):
        made("MLDG", meta_test_domains=3)


@pytest.mark.parametrize("mean", ["domain", "pooled"])
def test_a_systems_step_is_the_one_that_eq_2_has_on_the_divided_batch(mean):
    given = batch()
    for name, margin in (("MLDG", None), ("DA-MLDG", Margin()), ("DA-MLDG:attached", Margin(attached=True))):
        system, model = made(name, inner_lr=0.4, loss_mean=mean)
        report = system.outer_gradient(model, given, 7)
        (test,) = system.chosen([0, 1, 2], 7)
        parts = given.part([d for d in range(3) if d != test]), given.part([test])
        sizes = [torch.bincount(part.domains, minlength=3)[part.domains] for part in parts]
        weights = [
            1 / (size * len(part.present)) if mean == "domain" else torch.full((len(part),), 1 / len(part))
            for size, part in zip(sizes, parts, strict=True)
        ]
        train, test = (Samples(p.inputs, p.labels, w.double()) for p, w in zip(parts, weights, strict=True))
        expected = outer_gradient(Problem(pooled(), train, test, 0.4, margin))
        assert report.loss == pytest.approx(expected.loss, rel=1e-6)
        assert report.each.get("margin") == (None if margin is None else pytest.approx(expected.margin, rel=1e-6))
        gradient = torch.cat([g.flatten() for g in expected.gradient.values()])
        assert torch.allclose(flat_gradient(model), gradient, rtol=1e-6, atol=1e-9)
        _, by_loop = gradient_of(name, given, 7, inner_lr=0.4, loss_mean=mean, engine="loop")
        assert torch.allclose(by_loop, flat_gradient(model), atol=1e-14)


def test_what_the_public_code_computes_is_deep_all_without_one_domain():
    given, seen = batch(), set()
    for step in range(1, 30):
        system, model = made("MLDG:public", choose="uniform", loss_mean="domain")  # its own values stand above these
        report = system.outer_gradient(model, given, step)
        (test,) = system.chosen([0, 1, 2], step)
        rest = given.part([d for d in range(3) if d != test])
        expected, gradient = gradient_of("Deep-All", rest, loss_mean="pooled")
        assert report.loss == expected.loss
        assert torch.equal(flat_gradient(model), gradient)
        seen.add(test)
    assert len(seen) > 1


@pytest.mark.parametrize("name", ["MLDG", "DA-MLDG", "MLDG:public"])
def test_a_batch_of_one_domain_is_a_step_of_deep_all_that_says_so(name):
    given = batch(sizes=(6,))
    report, gradient = gradient_of(name, given)
    plain, expected = gradient_of("Deep-All", given)
    assert report.values["undivided"] == 1
    divided, _ = made("MLDG")
    assert "undivided" not in divided.outer_gradient(pooled(), batch(), 1).values  # balanced batches have all sources
    assert torch.equal(gradient, expected)
    assert report.loss == plain.loss


def test_on_a_linear_head_mldg_is_the_closed_form_of_the_other_task():
    given = batch(sizes=(6, 6))
    model, rate = pooled(nonlinear=False), 0.4
    parts = [given.part([place]) for place in (0, 1)]
    train, test = (Samples(p.inputs, p.labels, torch.full((6,), 1 / 6, dtype=torch.float64)) for p in parts)
    found = outer_gradient(Problem(model, train, test, rate))

    theta = dict(model.named_parameters())
    rates = InnerRates(list(theta), 1, rate, learned=False).double()
    hot = [torch.nn.functional.one_hot(p.labels, C).double()[None] for p in parts]
    major = [closed_form.layer_major(p.inputs[None]) for p in parts]
    closed_form.outer_loss(theta, rates, major[0], hot[0], [True], (major[1], hot[1])).backward()
    soft_cross_entropy(model(parts[0].inputs), hot[0][0]).backward()  # added to the other's: L_S'
    for name, parameter in theta.items():
        assert torch.allclose(found.gradient[name], parameter.grad, rtol=1e-6, atol=1e-9), name


def test_a_step_that_diverges_says_so_and_leaves_no_gradient():
    system, model = made("DA-MLDG", inner_lr=1e200)
    with pytest.raises(NonFinite):
        system.outer_gradient(model, batch(), 1)
    assert all(parameter.grad is None for parameter in model.parameters())


# -- averages ------------------------------------------------------------------------------------------------------


def moved(kind: str, weights, **general):
    """The average of a model that goes through these values, all its weights alike."""
    system, model = made(f"Deep-All+{kind}", steps=len(weights), **general)
    for step, weight in enumerate(weights, 1):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(weight)
        system.after_step(model, step)
    found = system.tested(model)
    assert found is not model
    assert len({value.item() for p in found.parameters() for value in p.flatten()}) == 1
    return next(iter(found.parameters())).flatten()[0].item()


def test_ema_and_dense_averages_are_those_of_a_loop():
    weights = np.random.default_rng(0).normal(size=9)
    expected = weights[0]
    for weight in weights[1:]:
        expected = 0.8 * expected + 0.2 * weight
    assert moved("ema", weights, ema_decay=0.8) == pytest.approx(expected)
    assert moved("dense", weights) == pytest.approx(weights[4:].mean())


def valley(weights, scores, every, patience, overfit, tolerance):
    """SWAD's Algorithm 1 by indices: the mean of the weights between start and end."""
    start, end, limit = None, len(scores) - 1, None
    for i in range(len(scores)):
        if start is None:
            first = scores[i - patience + 1 : i + 1]
            if i + 1 >= patience and first[0] == min(first):
                start, limit = i - patience + 1, tolerance * np.mean(first)
        elif i + 1 >= overfit and min(scores[i - overfit + 1 : i + 1]) > limit:
            end = i - overfit
            break
    start = len(scores) - 1 if start is None else start
    return np.mean(weights[start * every : (end + 1) * every])


def test_swad_averages_the_valley_of_the_validation_loss_through_checkpoints():
    draw, seen = np.random.default_rng(1), set()
    for trial in range(60):
        patience, overfit = ((3, 6), (2, 2), (4, 2))[trial % 3]
        scores = np.abs(np.linspace(-3, 3, 14) * draw.uniform(0.2, 1.5)) + 0.5 + 0.2 * draw.random(14)
        if trial % 5 == 0:
            scores = np.sort(scores)[::-1]  # never a start
        weights, model = draw.normal(size=28), pooled()
        average = SWAD(model, patience, overfit, 1.3)
        for step, weight in enumerate(weights):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.fill_(weight)
            average.after_step(model, step + 1)
            if step % 2:
                average.validated(scores[step // 2])
                again = SWAD(model, patience, overfit, 1.3).double()
                again.load_state_dict(average.state_dict())
                average = again
        found = next(average.tested(model).parameters()).flatten()[0].item()
        assert found == pytest.approx(valley(weights, scores, 2, patience, overfit, 1.3)), trial
        seen.add(int(average.valley))
    assert seen == {0, 1, 2}


def test_swad_without_validation_speakers_is_refused():
    with pytest.raises(UserError, match=r"Deep-All\+swad: .* datarc.validation=0.2"):
        made("Deep-All+swad", validation=0.0)


def test_the_system_that_the_page_adds_is_one(monkeypatch):
    page = (Path(__file__).resolve().parents[1] / "docs" / "domain_generalisation_systems.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    module = types.ModuleType("mean_matching")
    exec(compile(block, "mean_matching", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "mean_matching", module)
    (target,) = re.findall(r'^Mean-Matching = "(.*)"$', page, flags=re.MULTILINE)
    with GENERALISERS.read_again():
        GENERALISERS.register("Mean-Matching", target)
        given = batch()
        report, gradient = gradient_of("Mean-Matching", given)
        averaged, _ = made("Mean-Matching+ema")
    with torch.no_grad():
        features = pooled().features(given.inputs).numpy()
    means = np.array([features[given.domains == d].mean(0) for d in range(3)])
    assert report.values["penalty"] == pytest.approx(((means - features.mean(0)) ** 2).mean())
    assert gradient.any()
    assert averaged.average is not None


# -- all of them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LEARNING, *(f"Deep-All+{kind}" for kind in AVERAGES)])
def test_every_system_learns_what_can_be_learned_and_repeats_itself_to_the_bit(name):
    frames, ends = name in ON_FRAMES, []
    given = batch(shape=(1, 12, 10)) if frames else batch()
    for _ in range(2):
        model = ResNet18(1, C, torch.Generator().manual_seed(2), channels=2).double() if frames else pooled()
        system, model = made(name, model, penalty=0.1)
        trained = [p for p in (*model.parameters(), *system.parameters()) if p.requires_grad]
        optimizer, reports = torch.optim.SGD(trained, 0.1), []
        before = system.sample_losses(model(given.inputs), given.labels).mean().item()
        for step in range(1, 13):
            optimizer.zero_grad()
            reports.append(system.outer_gradient(model, given, step).loss)
            optimizer.step()
            system.after_step(model, step)
            system.validated(reports[-1])
        ends.append(system.sample_losses(system.tested(model)(given.inputs), given.labels).mean().item())
    assert ends[0] == ends[1] < before
