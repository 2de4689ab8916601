"""Output-only adaptation and the floors, each against an independent computation."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from test_systems import make, trained  # noqa: F401 (make is a fixture)

from s3prl_metaperser.corpora.label_sets import set_of
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.meta_testing import meta_test
from s3prl_metaperser.grid.cells import expand
from s3prl_metaperser.grid.cost import Sizes, passes
from s3prl_metaperser.grid.definition import read_grid
from s3prl_metaperser.grid.relevance import options_of_cell
from s3prl_metaperser.methods import OUTPUTS, SYSTEMS, facts_of, parts_of, systems
from s3prl_metaperser.methods.base import Support
from s3prl_metaperser.methods.learned_priors import learned_prior
from s3prl_metaperser.methods.output_only import NAME
from s3prl_metaperser.methods.outputs import FOLDS, LEARNED, kinds_of
from s3prl_metaperser.methods.state import pack_state, unpack_state
from s3prl_metaperser.methods.tuning import number_of_choices, overridden

NAMES = [name for name in OUTPUTS if not name.endswith(LEARNED)]
CLASSES = [name for name in NAMES if kinds_of(name) != ("ordinal",)]


@pytest.fixture
def drawn():
    """Log-probabilities [40, 5] and label distributions beside them."""
    generator = np.random.default_rng(0)
    logs = log_softmax(2 * generator.normal(size=(40, 5)), -1)
    targets = generator.dirichlet(np.full(5, 0.3), size=40)
    return torch.from_numpy(logs), torch.from_numpy(targets)


def fitted(name, logs, targets):
    output = OUTPUTS.get(name)()
    return output, output.fit(logs, targets)


def test_a_map_is_scikit_learns_ridge_regression_drawn_to_the_identity():
    """One label a clip, and as much prior on W as on b: then it is LogisticRegression on c less the start's logits.

    scikit-learn draws coefficients to zero and cannot start elsewhere, so its answer is checked through its optimality
    condition at our solution, and ours by its penalised loss being the lower one at every step to either side.
    """
    generator = np.random.default_rng(1)
    logs = log_softmax(generator.normal(size=(60, 4)), -1)
    said = generator.integers(4, size=60)
    targets = np.eye(4)[said]
    output, parameters = fitted("map", torch.from_numpy(logs), torch.from_numpy(targets))
    centred = logs - logs.mean(-1, keepdims=True)
    weight, bias = parameters[:-4].reshape(4, 4).numpy(), parameters[-4:].numpy()
    left_over = softmax(centred @ weight.T + bias, -1) - targets
    np.testing.assert_allclose(left_over.T @ centred, -(weight - np.eye(4)) / 0.3**2, atol=1e-6)
    np.testing.assert_allclose(left_over.sum(0), -bias, atol=1e-6)
    far = LogisticRegression(C=1e8, max_iter=5000, tol=1e-10).fit(centred[:, :3], said)  # with hardly any prior
    free = type(output)()
    free.prior = lambda classes: (torch.zeros(20, dtype=torch.float64), torch.full((20,), 1e4, dtype=torch.float64))
    ours = torch.softmax(free.apply(free.fit(*map(torch.from_numpy, (logs, targets))), torch.from_numpy(logs)), -1)
    np.testing.assert_allclose(ours.numpy(), far.predict_proba(centred[:, :3]), atol=2e-4)


@pytest.mark.parametrize("name", ["bias", "bias-scale", "map", "confusion"])
def test_each_is_at_the_most_probable_parameters_that_another_solver_finds(drawn, name):
    """The penalised likelihood written anew in NumPy, minimised by scipy's BFGS with numerical gradients."""
    logs, targets = (each.numpy()[:, :3] for each in drawn)
    logs, targets = log_softmax(logs, -1), targets / targets.sum(-1, keepdims=True)

    def predicted(x):
        if name == "bias":
            return log_softmax(logs + x, -1)
        if name == "bias-scale":
            return log_softmax(x[0] * logs + x[1:], -1)
        if name == "map":
            centred = logs - logs.mean(-1, keepdims=True)
            return log_softmax(centred @ x[:9].reshape(3, 3).T + x[9:], -1)
        start = np.log(0.9 * np.eye(3) + 0.1 / 3)
        return np.log(softmax(logs, -1) @ softmax(start + x.reshape(3, 3), -1))

    mean, deviation = {
        "bias": (np.zeros(3), np.ones(3)),
        "bias-scale": (np.array([1.0, 0, 0, 0]), np.array([0.5, 1, 1, 1])),
        "map": (np.append(np.eye(3).ravel(), np.zeros(3)), np.append(np.full(9, 0.3), np.ones(3))),
        "confusion": (np.zeros(9), np.full(9, 2.0)),
    }[name]

    def penalised(x):
        return -(targets * predicted(x)).sum() + (((x - mean) / deviation) ** 2).sum() / 2

    by_scipy = minimize(penalised, mean, method="BFGS", options={"gtol": 1e-6})
    output, parameters = fitted(name, torch.from_numpy(logs), torch.from_numpy(targets))
    np.testing.assert_allclose(parameters.numpy(), by_scipy.x, atol=1e-4)
    found = torch.log_softmax(output.apply(parameters, torch.from_numpy(logs)), -1)
    np.testing.assert_allclose(found.numpy(), predicted(parameters.numpy()), atol=1e-12)
    assert penalised(parameters.numpy()) < penalised(mean)


