"""``s3prl_metaperser.meta`` on models that are not this project's: exact, or an error that names what is not."""

from __future__ import annotations

import contextlib
import copy
import doctest
import importlib
import importlib.util
import re
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from s3prl_metaperser import meta
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.meta import batches, finite_differences, inner_loop, library

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "meta_gradients.md"
sys.path.append(str(ROOT / "benchmarks" / "gpu"))
others = importlib.import_module("others")  # one outer step by other packages


def cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def of_another(model):
    other = copy.deepcopy(model)
    return lambda model, batch: cross_entropy(other, batch)


def drawn(*shape, classes=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator), torch.randint(classes, shape[:1], generator=generator)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.layer(x)[0][:, -1])


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv2, self.norm2 = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        first = F.gelu(self.norm1(self.conv1(x)))
        return self.out(F.gelu(self.norm2(self.conv2(first)) + first).mean((2, 3)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)))


class TwoNames(nn.Module):
    """One module under two names, as the embeddings of T5 and BART."""

    def __init__(self):
        super().__init__()
        self.one = self.two = nn.Linear(3, 3)
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.two(torch.tanh(self.one(x)))))


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, activation="gelu", batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(32, 2))


def linear():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


MODELS = {
    "transformer with dropout": (transformer, (5, 4, 8)),
    "LSTM": (Recurrent, (5, 4, 3)),
    "residual network, batch norm in training mode": (Residual, (4, 1, 5, 5)),
    "tied weights": (Tied, (5, 3)),
    "one module under two names": (TwoNames, (5, 3)),
}


