"""An exported model or an adapted listener as ONNX graphs: from features to answers, and where possible from sound.

``head.onnx`` is everything behind the upstream: one matrix, since layer weights, standardisation, projector and
classifier are all linear, and behind it what a listener's outputs are adapted by. ``upstream.onnx`` makes its features
of a waveform: log-mel filterbanks, whose frames are one convolution each, are written down here; Whisper's encoder
is exported by torch. What was written is run and compared with the model before it is kept.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from s3prl_metaperser.corpora.audio import RATE
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.exchange.publishing import Form, Told
from s3prl_metaperser.listener.folder import CARD
from s3prl_metaperser.listener.model import LoadedModel
from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer
from s3prl_metaperser.methods.base import ModelState, Predictor, System
from s3prl_metaperser.methods.level_outputs import Line
from s3prl_metaperser.methods.map_fit import SMALLEST
from s3prl_metaperser.methods.output_only import Output, OutputOnly
from s3prl_metaperser.s3prl_stack.hub import bundled_configs
from s3prl_metaperser.storage.atomic import write_json
from s3prl_metaperser.storage.disk import new_folder, writing
from s3prl_metaperser.upstream.inputs import PooledInputs
from s3prl_metaperser.upstream.whisper import UpstreamExpert as Whisper

HEAD, UPSTREAM, ANSWERS = "head.onnx", "upstream.onnx", "answers.json"
OPSET = 18
#: How far a probability may be from the model's.
TOLERANCE = 1e-4
#: Samples of the clips that are compared.
_LENGTHS = (8_000, 16_160, 33_333)
_KALDI = {
    "feat_type": "fbank",
    "fbank": {"num_mel_bins": 80, "frame_length": 25.0, "frame_shift": 10.0, "use_log_fbank": True},
}


def write(source: Path, out: Path, told: Told) -> list[str]:
    """Write the graphs of a model or listener folder.

    Raises:
        UserError: the package onnx is missing, the whole model adapts, what predicts is no single head, or a graph
            gives something else than the model.
    """
    _check_installed()
    import onnx

    recognizer = PersonalizedEmotionRecognizer.load(
        source, upstream_ckpt=told.options.get("ckpt"), upstream_model_config=told.options.get("model_config")
    )
    model = recognizer.model
    head = _head(recognizer, source)
    with writing(out), new_folder(out) as partial:
        onnx.save(head, str(partial / HEAD))
        upstream, why = _upstream(model, partial / UPSTREAM)
        _check(recognizer, partial, upstream)
        write_json(partial / ANSWERS, _answers(model))
        os.chmod(partial, 0o755)
        if out.is_dir():
            out.rmdir()
        os.rename(partial, out)
    said = [f"{out / HEAD}: features [clips, layers, size] -> probabilities, equal to the model's within {TOLERANCE:g}"]
    said.append(
        f"{out / UPSTREAM}: a waveform at {RATE} Hz -> features, compared, too" if upstream else f"no {UPSTREAM}: {why}"
    )
    return [*said, f"{out / ANSWERS}: what the probabilities are of, and how they become an answer"]


FORM = Form("model", write)


def _check_installed() -> None:
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"ONNX files need the package {error.name!r}. Type: pip install 's3prl-metaperser[onnx]'"
        ) from None
    del onnx


def _head(recognizer: PersonalizedEmotionRecognizer, source: Path) -> Any:
    """What features [N, L, D] go through: one matrix, then what is fitted behind it.

    Raises:
        UserError: the whole model adapts, or there is no single head.
    """
    model, system = recognizer.model, recognizer.system
    if not isinstance(model.inputs, PooledInputs):
        raise UserError(f"{source}: the whole model adapts (-f); only models on a frozen upstream become ONNX here.")
    parts = _parts(system, model.state, recognizer.predictor)
    if parts is None:
        raise UserError(
            f"{source}: {system.name} predicts by more than one linear head and what is fitted behind it, which {HEAD} "
            f"is. Adapt with another way (metaperser adapt --system), such as {next(iter(model.ways))}."
        )
    part = {name: value.detach().double().cpu() for name, value in parts[0].items()}
    mixing = torch.softmax(part["weights"], 0)
    product = part["classifier.weight"] @ part["projector.weight"]  # [C, D]
    weight = torch.einsum("l,cd->ldc", mixing, product) / model.inputs.scale.double()[..., None]
    bias = part["classifier.weight"] @ part["projector.bias"] + part["classifier.bias"]
    bias = bias - torch.einsum("ldc,ld->c", weight, model.inputs.mean.double().expand(weight.shape[:2]))
    graph = _Graph("features", ["clips", *weight.shape[:2]])
    found = graph.add("Softmax", graph.add("Gemm", graph.add("Flatten", "features"), weight.flatten(0, 1), bias))
    for change in parts[1]:
        found = change(graph, found)
    return graph.model(found, "probabilities", ["clips", len(bias)])


#: Adds nodes that change probabilities to a graph; takes and gives the name of a value.
_Change = Callable[["_Graph", str], str]


def _parts(system: System, state: ModelState, predictor: Predictor) -> tuple[Predictor, list[_Change]] | None:
    """One linear head, and what changes its probabilities; None where that is not all."""
    head = system.as_one_head(state, predictor)
    if system.is_one_head(state, head):
        return head, []
    if not isinstance(system, OutputOnly) or (below := _parts(system.base, state, system.below(predictor))) is None:
        return None
    classes = len(system.class_weights)
    found = [_change(output, parameters, classes) for output, parameters in system.fitted(predictor)]
    if (temperature := system.options.downstream_expert.outputrc.temperature) != 1:
        found.append(functools.partial(_mixed, torch.eye(classes) / temperature, torch.zeros(classes)))
    changes = [change for change in found if change is not None]
    return (below[0], [*below[1], *changes]) if len(changes) == len(found) else None


def _change(output: Output, parameters: Tensor, classes: int) -> _Change | None:
    if (linear := output.as_linear(parameters, classes)) is not None:
        return functools.partial(_mixed, *linear)
    if (table := output.as_table(parameters, classes)) is not None:
        return lambda graph, given: graph.add("MatMul", given, table)
    return functools.partial(_moved, *output.moves(parameters), classes) if isinstance(output, Line) else None


def _logs(graph: _Graph, given: str) -> str:
    return graph.add("Log", graph.add("Max", given, torch.tensor(SMALLEST)))


def _mixed(matrix: Tensor, offset: Tensor, graph: _Graph, given: str) -> str:
    """softmax(M log p + b)."""
    return graph.add("Softmax", graph.add("Gemm", _logs(graph, given), matrix.T, offset))


def _moved(shift: Tensor, stretch: Tensor, classes: int, graph: _Graph, given: str) -> str:
    """As :func:`.along_the_scale`, with sums and differences along the scale as products with tables."""
    upto = torch.ones(classes, classes).triu()[:, :-1]  # what lies at a level or below
    below, above = (_logs(graph, graph.add("MatMul", given, table)) for table in (upto, 1 - upto))
    logits = graph.add("Sub", graph.add("Mul", graph.add("Sub", below, above), stretch), shift)
    steps = torch.eye(classes)[:-1] - torch.eye(classes)[1:]
    return graph.add("Gemm", graph.add("Sigmoid", logits), steps, torch.eye(classes)[-1])


class _Graph:
    """An ONNX graph as it grows: operators of one result each.

    Args:
        name, shape: of its input, float32.
    """

    def __init__(self, name: str, shape: list[Any]):
        self._input, self._nodes, self._constants = (name, shape), list[Any](), list[Any]()

    def add(self, operator: str, *given: str | np.ndarray | Tensor, **how: Any) -> str:
        """The name of what an operator gives; tensors become float32 constants, arrays stay of their type."""
        from onnx import helper, numpy_helper

        names = []
        for each in given:
            if not isinstance(each, str):
                value = each.detach().float().contiguous().numpy() if isinstance(each, Tensor) else each
                self._constants.append(numpy_helper.from_array(value, f"constant{len(self._constants)}"))
                each = self._constants[-1].name
            names.append(each)
        made = f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, names, [made], **how))
        return made

    def model(self, found: str, name: str, shape: list[Any]) -> Any:
        """The whole, checked: ``found`` is its output, under this name."""
        import onnx
        from onnx import TensorProto, helper

        nodes = [*self._nodes, helper.make_node("Identity", [found], [name])]
        given, made = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (self._input, (name, shape)))
        graph = helper.make_graph(nodes, "s3prl_metaperser", [given], [made], self._constants)
        whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(whole)
        return whole


# ------------------------------------------------------------------ the upstream


def _upstream(model: LoadedModel, path: Path) -> tuple[bool, str]:
    """Whether the upstream's graph was written, and why not."""
    import onnx

    assert isinstance(model.inputs, PooledInputs)
    identity, upstream = model.inputs.identity, model.inputs.upstream
    if identity.pooling != "mean" or identity.normalize or identity.selection != "hidden_states":
        return False, "only time means of unnormalised hidden states are exported"
    if isinstance(upstream, Whisper) and not upstream.pad:
        _export(_WhisperMeans(upstream, model.inputs.layer), path)
        return True, ""
    filterbank = _filterbank_of(identity.upstream)
    if filterbank is not None:
        onnx.save(filterbank, str(path))
        return True, ""
    return (
        False,
        f"-u {identity.upstream} is not exported; run it with metaperser or s3prl, and {HEAD} on its time means",
    )