def test_label_shift_is_bayes_rule_with_other_shares(drawn):
    """Each clip's likelihood of a class is its probability over the mean one; new shares come from counting."""
    logs, targets = (each.numpy() for each in drawn)
    output, parameters = fitted("prior", *drawn)
    heard = np.exp(logs).mean(0)
    shares = (targets.sum(0) + 5 * heard) / 45
    expected = np.exp(logs) * shares / heard
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(torch.softmax(output.apply(parameters, drawn[0]), -1).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("name", "shift", "stretch"), [("offset", 0.7, 1.0), ("line", -0.4, 1.6)])
def test_a_shift_along_the_scale_moves_cumulative_logits(drawn, name, shift, stretch):
    logs = drawn[0].numpy()
    parameters = torch.tensor([shift, np.log(stretch)][: 1 + (name == "line")], dtype=torch.float64)
    moved = torch.softmax(OUTPUTS.get(name)().apply(parameters, drawn[0]), -1).numpy()
    before, after = np.exp(logs).cumsum(-1)[:, :-1], moved.cumsum(-1)[:, :-1]
    np.testing.assert_allclose(after, expit(stretch * logit(before) - shift), atol=1e-9)


def test_a_tilt_is_exponential_in_the_level(drawn):
    moved = torch.softmax(OUTPUTS.get("tilt")().apply(torch.tensor([0.5, -1.0]).double(), drawn[0]), -1).numpy()
    place = np.array([-1, -0.5, 0, 0.5, 1])
    expected = np.exp(drawn[0].numpy()) * np.exp(0.5 * place - place**2)
    np.testing.assert_allclose(moved, expected / expected.sum(-1, keepdims=True), atol=1e-12)


