"""Shapes of the numerical core, checked by jaxtyping while it computes: letters as in the docstrings.

A raters or episodes, K support, Q query, N utterances, L layers, D features, H projector, C classes, T frames. The
package itself carries no such annotations and needs neither jaxtyping nor beartype; here they are put on from outside.
"""

import functools
import importlib
import inspect
import sys
import types

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, Int, TypeCheckError, jaxtyped
from test_more_systems import checkpoint, finetuned  # noqa: F401 (checkpoint is a fixture)
from test_systems import make, trained  # noqa: F401 (make is a fixture)
from torch import Tensor

from s3prl_metaperser.evaluation.meta_testing import meta_test
from s3prl_metaperser.methods import SYSTEMS
from s3prl_metaperser.protocol.loss import weighted_targets
from s3prl_metaperser.s3prl_plugin import launcher

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")

PACKAGE = "s3prl_metaperser"
META = ("Meta-PerSER", "Meta-PerSER:none")


def f(shape: str, kind=Tensor):
    return Float[kind, shape]


def a(shape: str):
    return f(shape, np.ndarray)


def i(shape: str):
    return Int[Tensor, shape]


#: Module:function or class's method -> argument (or ``return``) -> its shape.
FROZEN = {
    "protocol.loss:class_balanced_weights": {"targets": a("N C"), "return": a("C")},
    "protocol.loss:weighted_targets": {"targets": f("*b C"), "class_weights": f("C"), "return": f("*b C")},
    "protocol.loss:soft_cross_entropy": {"logits": f("*b K C"), "weighted": f("*b K C"), "return": f("*b")},
    "protocol.loss:class_balanced_loss": {"probabilities": a("Q C"), "targets": a("Q C"), "weights": a("C")},
    "meta.model:pooled_logits": {"pooled": f("*b K L D"), "return": f("*b K C")},
    "meta.closed_form:gathered": {"features": f("N L D"), "rows": i("A K"), "return": f("A L K*D")},
    "meta.closed_form:outer_loss": {"features": f("A L KD"), "targets": f("A K C"), "return": f("")},
    "meta.closed_form:adapt_to_predict": {"features": f("A L KD"), "targets": f("A K C")},
    "meta.closed_form_adapt:adapted": {"rates": f("S 5"), "return": tuple[f("A L"), f("A C D"), f("A C")]},
    "meta.closed_form_reverse:reverse": {"rates": f("S 5")},
    "meta.closed_form_steps:inner_step": {"rate": f("5")},
    "meta.closed_form_steps:multiplied_out": {"return": tuple[f("A L"), f("A C D"), f("A C")]},
    "meta.closed_form_steps:through_softmax": {"shares": f("A L"), "values": f("A L"), "return": f("A L")},
    "meta.closed_form_steps:times_projector": {"rows": f("A C H"), "projector": f("... H D"), "return": f("A C D")},
    "meta.closed_form_steps:times_projector_transposed": {
        "rows": f("A C D"),
        "projector": f("... H D"),
        "return": f("A C H"),
    },
    "meta.closed_form_steps:Samples.__init__": {"features": f("A L KD"), "targets": f("A K C")},
    "meta.closed_form_steps:Samples.mixed": {"shares": f("A L"), "return": f("A K D")},
    "meta.closed_form_steps:Samples.by_layer": {"values": f("A K D"), "return": f("A L")},
    "meta.closed_form_steps:Theta.__init__": {
        "mixing": f("A L"),
        "projector": f("... H D"),
        "bias": f("A H"),
        "classifier": f("A C H"),
        "classifier_bias": f("A C"),
        "ups": f("A rows H"),
        "downs": f("A rows D"),
    },
    "meta.closed_form_steps:Pass.__init__": {
        "shares": f("A L"),
        "mixed": f("A K D"),
        "combined": f("A C D"),
        "between": f("A C sC"),
        "log_probabilities": f("A C K"),
        "probabilities": f("A C K"),
    },
    "meta.closed_form_steps:Gradient.__init__": {
        "mixing": f("A L"),
        "down": f("A C D"),
        "bias": f("A H"),
        "classifier": f("A C H"),
        "classifier_bias": f("A C"),
    },
    "methods.learner:Learner.embed": {"return": f("K H")},
    "methods.learner:Learner.probabilities": {"return": a("K C")},
    "methods.random_logits:random_probabilities": {"logits": a("Q C"), "return": a("Q C")},
    "methods.similarity:class_centres": {"hidden": f("K H"), "targets": f("K C"), "return": f("C H")},
    "methods.similarity:similarity_probabilities": {"hidden": f("Q H"), "centres": f("C H"), "return": f("Q C")},
    "methods.multi_few:own_samples": {"return": tuple[i("A n"), f("A n C")]},
    "methods.multi_few:learned_classifiers": {"hidden": f("A K H"), "class_weights": f("C")},
}
FINE_TUNED = {
    "meta.micro_gradients:dot": {"one": f("*same"), "other": f("*same"), "return": f("")},
    "methods.learner:EntireLearner.logits": {"inputs": list[f("_")], "return": f("K C")},
    "upstream.batching:hidden_states": {"wavs": list[f("_")], "return": list[f("L _ D")]},
    "upstream.batching:_as_featurizer_keeps": {"states": f("L _ D"), "return": f("L _ D")},
    "upstream.finetuning:FineTunedModel.embed": {"wavs": list[f("_")], "return": f("K L D")},
    "upstream.finetuning:FineTunedModel.forward": {"wavs": list[f("_")], "return": f("K C")},
    "upstream.finetuning:FineTunedModel._pooled": {"frames": f("L T D"), "return": f("M D")},
    "upstream.micro_batches:micro_losses": {"wavs": list[f("_")], "weighted_targets": f("K C")},
}
POOLING = {"upstream.pooling:pool_waveforms": {"waves": list[f("_")], "return": list[f("L D")]}}


