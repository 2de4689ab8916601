"""A model folder as a working model: the system, its state and its inputs, exactly as in meta-testing."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from s3prl_metaperser.corpora.label_set import Answer
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.listener.card import Card
from s3prl_metaperser.listener.folder import CARD, HEARD, MEAN, PRIORS, RATES, SCALE, ModelFolder
from s3prl_metaperser.listener.labels import ListenerLabels, decided
from s3prl_metaperser.listener.upstream import find_upstream
from s3prl_metaperser.meta.adjoint import NonFinite
from s3prl_metaperser.methods import systems
from s3prl_metaperser.methods.base import ModelState, Predictor, Support, System, TrainingTask, new_head
from s3prl_metaperser.methods.chosen import Chosen, ways
from s3prl_metaperser.methods.similarity import CENTRES
from s3prl_metaperser.protocol.loader import LabelTable
from s3prl_metaperser.storage.hashing import tensor_hash
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.heard import NEARER, Heard
from s3prl_metaperser.upstream.inputs import PooledInputs, WaveInputs
from s3prl_metaperser.upstream.store import RECIPE, FeatureIdentity

#: Of other speakers' clips in the training's own way of recording some in a hundred are unlike it, and more where it
#: had few speakers (benchmarks/unlike_clips.py).
_EXPECTED = 0.1


def said_of_unlike(count: int, total: int) -> list[str]:
    """What to say where so many of all clips are unlike those of the training; nothing where that is to be expected."""
    if count <= _EXPECTED * total:
        return []
    return [
        f"Unlike the speech that this model was trained on: {count} of {total} clips, which are farther from its mean "
        f"features than {NEARER} in 100 of its own. Do not rely on what it predicts of such clips, unless labels of "
        "some bear it out."
    ]


class LoadedModel:
    """What recognisers adapted from one model share; nothing in it changes after it is made.

    Args:
        folder: a model's or a listener's.
        ckpt: weights of the upstream, where needed.
        model_config: configuration of the upstream, where needed.
        device: where to compute.

    Attributes:
        card: the folder's.
        label_set: what listeners may answer.
        classes: its C names, the order of every array with a class axis.
        finetuned: whether the upstream adapts, too.
        heard: by what a clip is known that is unlike those of the training; None with -f, and in models of 0.2.0 and
            earlier.
        predictor: predicts without further adaptation: the model's initialisation, or the adapted listener.

    Raises:
        UserError: the upstream's weights are missing or not those of the card, the card does not fit its tensors, or
            there is no such device.
    """

    def __init__(
        self, folder: ModelFolder, ckpt: str | None = None, model_config: str | None = None, device: str = "cpu"
    ):
        self.card: Card = folder.card
        self.where = str(folder.path / CARD)
        _check_device(device)
        self.device, self.lock = device, threading.RLock()
        self.label_set, self.classes = self.card.label_set, self.card.classes
        self.finetuned = self.card.scope == "finetuned"
        self.options = self.card.in_force(self.where)
        build = find_upstream(self.card, str(folder.path), ckpt, model_config, device)
        weights = torch.tensor(self.card.adaptation.class_weights, dtype=torch.float32, device=device)
        self.system = systems(self.finetuned).get(self.card.system)(self.options, weights)
        self.state = self.system.blank(self._task(build, weights)).to(device)
        self.inputs = self._inputs(build, folder.tensors)
        priors, heard = (_named(folder.tensors, before) for before in (PRIORS, HEARD))
        self.state.priors.update(priors)
        self.heard = Heard.from_tensors(heard)
        tensors = {n: v for n, v in folder.tensors.items() if not n.startswith((PRIORS, HEARD))}
        parameters = {n: v for n, v in tensors.items() if n not in (RATES, MEAN, SCALE)}
        if self.card.kind == "listener":
            self.predictor: Predictor = {name: value.to(device) for name, value in parameters.items()}
        else:
            _fill(self.state, self.card.parameters, parameters, folder.tensors.get(RATES), self.where)
            self.predictor = self.system.unadapted(self.state)

    @property
    def preprocessing(self) -> dict[str, Tensor]:
        """What is known of pooled features, under its names in a folder; nothing with a fine-tuned upstream."""
        if not isinstance(self.inputs, PooledInputs):
            return {}
        heard = {} if self.heard is None else self.heard.as_tensors()
        return {MEAN: self.inputs.mean, SCALE: self.inputs.scale, **{f"{HEARD}{n}": v for n, v in heard.items()}}

    def items(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Waveforms, each float32 [n] at 16 kHz, to the model's inputs: features [L, D], or with -f the waveforms."""
        with self.lock:  # exact batching works on the upstream itself
            return self.inputs.each(waves)

    def unlike(self, items: Sequence[Tensor]) -> np.ndarray:
        """Which of N inputs (:meth:`items`) are of clips unlike those of the training, bool [N]; none where unknown."""
        if self.heard is None or not len(items):
            return np.zeros(len(items), dtype=bool)
        return self.heard.unlike(torch.stack(list(items))).numpy()

    def targets(self, labels: ListenerLabels) -> Tensor:
        """Smoothed label distributions of K clips, float32 [K, C]."""
        rows = self.label_set.target(labels.counts, self.card.adaptation.smoothing)
        return torch.from_numpy(rows.astype(np.float32)).to(self.device)

    def decided(self, probabilities: np.ndarray) -> list[Answer]:
        """The answer that each row of probabilities [N, C] stands for, see :func:`.labels.decided`."""
        return decided(self.label_set, probabilities, self.card.adaptation.smoothing)

    @functools.cached_property
    def ways(self) -> dict[str, System]:
        """The ways to adapt to a listener, by name: zero-shot first, the model's own system last."""
        own = self.system.base if isinstance(self.system, Chosen) else self.system
        return ways(own, self.label_set.kind)

    def way(self, name: str) -> System:
        """The way to adapt of this name.

        Raises:
            UserError: there is none; the message has all.
        """
        if name not in self.ways:
            raise unknown_name("way to adapt", name, self.ways)
        return self.ways[name]

    def adapt(
        self, supports: Sequence[tuple[Sequence[Tensor], Tensor]], seed: int = 0, system: System | None = None
    ) -> list[Predictor]:
        """Adapt the initialisation to each of several sets of K clips, all of one K.

        Args:
            supports: inputs of K clips (:meth:`items`) and their targets [K, C].
            seed: for systems that draw.
            system: one of :attr:`ways`; by default the model's own.

        Raises:
            UserError: adaptation diverges.
        """
        episodes = [Support(self.inputs.together(items), targets, seed) for items, targets in supports]
        adapting, found = system or self.system, list[Predictor]()
        size = adapting.episodes_at_once
        with self._guarded(), torch.enable_grad():
            try:
                for start in range(0, len(episodes), size):
                    found += adapting.adapt_many(self.state, episodes[start : start + size])
            except NonFinite as error:
                raise UserError(f"Adaptation to these clips diverges: {error}") from None
        for predictor in found:
            if any(not torch.isfinite(value).all() for name, value in predictor.items() if name != CENTRES):
                raise UserError("Adaptation to these clips diverges: the result is NaN. Check the labels, add clips.")
        return found

    def predict(self, predictor: Predictor, items: Sequence[Tensor], system: System | None = None) -> np.ndarray:
        """Probabilities, float32 [N, C], of N inputs (:meth:`items`), by what ``system`` has adapted."""
        with self._guarded():
            return (system or self.system).predict(self.state, predictor, self.inputs.together(items))

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """What surrounds adaptation and prediction.

        With -f one thread at a time: a functional call puts its parameters into the shared model meanwhile. Otherwise
        any number of callers, but torch on one thread for each: the head's products are so small that several threads
        mostly wait for each other (on a busy machine for a second), and would round another way than the benchmark.
        """
        if self.finetuned:
            with self.lock:
                yield
            return
        before = torch.get_num_threads()  # the calling thread's own
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _inputs(self, build: Callable[[], nn.Module], tensors: dict[str, Tensor]) -> PooledInputs | WaveInputs:
        if self.finetuned:
            return WaveInputs(self.options.downstream_expert.tunerc.longest_seconds, self.device)
        said = self.card.upstream
        if said.recipe != RECIPE:
            raise UserError(
                f"{self.where}: its features were made by recipe {said.recipe}, this version's recipe is {RECIPE}. "
                "Use the version of s3prl_metaperser that exported it, or train again."
            )
        identity = FeatureIdentity(
            said.name,
            said.checkpoint,
            said.selection,
            said.normalize,
            said.dtype,
            precision=said.precision,
            pooling=self.options.downstream_expert.modelrc.pooling,
        )
        return PooledInputs(build, identity, said.layer, tensors[MEAN], tensors[SCALE], self.device)

    def _task(self, build: Callable[[], nn.Module], weights: Tensor) -> TrainingTask:
        """A task without data: what :meth:`.System.blank` needs to know of shapes."""
        said, nothing = self.card.upstream, LabelTable.from_ratings((), {}, self.label_set, 0.0)
        shape = said.layers, said.features
        return TrainingTask(
            features=torch.empty(0, *shape),
            label_set=self.label_set,
            raters={str(number): nothing for number in range(self.card.training.train_raters)},
            consensus=nothing,
            class_weights=weights,
            validation=nothing,
            validation_episodes=(),
            options=self.options,
            seed=0,
            cache=Path(),
            identity="",
            model=self._tuned_model(build, shape) if self.finetuned else None,
        )

    def _tuned_model(self, build: Callable[[], nn.Module], shape: tuple[int, int]) -> FineTunedModel:
        said, tunerc = self.card.upstream, self.options.downstream_expert.tunerc
        head = new_head(self.options, *shape, len(self.classes), "blank").to(self.device)
        upstream = build()
        how = (said.selection, said.layer, said.normalize, self.options.downstream_expert.modelrc.pooling)
        model = FineTunedModel(upstream, head, tunerc, *how)
        adapted = set(self.card.parameters)
        rest = {n: v for n, v in upstream.state_dict().items() if f"upstream.{n}" not in adapted}
        if (found := tensor_hash(rest)) != said.not_adapted:
            raise UserError(
                f"{self.where}: the tensors of the upstream that do not adapt have hash {said.not_adapted}, here "
                f"{said.name} has {found}. It was trained from other weights (-i?) than its card names."
            )
        return model


def _named(tensors: dict[str, Tensor], before: str) -> dict[str, Tensor]:
    return {name.removeprefix(before): value for name, value in tensors.items() if name.startswith(before)}


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
        why = str(error).splitlines()[0]
        raise UserError(f"The device {device!r} cannot be used here ({why}). Leave it out for the CPU.") from None


def _fill(state: ModelState, names: Sequence[str], values: dict[str, Tensor], rates: Tensor | None, where: str) -> None:
    """Copy tensors into a blank state.

    Raises:
        UserError: names or shapes differ from what the options make.
    """
    own = state.parameters()
    wrong = None if tuple(own) == tuple(names) and own.keys() == values.keys() else "the names of its parameters"
    if wrong is None:
        wrong = next((f"the shape of {n}" for n, p in own.items() if p.shape != values[n].shape), None)
    if wrong is None and state.rates is not None:
        fits = rates is not None and rates.shape == state.rates.values.shape and set(state.rates.names) <= set(names)
        wrong = None if fits else "its inner rates"
    if wrong is not None:
        raise UserError(f"{where} does not fit its tensors: {wrong}. Export the model again with this version.")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(values[name])
        if state.rates is not None and rates is not None:
            state.rates.values.copy_(rates)