def test_an_affine_scale_is_averaged_over_its_posterior():
    """Shift, stretch and blur written anew in loops, with scipy's normal distribution; no grid point is left out."""
    generator = np.random.default_rng(4)
    logs, targets = log_softmax(2 * generator.normal(size=(6, 4)), -1), generator.dirichlet(np.full(4, 0.3), size=6)
    points, weights, tables = [np.linspace(-2.5, 2.5, count) for count in (9, 25, 7)], [], []
    for a, c, s in itertools.product(*points):
        table = np.empty((4, 4))
        for j in range(4):
            centre = np.exp(0.35 * a) * (j - 1.5) + 1.5 + 0.75 * c
            ends = norm.cdf([0.5, 1.5, 2.5], centre, 3 / 12 * np.exp(s))
            table[j] = np.diff([0, *ends, 1])
        likelihood = (targets * np.log(np.maximum(np.exp(logs) @ table, 1e-12))).sum()
        weights.append(likelihood - (a**2 + c**2 + s**2) / 2)
        tables.append(table)
    expected = np.einsum("g,gcd->cd", softmax(weights), tables)
    output, found = fitted("affine", torch.from_numpy(logs), torch.from_numpy(targets))
    np.testing.assert_allclose(found.reshape(4, 4), expected, atol=1e-12)
    applied = torch.exp(output.apply(found, torch.from_numpy(logs)))
    np.testing.assert_allclose(applied, np.exp(logs) @ expected, atol=1e-12)


@pytest.mark.parametrize("name", ["offset", "line", "tilt", "affine"])
def test_a_listener_who_rates_higher_is_followed_up_the_scale(name):
    logs = torch.log_softmax(torch.from_numpy(np.random.default_rng(2).normal(size=(64, 5))), -1)
    higher = torch.nn.functional.one_hot((logs.argmax(-1) + 1).clamp_max(4), 5).double()
    output, parameters = fitted(name, logs, higher)
    levels = torch.arange(5, dtype=torch.float64)
    found = torch.softmax(output.apply(parameters, logs), -1)
    assert (found @ levels).mean() > (torch.softmax(logs, -1) @ levels).mean() + 0.5