def checked(function, annotations, called):
    """``function`` with these annotations, which are checked at every call; other arguments are not."""
    unknown = annotations.keys() - {*inspect.signature(function).parameters, "return"}
    assert not unknown, f"{function.__qualname__} has no {unknown}"
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, annotations
    typed = jaxtyped(typechecker=beartype)(copy)

    @functools.wraps(function)
    def wrapper(*arguments, **keywords):
        called.add(function.__qualname__)
        return typed(*arguments, **keywords)

    return wrapper


@pytest.fixture
def check(monkeypatch):
    """Put a table's checks in force, wherever a function has been imported to; returns the names that were called."""

    def put(table):
        called: set[str] = set()
        for place, annotations in table.items():
            module, _, path = place.partition(":")
            owner = importlib.import_module(f"{PACKAGE}.{module}")
            *classes, name = path.split(".")
            for one in classes:
                owner = getattr(owner, one)
            original = vars(owner)[name]
            wrapper = checked(original, annotations, called)
            if classes:
                monkeypatch.setattr(owner, name, wrapper)
                continue
            for known in [m for n, m in list(sys.modules.items()) if n.split(".")[0] == PACKAGE and m]:
                for alias in [alias for alias, value in vars(known).items() if value is original]:
                    monkeypatch.setattr(known, alias, wrapper)
        return called

    return put


def names(table):
    return {place.partition(":")[2] for place in table}


def test_shapes_hold_while_every_frozen_system_trains_and_is_meta_tested(make, check):  # noqa: F811
    called = check(FROZEN)
    few = {"evalrc__shots": 2}  # so few samples are adapted to another way
    for change, systems in (({}, SYSTEMS.names()), ({"metarc__engine": "loop"}, META), (few, META)):
        workspace, prepared, task = make(**change)
        episodes = workspace.episode_data(workspace.episodes("test"), prepared, "test")
        for name in systems:
            system, state, _ = trained(name, task)
            meta_test(system, state, episodes, support_loss=True)
    assert called == names(FROZEN), "each of these was computed"


def test_shapes_hold_while_a_whole_model_trains_and_is_meta_tested(tmp_path, checkpoint, check):  # noqa: F811
    called = check(FINE_TUNED)
    folder = tmp_path / "exp"
    assert launcher.main(finetuned(folder, checkpoint, "Meta-PerSER")) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    assert called == names(FINE_TUNED), "each of these was computed"


def test_shapes_hold_while_features_are_pooled(check):
    from s3prl_metaperser.s3prl_stack.hub import build_upstream
    from s3prl_metaperser.upstream import pooling

    called = check(POOLING)
    waves = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (8000, 12000)]
    one, other = pooling.pool_waveforms(build_upstream("fbank_no_cmvn"), waves)
    assert one.shape == other.shape
    assert called == names(POOLING)


@pytest.mark.parametrize(
    "arguments",
    [(torch.rand(4, 9), torch.rand(8)), (torch.rand(9), torch.rand(9, 1)), (np.ones((4, 9)), torch.rand(9))],
)
def test_another_shape_or_type_is_found(arguments):
    typed = checked(weighted_targets, FROZEN["protocol.loss:weighted_targets"], set())
    typed(torch.rand(4, 9), torch.rand(9))
    with pytest.raises(TypeCheckError):
        typed(*arguments)