class _WhisperMeans(nn.Module):
    """A waveform [n] of at most 30 s to the time mean of each hidden state, [L, D]."""

    def __init__(self, upstream: Whisper, layer: int | None):
        super().__init__()
        self.encoder, self.layer = upstream.model, layer

    def forward(self, wave: Tensor) -> Tensor:
        means = torch.stack([state[0].mean(0) for state in self.encoder(wave)])
        return means if self.layer is None else means[self.layer : self.layer + 1]


def _export(module: nn.Module, path: Path) -> None:
    """torch's own export, for clips of any length that the encoder takes at once."""
    longest = 320 * len(module.encoder.encoder.positions)  # type: ignore[union-attr, arg-type, operator]
    samples = torch.export.Dim("samples", min=1_000, max=longest - 1)
    program = torch.onnx.export(
        module.eval(),
        (torch.zeros(min(16_000, longest // 2)),),
        None,
        dynamo=True,
        dynamic_shapes={"wave": {0: samples}},
        input_names=["wave"],
        output_names=["features"],
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    program.save(str(path))


def _filterbank_of(name: str) -> Any | None:
    """Log-mel filterbanks with deltas, as s3prl computes them with Kaldi's defaults; None for any other upstream."""
    configs = bundled_configs(name)
    content = yaml.safe_load(configs[0].read_text(encoding="utf-8")) if configs else {}
    delta = content.get("delta") or {}
    if content.get("kaldi") != _KALDI or (content.get("cmvn") or {}).get("use_cmvn") is not False:
        return None
    return _filterbank(delta.get("order", 0), delta.get("win_length", 5))


def _filterbank(order: int, window: int) -> Any:
    """80 log-mel bands of 25 ms every 10 ms, their deltas, and the time mean of each: [n] to [1, 80 (order + 1)]."""
    reach = window // 2
    slope = np.tile(np.arange(-reach, reach + 1) / (reach * (reach + 1) * (2 * reach + 1) / 3), (80, 1, 1))
    graph = _Graph("wave", ["samples"])
    sound = graph.add("Reshape", "wave", np.array([1, 1, -1]))
    spectrum = graph.add("Conv", sound, _frame_kernels(), strides=[160])
    energies = graph.add("MatMul", _mel_bands(), graph.add("Mul", spectrum, spectrum))  # of both parts of each bin
    levels = [graph.add("Log", graph.add("Max", energies, torch.tensor(torch.finfo(torch.float32).eps)))]
    for _ in range(order):
        padded = graph.add("Pad", levels[-1], np.array([0, 0, reach, 0, 0, reach]), mode="edge")
        levels.append(graph.add("Conv", padded, slope.astype(np.float32), group=80))
    means = graph.add("ReduceMean", graph.add("Concat", *levels, axis=1), np.array([2]), keepdims=0)
    return graph.model(means, "features", [1, 80 * (order + 1)])


def _frame_kernels() -> np.ndarray:
    """What a frame of 400 samples goes through up to its spectrum, as one convolution, float32 [2 x 257, 1, 400]: its
    mean taken off, 0.97 of each sample taken off the next, Povey's window, real and imaginary parts of 512 bins."""
    frame = np.eye(400) - 1 / 400
    frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
    povey = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    spectrum = np.fft.rfft(povey[:, None] * frame, 512, axis=0)
    return np.concatenate([spectrum.real, spectrum.imag])[:, None].astype(np.float32)


def _mel_bands() -> np.ndarray:
    """Triangles from 20 Hz to 8 kHz in HTK's mel, for both parts of each of 257 bins, float32 [80, 2 x 257]."""
    mel = lambda hertz: 1127 * np.log1p(np.asarray(hertz) / 700)  # noqa: E731
    edges = np.linspace(mel(20), mel(RATE / 2), 82)
    bins = mel(np.arange(257) * RATE / 512)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    bands = np.maximum(np.minimum(rising, falling), 0)
    bands[:, -1] = 0  # the last bin counts nowhere
    return np.tile(bands, 2).astype(np.float32)


# ------------------------------------------------------------------ what is written is run


def _check(recognizer: PersonalizedEmotionRecognizer, folder: Path, upstream: bool) -> None:
    """Compare the graphs with the model.

    Raises:
        UserError: they give something else.
    """
    draw = np.random.default_rng(0)
    waves = [(0.1 * draw.standard_normal(length)).astype(np.float32) for length in _LENGTHS]
    items = recognizer.items(waves, sampling_rate=RATE)
    expected = recognizer.predict_items(items)
    inputs = recognizer.model.inputs
    assert isinstance(inputs, PooledInputs)
    features = np.stack([(item * inputs.scale + inputs.mean).numpy() for item in items]).astype(np.float32)
    found = {HEAD: answers(folder, features)}
    if upstream:
        found[UPSTREAM] = answers(folder, np.stack([features_of(folder, wave) for wave in waves]))
    for name, made in found.items():
        apart = float(np.abs(made - expected).max())
        if not apart <= TOLERANCE:
            raise UserError(
                f"{name} gives probabilities that are {apart:.2g} from the model's, and {TOLERANCE:g} is allowed. "
                "Nothing was written; please report it with the versions of torch and onnx."
            )


def features_of(folder: Path, wave: np.ndarray) -> np.ndarray:
    """What ``upstream.onnx`` makes of a waveform, float32 [n] at 16 kHz: float32 [L, D]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / UPSTREAM), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"wave": wave})[0])


def answers(folder: Path, features: np.ndarray) -> np.ndarray:
    """What ``head.onnx`` makes of features, float32 [N, L, D]: probabilities [N, C]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / HEAD), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"features": features})[0])


def _answers(model: LoadedModel) -> dict[str, Any]:
    card = model.card
    return {
        "classes": list(model.classes),
        "kind": model.label_set.kind,
        "decided": {
            **dict.fromkeys(("multi", "soft"), "the classes above 1 / C"),
            "single": "the most probable class",
            "ordinal": "the level nearest to the mean",
        }[model.label_set.kind],
        "levels": list(model.label_set.levels),
        "sampling_rate": RATE,
        "upstream": dataclasses.asdict(card.upstream),
        "system": card.system,
        "card": CARD,
        "model_sha256": card.sha256,
    }