@pytest.mark.parametrize("name", NAMES)
def test_without_evidence_little_or_nothing_changes(drawn, name):
    """Fitted to what was predicted anyway, the prediction stays, but for the blur of +confusion and +affine."""
    logs = drawn[0]
    output, parameters = fitted(name, logs, torch.softmax(logs, -1))
    change = (torch.softmax(output.apply(parameters, logs), -1) - torch.softmax(logs, -1)).abs().max()
    assert change < {"confusion": 0.12, "affine": 0.05}.get(name, 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_ten_thousand_labels_or_one_and_extreme_probabilities_give_finite_numbers(name):
    generator = np.random.default_rng(3)
    for count in (1, 10_000):
        logs = torch.log(torch.from_numpy(generator.dirichlet(np.full(9, 0.02), count)).clamp_min(1e-12))
        targets = torch.from_numpy(np.eye(9)[generator.integers(9, size=count)])
        output, parameters = fitted(name, logs, targets)
        assert torch.isfinite(torch.log_softmax(output.apply(parameters, logs), -1)).all()
        assert torch.equal(parameters, output.fit(logs, targets)), "the same every time"
    assert fitted("bias", logs * torch.nan, targets)[1].isnan().all()


# -- on top of systems ------------------------------------------------------------------------------------------------


def test_on_zero_shot_the_numbers_are_fitted_to_its_own_predictions(make):  # noqa: F811
    *_, task = make()
    zero, state, _ = trained("Linear-Zero", task)
    system, own, _ = trained("Linear-Zero+bias+map", task)
    assert torch.equal(own.parameters()["classifier.bias"], state.parameters()["classifier.bias"])
    episode = task.validation_episodes[0]
    predictor = system.adapt(own, episode.support)
    known = torch.from_numpy(zero.predict(state, zero.unadapted(state), episode.support.features)).double().log()
    _, bias = fitted("bias", known, episode.support.targets.double())
    second = torch.log_softmax(known + bias, -1)
    output, map_ = fitted("map", second, episode.support.targets.double())
    torch.testing.assert_close(predictor[f"{NAME}0"], bias)
    torch.testing.assert_close(predictor[f"{NAME}1"], map_)
    heard = torch.from_numpy(zero.predict(state, zero.unadapted(state), episode.query)).double().log()
    expected = torch.softmax(output.apply(map_, torch.log_softmax(heard + bias, -1)), -1)
    np.testing.assert_allclose(system.predict(own, predictor, episode.query), expected.numpy(), atol=1e-6)
    before = system.predict(own, system.unadapted(own), episode.query)
    np.testing.assert_array_equal(before, zero.predict(state, zero.unadapted(state), episode.query))


@pytest.mark.parametrize("name", ["Meta-PerSER", "Linear-Few", "Multi-Few", "Linear-Sim"])
def test_a_system_that_knows_the_labels_is_asked_about_clips_that_it_did_not_adapt_to(make, name):  # noqa: F811
    """A loop over the four parts, written anew; and the whole is the system adapted to all K."""
    *_, task = make()
    system, state, step = trained(f"{name}+bias", task)
    base, same, selected = trained(name, task)
    assert step == selected, "it is trained as without"
    support = task.validation_episodes[0].support
    outside = np.empty((8, 9), dtype=np.float32)
    for fold in range(FOLDS):
        rows = [k for k in range(8) if k % FOLDS == fold]
        others = [k for k in range(8) if k % FOLDS != fold]
        part = Support(support.features[others], support.targets[others], support.seed)
        outside[rows] = base.predict(same, base.adapt(same, part), support.features[rows])
    _, bias = fitted("bias", torch.from_numpy(outside).double().clamp_min(1e-12).log(), support.targets.double())
    predictor = system.adapt(state, support)
    torch.testing.assert_close(predictor[f"{NAME}0"], bias, rtol=1e-4, atol=1e-5)
    adapted = base.predict(same, base.adapt(same, support), support.features)
    np.testing.assert_allclose(base.predict(state, predictor, support.features), adapted, atol=1e-5)


@pytest.mark.parametrize("shots", [1, 2, 3, 7])
def test_a_few_labels_are_dealt_out_one_by_one(make, shots):  # noqa: F811
    *_, task = make(evalrc__shots=shots)
    system, state, _ = trained("Meta-PerSER+map", task)
    for result in meta_test(system, state, task.validation_episodes):
        np.testing.assert_allclose(result.probabilities.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", CLASSES)
def test_every_one_goes_on_top_of_a_system_that_hears_nothing(make, name):  # noqa: F811
    """Random draws by the episode's seed: of the labels nothing but their shares can be known, which helps."""
    *_, task = make(evalrc__shots=40)

    def nats(name):
        system, state, _ = trained(name, task)
        tested = meta_test(system, state, task.validation_episodes)
        targets = [episode.query_labels.targets for episode in task.validation_episodes]
        return -np.mean(
            [(np.log(r.probabilities) * own).sum(-1).mean() for r, own in zip(tested, targets, strict=True)]
        )

    assert nats(f"Random+{name}") < nats("Random")


def test_names_are_read_from_the_right_and_facts_are_the_systems():
    assert parts_of("Meta-PerSER:INI+DA+tilt+map") == ("Meta-PerSER:INI+DA", ("tilt", "map"))
    assert parts_of("Meta-PerSER:INI+DA") == ("Meta-PerSER:INI+DA", ())
    plain, on_top = facts_of("Meta-PerSER:INI+DA"), facts_of("Meta-PerSER:INI+DA+map")
    assert (on_top.trains, on_top.fixed, on_top.initialised) == (plain.trains, plain.fixed, plain.initialised)
    assert on_top.uses == (*plain.uses, "downstream_expert.outputrc")
    assert (on_top.variant_of, on_top.table1) == ("", None), "it is no row of the paper's tables"
    config = trained_config()
    assert options_of_cell("personalized_emotion", "frozen", on_top, config) == options_of_cell(
        "personalized_emotion", "frozen", plain, config
    )
    assert SYSTEMS.knows("Linear-Few+map")
    assert systems(finetuned=True).get("Entire-Few+bias").personalises


def test_a_plan_counts_the_adaptations_to_the_parts(tmp_path):
    """Three quarters of K four times, beside all K once; validation is the system's own."""
    cells = {}
    for name in ("Entire-Few", "Entire-Few+map", "Entire-Zero", "Entire-Zero+map"):
        grid = tmp_path / f"{name}.yaml"
        lines = ["corpus: demo", "results: r", "upstreams: [wavlm_base]", "scenarios: [seen]", "folds: [fold1]"]
        lines += ["shots: [32]", f'systems: {{finetuned: ["{name}"]}}']
        lines += ["options: {downstream_expert: {evalrc: {seeds: 10, steps: 50, trajectory: []}}}"]
        grid.write_text("\n".join(lines))
        (cells[name],) = expand(read_grid(grid))
    few, more, zero, other = (passes(cell, Sizes(classes=9, raters=9)) for cell in cells.values())
    assert more - few == pytest.approx(10 * 3 * 50)
    assert other == zero


def trained_config():
    from s3prl_metaperser.config.options import Options

    return Options().as_config()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Linear-Zero+bais", "Unknown output adaptation 'bais'. Did you mean 'bias'"),
        ("Linear-Zero+bias+", "Unknown output adaptation ''"),
        ("Linear-Zeroo+bias", "Unknown system 'Linear-Zeroo'|Unknown system 'Linear-Zeroo.bias'"),
        ("+bias", "Unknown"),
    ],
)
def test_an_unknown_name_is_one_error(name, message):
    assert not SYSTEMS.knows(name)
    with pytest.raises(UserError, match=message):
        SYSTEMS.get(name)