def made(build, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


@pytest.mark.parametrize("name", MODELS)
def test_the_outer_gradient_equals_finite_differences(name, capsys):
    build, shape = MODELS[name]
    model = made(build).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    result = meta.check(model, cross_entropy, drawn(*shape), drawn(*shape, seed=1), rate=0.2)
    assert result.passed, result.worst
    assert len(result.errors) == len(list(model.parameters())) + 1
    assert str(result) in capsys.readouterr().out
    meta.outer_gradient(model, drawn(*shape), None, cross_entropy, 0.1, steps=2)
    meta.adapt(model, drawn(*shape), cross_entropy, 0.1, steps=2)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def unrolled(model, inner, outer, rates, orders):
    """One graph through all steps, by another path: :mod:`inner_loop`, itself held against finite differences."""

    def loss(batch):
        return lambda theta: F.cross_entropy(torch.func.functional_call(model, theta, (batch[0],)), batch[1])

    theta = dict(model.named_parameters())
    for step, twice in enumerate(orders):
        theta = inner_loop.adapt(loss(inner[step]), theta, lambda _, s=step: rates.at(s), [twice])
    value = loss(outer)(theta)
    return value, torch.autograd.grad(value, [*model.parameters(), rates.values], materialize_grads=True)


@pytest.mark.parametrize("orders", [[True, True, True], [False, False, False], [False, True, True]], ids=str)
@pytest.mark.parametrize(
    "changed", [{}, {"micro_batch": 2}, {"keep": "cpu"}, {"micro_batch": 3, "keep_graphs": 1}], ids=str
)
def test_it_equals_the_unrolled_graph_with_another_batch_every_step(orders, changed):
    model = made(linear).double()
    inner = [(x.double(), y) for x, y in (drawn(5, 3, seed=seed) for seed in range(3))]
    outer = (drawn(7, 3, seed=9)[0].double(), drawn(7, 3, seed=9)[1])
    rates = meta.learned_rates(model, 3, 0.3)
    value, expected = unrolled(model, inner, outer, rates, orders)
    found = meta.outer_gradient(model, inner, outer, cross_entropy, rates, second_order=orders, **changed)
    assert found.loss == pytest.approx(value.item(), rel=1e-12)
    for ours, theirs in zip([*found.parameters.values(), found.rates], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


# ------------------------------------------------------------------ other packages


def squared(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def needed(package):
    if package in others.PEERS and not importlib.util.find_spec(package):
        pytest.skip(f"{package} is not installed")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # learn2learn
@pytest.mark.parametrize("engine", ["unrolled", *others.PEERS])
@pytest.mark.parametrize("name", others.MODELS)
def test_it_equals_other_packages_gradients_where_those_are_right(name, engine):
    needed(engine)
    model, inner, outer, loss = others.problem(name)
    rates = meta.learned_rates(model, 2, 0.05)
    theirs = {"unrolled": others.unrolled, **others.PEERS}[engine](copy.deepcopy(model), inner, outer, loss, rates)
    wrong = meta.prepare(model)  # the fused weight norm, which every graph differentiates wrongly
    ours = others.adjoint(model, inner, outer, loss, rates)
    theirs = dict(zip(ours, theirs.values(), strict=True))
    assert others.along(model, inner, outer, loss, rates, ours) < 1e-7
    if wrong and others.along(model, inner, outer, loss, rates, theirs) < 1e-7:
        pytest.skip(f"torch {torch.__version__} differentiates its own weight norm rightly")
    assert (others.apart(theirs, ours) < 1e-12) == (not wrong)


def test_the_example_of_learn2learns_readme_gives_the_weights_that_it_gives():
    needed("learn2learn")
    import learn2learn as l2l

    theirs, data = made(lambda: nn.Linear(1, 1)), (drawn(10, 1)[0], drawn(10, 1, seed=1)[0])
    ours, maml = copy.deepcopy(theirs), l2l.algorithms.MAML(theirs, lr=0.1)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (maml, ours)]
    for _ in range(10):
        for optimizer in optimizers:
            optimizer.zero_grad()
        task_model = maml.clone()
        task_model.adapt(squared(task_model, data))
        squared(task_model, data).backward()
        meta.outer_gradient(ours, data, data, squared, 0.1, steps=1).add_to(ours)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_bfloat16_copies_change_the_gradient_a_little_and_only_through_second_derivatives():
    model, batch = made(linear), drawn(8, 3)
    exact = meta.outer_gradient(model, batch, batch, cross_entropy, 0.5, steps=3)
    rounded = meta.outer_gradient(model, batch, batch, cross_entropy, 0.5, steps=3, keep="bfloat16")
    assert rounded.loss == exact.loss
    one, other = (torch.cat([g.flatten() for g in found.parameters.values()]) for found in (exact, rounded))
    assert 0 < (one - other).norm() / one.norm() < 1e-2


def test_gradients_add_up_over_tasks_as_one_loss_would():
    model, rates = made(linear), None
    rates = meta.learned_rates(model, 2, 0.1)
    tasks = [drawn(4, 3, seed=seed) for seed in range(3)]
    found = [meta.outer_gradient(model, task, None, cross_entropy, rates) for task in tasks]
    for outer in found:
        outer.add_to(model, rates, weight=1 / 3)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, sum(outer.parameters[name] for outer in found) / 3)
    torch.testing.assert_close(rates.values.grad, sum(outer.rates for outer in found) / 3)


def test_several_outer_losses_are_their_weighted_sum():
    model, inner = made(linear), drawn(4, 3)
    batches_ = [drawn(5, 3, seed=5), drawn(6, 3, seed=6)]
    terms = [meta.OuterTerm(batches_[0], cross_entropy, 0.7), meta.OuterTerm(batches_[1], cross_entropy, -0.2)]
    found = meta.outer_gradient(model, inner, terms, cross_entropy, 0.3, steps=2)
    alone = [meta.outer_gradient(model, inner, batch, cross_entropy, 0.3, steps=2) for batch in batches_]
    assert found.losses == pytest.approx([outer.loss for outer in alone])
    assert found.loss == pytest.approx(0.7 * alone[0].loss - 0.2 * alone[1].loss)
    for name, gradient in found.parameters.items():
        torch.testing.assert_close(gradient, 0.7 * alone[0].parameters[name] - 0.2 * alone[1].parameters[name])


def test_only_the_named_part_adapts_and_everything_gets_its_outer_gradient():
    model, batch = made(linear), drawn(6, 3)
    rates = meta.learned_rates(model, 2, 0.5, only="2.*")
    adapted = meta.adapt(model, batch, cross_entropy, rates)
    own = dict(model.named_parameters())
    assert [name for name in own if not torch.equal(own[name], adapted[name])] == ["2.weight", "2.bias"]
    assert all(
        g.abs().sum() > 0 for g in meta.outer_gradient(model, batch, batch, cross_entropy, rates).parameters.values()
    )
    model[0].weight.requires_grad_(False)
    found = meta.outer_gradient(model, batch, batch, cross_entropy, 0.1, steps=1)
    assert list(found.parameters) == ["0.bias", "2.weight", "2.bias"]


def test_first_order_is_the_gradient_at_the_adapted_parameters():
    model, batch, query = made(linear), drawn(6, 3), drawn(6, 3, seed=1)
    found = meta.outer_gradient(model, batch, query, cross_entropy, 0.5, steps=3, second_order=False)
    adapted = {n: v.requires_grad_() for n, v in meta.adapt(model, batch, cross_entropy, 0.5, steps=3).items()}
    loss = F.cross_entropy(torch.func.functional_call(model, adapted, (query[0],)), query[1])
    for ours, theirs in zip(found.parameters.values(), torch.autograd.grad(loss, list(adapted.values())), strict=True):
        torch.testing.assert_close(ours, theirs)


TWO_PROCESSES = """
import sys, torch
from s3prl_metaperser import meta
rank, folder, example = int(sys.argv[1]), sys.argv[2], sys.argv[3]
opened = torch.distributed.init_process_group
join = lambda backend: opened(backend, init_method="file://" + folder + "/meeting", rank=rank, world_size=2)
torch.distributed.init_process_group = join
given = torch.load(folder + "/given.pt")
model, tasks = torch.nn.Linear(3, 2), given["tasks"]
model.load_state_dict(given["model"])
rates = meta.learned_rates(model, 2, 0.1)
loss = lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
exec(example)
torch.save([*(p.grad for p in model.parameters()), rates.values.grad], f"{folder}/{rank}.pt")
from s3prl_metaperser import parallel
parallel.leave()
"""


def test_two_processes_with_their_own_tasks_have_the_gradient_of_one_with_all(tmp_path):
    """The page's five lines, under gloo."""
    (example,) = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    model, tasks = made(lambda: nn.Linear(3, 2)), [(drawn(5, 3, seed=n), drawn(5, 3, seed=n + 9)) for n in range(3)]
    rates = meta.learned_rates(model, 2, 0.1)
    for support, query in tasks:
        outer = meta.outer_gradient(model, support, query, cross_entropy, rates)
        outer.add_to(model, rates, weight=1 / len(tasks))
    torch.save({"model": model.state_dict(), "tasks": tasks}, tmp_path / "given.pt")
    command = [sys.executable, "-W", "ignore", "-c", TWO_PROCESSES]
    both = [subprocess.Popen([*command, str(rank), str(tmp_path), example]) for rank in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for one, other in zip(found, [*(p.grad for p in model.parameters()), rates.values.grad], strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("wrapper", ["DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"])
def test_wrapped_models_are_refused_by_name(wrapper):
    model = made(linear)
    model[0].__class__ = type("Wrapped", (type(wrapper, (), {}), nn.Linear), {})
    with pytest.raises(UserError, match=f"wrapped by {wrapper}.*all_reduce"):
        meta.outer_gradient(model, drawn(4, 3), None, cross_entropy, 0.1, steps=1)


def test_a_compiled_model_is_refused_for_second_order_alone():
    model, batch = made(linear), drawn(4, 3)
    model[0].__class__ = type(
        "OptimizedModule", (nn.Linear,), {}
    )  # what torch.compile makes; importing that takes long
    with pytest.raises(UserError, match=r"no second derivative.*second_order=False"):
        meta.outer_gradient(model, batch, None, cross_entropy, 0.1, steps=1)
    meta.outer_gradient(model, batch, None, cross_entropy, 0.1, steps=1, second_order=False)


class Checkpointed(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.first = kind, nn.Linear(3, 4)
        self.middle = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Dropout(0.3), nn.Linear(4, 4))
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        return self.out(checkpoint(self.middle, x, use_reentrant=False) if self.kind == "kept" else self.middle(x))


@pytest.mark.parametrize("changed", [{"second_order": False}, {}, {"micro_batch": 4, "keep_graphs": 3}], ids=str)
def test_a_checkpoint_runs_again_with_the_parameters_of_its_step(changed):
    plain, batch = made(lambda: Checkpointed("plain")), drawn(6, 3)
    kept = copy.deepcopy(plain)
    kept.kind = "kept"
    one, other = (meta.outer_gradient(m, batch, None, cross_entropy, 0.5, steps=3, **changed) for m in (plain, kept))
    for name, gradient in one.parameters.items():
        torch.testing.assert_close(other.parameters[name], gradient)


def test_autocast_around_a_call_keeps_no_step_alive():
    model, batch, seen, alive = made(linear), drawn(6, 3), {}, []

    def counting(model, batch):
        weight = model[0].weight
        seen[id(weight)] = weakref.ref(weight)
        alive.append(sum(known() is not None for known in seen.values()))
        return cross_entropy(model, batch)

    with torch.autocast("cpu", torch.bfloat16):
        meta.outer_gradient(model, batch, None, counting, 0.1, steps=4, micro_batch=2)
    assert max(alive) == 1


class Kinked(nn.Module):
    """What real models have and finite differences trip over: ReLU, a padded embedding, a loss in float32."""

    def __init__(self):
        super().__init__()
        self.words, self.inner, self.out = nn.Embedding(9, 8, padding_idx=0), nn.Linear(8, 400), nn.Linear(400, 2)

    def forward(self, x):
        return self.out(F.relu(self.inner(self.words(x)))).mean(1).float()


def test_kinks_padding_and_a_loss_in_float32_are_no_false_alarm():
    words = torch.randint(9, (6, 30), generator=torch.Generator().manual_seed(0))
    result = meta.check(made(Kinked), cross_entropy, (words, drawn(6, 3)[1]), rate=0.1, show=False)
    assert result.passed, result.worst


def test_rounding_of_a_loss_that_is_large_beside_its_gradient_is_no_false_alarm():
    def far(model, batch):
        return cross_entropy(model, batch) + 3e4

    result = meta.check(made(linear), far, drawn(6, 3), rate=0.1, show=False)
    assert result.passed, result.worst


# ------------------------------------------------------------------ what cannot be differentiated twice


class Once(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(context, gradient):
        return gradient * 3 * context.saved_tensors[0] ** 2


class Detached(Once):
    @staticmethod
    def backward(context, gradient):
        return gradient * 3 * context.saved_tensors[0].detach() ** 2


class Own(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


class InPlace(nn.Module):
    def forward(self, x):
        y = x.sigmoid()
        z = y * y
        y += 1
        return z + y


class Again(nn.Linear):
    def __init__(self):
        super().__init__(3, 3)

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=True)


def with_middle(module):
    return nn.Sequential(nn.Linear(3, 3), module, nn.Linear(3, 2))


def ctc(model, batch):
    frames = model(batch[0]).log_softmax(-1).unsqueeze(1)
    return F.ctc_loss(frames, torch.ones(1, 2, dtype=torch.long), torch.tensor([len(frames)]), torch.tensor([2]))


HOOKED = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


@pytest.mark.parametrize(
    ("build", "loss", "where", "what"),
    [
        (lambda: with_middle(Own(Once)), cross_entropy, "1", "once_differentiable"),
        (lambda: with_middle(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))), cross_entropy, "1", "prepare"),
        pytest.param(
            lambda: with_middle(nn.utils.weight_norm(nn.Linear(3, 3))), cross_entropy, "1", "prepare", marks=HOOKED
        ),
        (lambda: with_middle(InPlace()), cross_entropy, "the model", "in place"),
        (lambda: nn.Linear(3, 4), ctc, "the model", "CTC"),
        (lambda: with_middle(Again()), cross_entropy, "the model", "use_reentrant=False"),
        (lambda: nn.Sequential(Again(), nn.Linear(3, 2)), cross_entropy, "the model", "use_reentrant=False"),
    ],
    ids=["once", "weight norm", "weight norm, hook", "in place", "CTC", "checkpoint", "checkpoint that comes first"],
)
def test_what_has_no_right_second_derivative_is_named_before_training(build, loss, where, what):
    model, batch = made(build), drawn(6, 3)
    (finding,) = meta.not_twice(model, batch, loss)
    assert finding.where.startswith(where)
    assert what in str(finding)
    with pytest.raises(meta.NotTwice, match=what):
        meta.outer_gradient(model, batch, batch, loss, 0.1, steps=1)
    if what == "in place":  # has no first one either
        return
    refused = pytest.raises(meta.NotTwice, match=what) if "reentrant" in what else contextlib.nullcontext()
    for call in (
        lambda: meta.outer_gradient(model, batch, batch, loss, 0.1, steps=1, second_order=False),
        lambda: meta.adapt(model, batch, loss, 0.1, steps=1),
    ):
        with refused:
            call()
    if "reentrant" in what:  # anybody else's goes on as it was
        checkpoint(nn.Linear(3, 3), batch[0].clone().requires_grad_(), use_reentrant=True).sum().backward()


def test_weight_norm_is_right_once_it_is_prepared():
    model, batch = made(lambda: with_middle(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))), drawn(6, 3)
    assert meta.prepare(model) == 1
    assert meta.not_twice(model, batch, cross_entropy) == []
    assert meta.check(model, cross_entropy, batch, show=False).passed


def test_a_backward_that_is_wrong_twice_is_found_by_finite_differences_alone():
    model, batch = made(lambda: with_middle(Own(Detached))), drawn(6, 3)
    assert meta.not_twice(model, batch, cross_entropy) == []
    result = meta.check(model, cross_entropy, batch, show=False, rate=0.1)
    assert not result.passed
    assert "NOT exact" in str(result)
    assert result.worst[0] in ("0.weight", "0.bias")


def test_recurrent_layers_and_attention_run_by_kernels_that_have_second_derivatives():
    for build, shape in (MODELS["LSTM"], MODELS["transformer with dropout"]):
        model, batch = made(build), drawn(*shape)
        assert meta.not_twice(model, batch, cross_entropy) == []
        assert torch.backends.mkldnn.is_available() == torch._C._get_mkldnn_enabled()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, b: meta.outer_gradient(m, b, b, cross_entropy, 0.1), "How many inner steps"),
        (lambda m, b: meta.outer_gradient(m, [b, b], b, cross_entropy, 0.1, steps=3), "2 inner batches"),
        (lambda m, b: meta.outer_gradient(m, [], b, cross_entropy, 0.1), "empty list"),
        (lambda m, b: meta.outer_gradient(m, b, b, cross_entropy, 0.1, steps=2, second_order=[True]), "1 values for 2"),
        (lambda m, b: meta.outer_gradient(m, b, b, cross_entropy, 0.1, steps=1, micro_batch=0), "micro_batch is 0"),
        (
            lambda m, b: meta.outer_gradient(m, b, b, cross_entropy, 0.1, steps=1, keep="disk"),
            "device, cpu or bfloat16",
        ),
        (
            lambda m, b: meta.outer_gradient(m, (b[0][:0], b[1][:0]), b, cross_entropy, 0.1, steps=1, micro_batch=2),
            "no samples",
        ),
        (lambda m, b: meta.outer_gradient(m, (b[0], b[1][:2]), b, cross_entropy, 0.1, steps=1, micro_batch=2), "2, 6"),
        (lambda m, b: meta.outer_gradient(m, b, b, lambda m, b: m(b[0]), 0.1, steps=1), r"shape \[6, 2\]"),
        (lambda m, b: meta.adapt(m, b, lambda m, b: 1.0, 0.1, steps=1), "returned float"),
        (lambda m, b: meta.adapt(m, b, lambda m, b: m(b[0]).mean().detach(), 0.1, steps=1), "does not depend on"),
        (lambda m, b: meta.adapt(m, b, of_another(m), 0.1, steps=1), "another model"),
        (lambda m, b: meta.adapt(nn.Embedding(3, 2, max_norm=1), b, cross_entropy, 0.1, steps=1), "max_norm"),
        (lambda m, b: meta.adapt(nn.Embedding(3, 2, sparse=True), b, cross_entropy, 0.1, steps=1), "sparse=True"),
        (lambda m, b: meta.adapt(m, b, cross_entropy, meta.learned_rates(made(Tied), 1, 0.1)), "a rate for one.weight"),
        (lambda m, b: meta.outer_gradient(m, b, b, cross_entropy, 0.1, steps=1, keep_graphs=-1), "keep_graphs is -1"),
        (lambda m, b: meta.learned_rates(m, 2, 0.1, only="head.*"), r"'head\.\*'.*0\.weight"),
        (lambda m, b: meta.outer_gradient(made(Residual), b, b, cross_entropy, 0.1, steps=1, micro_batch=2), "norm1"),
        (
            lambda m, b: meta.outer_gradient(m.requires_grad_(False), b, b, cross_entropy, 0.1, steps=1),
            "requires a gradient",
        ),
        (
            lambda m, b: meta.adapt(m, (b[0] * float("inf"), b[1]), cross_entropy, 0.1, steps=3),
            "NaN or infinite at inner step 1",
        ),
    ],
    ids=range(20),
)
def test_wrong_use_is_one_error_in_words(call, message):
    with pytest.raises(UserError, match=message):
        call(made(linear), drawn(6, 3))


def test_the_examples_of_the_docstrings_and_of_the_page_run():
    for module in (batches, library, finite_differences):
        assert doctest.testmod(module).failed == 0
    scope = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        with torch.random.fork_rng():
            exec(compile(code, str(PAGE), "exec"), scope)
    assert scope["logits"].shape == (16, 5)
    assert scope["result"].passed
    assert scope["outer"].loss > 0