def test_what_is_for_a_scale_is_refused_for_classes_and_the_other_way_round_it_fits():
    emotions, scale = (
        set_of({"classes": ["a", "b"]}),
        set_of({"label_set": {"name": "s", "kind": "ordinal", "levels": [1, 2, 3]}}),
    )
    with pytest.raises(UserError, match=r"\+tilt is for labels of the kind ordinal"):
        SYSTEMS.get("Linear-Zero+bias+tilt").check(emotions)
    SYSTEMS.get("Linear-Zero+bias+tilt").check(scale)
    SYSTEMS.get("Linear-Zero+bias").check(emotions)


def test_spread_is_a_factor_on_the_priors_and_without_other_choices_it_is_chosen(make):  # noqa: F811
    *_, task = make()
    system, state, _ = trained("Linear-Zero+bias", task)
    support = task.validation_episodes[0].support
    bias = [
        system.under(overridden(task.options, {"outputrc.spread": spread})).adapt(state, support)[f"{NAME}0"].norm()
        for spread in (1e-3, 0.5, 1.0, 4.0)
    ]
    assert bias[0] < 1e-4 < bias[1] < bias[2] < bias[3]
    assert bias[2] == system.adapt(state, support)[f"{NAME}0"].norm()
    choices = system.tunable()
    assert len(choices) == number_of_choices("frozen")
    assert {tuple(choice) for choice in choices} == {("outputrc.spread", "outputrc.temperature")}
    few = SYSTEMS.get("Linear-Few+bias")(task.options, task.class_weights)
    assert few.tunable() == few.base.tunable()
    sharper = system.under(overridden(task.options, {"outputrc.temperature": 0.5}))
    episode = task.validation_episodes[0]
    plain, sharp = (each.predict(state, each.adapt(state, support), episode.query) for each in (system, sharper))
    np.testing.assert_allclose(sharp, plain**2 / (plain**2).sum(-1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(NAMES, 2)])
def test_any_two_go_together_and_the_second_does_not_undo_the_first(drawn, first, second):
    """What starts at "change nothing" never makes the K labels less likely; the others blur, or count shares."""
    logs, targets = drawn

    def likelihood(logs):
        return (targets * torch.log_softmax(logs, -1)).sum().item()

    output, parameters = fitted(first, logs, targets)
    between = torch.log_softmax(output.apply(parameters, logs), -1)
    output, parameters = fitted(second, between, targets)
    after = torch.log_softmax(output.apply(parameters, between), -1)
    assert torch.isfinite(after).all()
    assert likelihood(after) > likelihood(between) - {"confusion": 4.0, "affine": 4.0, "prior": 1.0}.get(second, 1e-9)


def test_the_same_one_twice_is_refused():
    scale = set_of({"label_set": {"name": "s", "kind": "ordinal", "levels": [1, 2, 3]}})
    with pytest.raises(UserError, match=r"\+bias is fitted once; a second one has nothing left to fit"):
        SYSTEMS.get("Linear-Zero+bias+tilt+bias").check(scale)


@pytest.mark.parametrize("name", ["Linear-Zero", "Linear-Few", "Multi-Few", "Nearest-Rater"])
@pytest.mark.parametrize("outputs", ["+bias", "+map+bias-scale", "+prior+tilt", "+bias+confusion"])
def test_scores_that_are_shifted_or_mixed_are_one_linear_head(make, name, outputs):  # noqa: F811
    *_, task = make(outputrc__temperature=0.8, initrc__total_steps=20)
    system, state, _ = trained(f"{name}{outputs}", task)
    episode = task.validation_episodes[0]
    predictor = system.adapt(state, episode.support)
    head = system.as_one_head(state, predictor)
    assert (head is predictor) == ("confusion" in outputs), "a table of probabilities is no map of logits"
    if head is not predictor:
        assert head.keys() == state.parameters().keys()
        assert head["classifier.weight"].dim() == 2
    found = system.predict(state, head, episode.query)
    np.testing.assert_allclose(found, system.predict(state, predictor, episode.query), atol=2e-6)


KEPT = {
    "Linear-Zero": 0, "Linear-Zero+bias": 9, "Linear-Zero+map": 90, "Linear-Zero+bias+confusion": 90, "No-Audio": 0,
    "Dawid-Skene": 81, "Rater-Embedding": 8, "Nearest-Rater": 81, "Most-Frequent": 9, "Linear-Few": 2 + 48 + 81,
    "Meta-PerSER": 2 + 48 + 81,
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_the_numbers_that_are_kept_of_a_listener_are_counted(make, name):  # noqa: F811
    """Of a head of two layers, five features, eight hidden units and nine classes."""
    *_, task = make(initrc__total_steps=20)
    system, state, _ = trained(name, task)
    tested = meta_test(system, state, task.validation_episodes)
    assert {result.numbers for result in tested} == {KEPT[name]}
    assert all(result.seconds > 0 for result in tested)


# -- learned priors ---------------------------------------------------------------------------------------------------


def test_a_learned_prior_is_the_fixed_point_of_its_equations_with_posteriors_by_quadrature():
    """One number a rater (+offset), whose posterior scipy integrates; 25 raters drawn around 1."""
    generator, output, rated = np.random.default_rng(5), OUTPUTS.get("offset")(), []
    for shift in 1 + 0.5 * generator.normal(size=25):
        logs = torch.from_numpy(log_softmax(generator.normal(size=(80, 4)), -1))
        chances = torch.softmax(output.apply(torch.tensor([shift]), logs), -1).numpy()
        rated.append((logs, torch.from_numpy(np.stack([generator.multinomial(1, row) for row in chances])).double()))
    mean, factor = (each.item() for each in learned_prior(output, rated))
    places, moments = np.linspace(-4, 6, 2001), []
    for logs, targets in rated:
        below = np.exp(logs.numpy()).cumsum(-1)[:, :-1]
        cumulative = expit(logit(below)[None] - places[:, None, None])
        said = np.diff(np.concatenate([np.zeros((2001, 80, 1)), cumulative, np.ones((2001, 80, 1))], -1), axis=-1)
        likely = (targets.numpy() * np.log(said)).sum((1, 2)) + norm.logpdf(places, mean, factor)
        weights = softmax(likely)
        centre = weights @ places
        moments.append((centre, weights @ (places - centre) ** 2))
    centres, widths = np.array(moments).T
    assert mean == pytest.approx(centres.sum() / 26, abs=0.02)
    apart = ((centres - mean) ** 2).sum() + mean**2
    assert factor**2 == pytest.approx((4 * 2.0**2 + apart + widths.sum()) / 30, rel=0.03)
    assert abs(mean - 1) < 0.35
    output.spread = 0.1  # a listener's, of what is learned
    assert [each.item() for each in learned_prior(output, rated)] == [mean, factor]


@pytest.mark.parametrize("name", ["Linear-Zero+bias:learned", "Linear-Few+bias:learned+map"])
def test_without_labels_a_listener_is_taken_for_the_training_raters_mean(make, name):  # noqa: F811
    *_, task = make()
    system, state, _ = trained(name, task)
    assert state.priors["0.mean"].shape == (9,)
    assert state.priors["0.factor"].shape == (9, 9)
    support = task.validation_episodes[0].support
    narrow = system.under(overridden(system.options, {"outputrc.spread": 1e-4}))
    torch.testing.assert_close(narrow.adapt(state, support)[f"{NAME}0"], state.priors["0.mean"], rtol=0, atol=1e-4)
    again = unpack_state(pack_state(state), system.blank(task), "memory")
    system.learn_priors(again, task)
    assert all(torch.equal(value, again.priors[key]) for key, value in state.priors.items()), "to the bit"
    known = system._from_outside(state, [support])[0] if system.base.personalises else None
    if known is None:
        known = system.base.predict(state, system.base.unadapted(state), support.features)
    x = state.priors["0.factor"].numpy()
    logs, targets = np.log(known.astype(np.float64)), support.targets.double().numpy()

    def penalised(free):
        return -(targets * log_softmax(logs + state.priors["0.mean"].numpy() + x @ free, -1)).sum() + free @ free / 2

    best = minimize(penalised, np.zeros(9), method="BFGS", options={"gtol": 1e-7})
    found = system.adapt(state, support)[f"{NAME}0"]
    np.testing.assert_allclose(found, state.priors["0.mean"].numpy() + x @ best.x, atol=1e-4)


# -- floors -----------------------------------------------------------------------------------------------------------


def test_most_frequent_predicts_the_mean_of_the_k_labels(make):  # noqa: F811
    *_, task = make()
    system, state, _ = trained("Most-Frequent", task)
    episode = task.validation_episodes[1]
    found = system.predict(state, system.adapt(state, episode.support), episode.query)
    assert found.shape == (len(episode.query), 9)
    np.testing.assert_allclose(found, np.tile(episode.support.targets.numpy().mean(0), (len(found), 1)), atol=1e-6)
    np.testing.assert_allclose(system.predict(state, system.unadapted(state), episode.query), 1 / 9, rtol=1e-6)


def test_calibrated_zero_finds_the_temperature_that_labels_were_drawn_at(make):  # noqa: F811
    """With softmax(logits / 2) as the labels every clip's loss is least at a temperature of 2."""
    *_, task = make()
    zero, state, _ = trained("Linear-Zero", task)
    calibrated, own, _ = trained("Calibrated-Zero", task)
    known = []
    for episode in task.validation_episodes:
        drawn = np.sqrt(zero.predict(state, zero.unadapted(state), episode.query))
        labels = dataclasses.replace(episode.query_labels, targets=drawn / drawn.sum(-1, keepdims=True))
        known.append(dataclasses.replace(episode, query_labels=labels))
    assert calibrated.temperature(state, known) == pytest.approx(2, rel=1e-3)
    by_itself = calibrated.temperature(state, task.validation_episodes)
    ratio = state.parameters()["classifier.weight"] / own.parameters()["classifier.weight"]
    np.testing.assert_allclose(ratio.detach().numpy(), by_itself, rtol=1e-5)
    assert not calibrated.personalises
