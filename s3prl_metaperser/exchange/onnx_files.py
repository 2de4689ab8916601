"""An exported model or an adapted listener as ONNX graphs: from features to answers, and where possible from sound.

``head.onnx`` is everything behind the upstream, which is one matrix: layer weights, standardisation, projector and
classifier are all linear. ``upstream.onnx`` makes its features of a waveform: log-mel filterbanks, whose frames are
one convolution each, are written down here; Whisper's encoder is exported by torch. What was written is run and
compared with the model before it is kept.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
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
from s3prl_metaperser.methods.outputs import MARK
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
    recognizer = PersonalizedEmotionRecognizer.load(
        source, upstream_ckpt=told.options.get("ckpt"), upstream_model_config=told.options.get("model_config")
    )
    model = recognizer.model
    weight, bias = _matrix(recognizer, source)
    with writing(out), new_folder(out) as partial:
        _save(_head(weight, bias, model), partial / HEAD)
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


def _matrix(recognizer: PersonalizedEmotionRecognizer, source: Path) -> tuple[np.ndarray, np.ndarray]:
    """What features go through: weight [C, L D] and bias [C], float64."""
    model, system = recognizer.model, recognizer.system
    if not isinstance(model.inputs, PooledInputs):
        raise UserError(f"{source}: the whole model adapts (-f); only models on a frozen upstream become ONNX here.")
    predictor = system.as_one_head(model.state, recognizer.predictor)
    if not system.is_one_head(model.state, predictor):
        _, mark, fitted = system.name.partition(MARK)
        others = [way for way in model.ways if way != system.name and not (mark and way.endswith(mark + fitted))]
        raise UserError(
            f"{source}: {system.name} predicts by more than one linear head, which {HEAD} is. Adapt with another way "
            f"(metaperser adapt --system), one of: {', '.join(others)}."
        )
    part = {name: value.detach().double().cpu() for name, value in predictor.items()}
    mixing = torch.softmax(part["weights"], 0)
    product = part["classifier.weight"] @ part["projector.weight"]  # [C, D]
    weight = torch.einsum("l,cd->cld", mixing, product) / model.inputs.scale.double()
    bias = part["classifier.weight"] @ part["projector.bias"] + part["classifier.bias"]
    bias = bias - torch.einsum("cld,ld->c", weight, model.inputs.mean.double().expand(weight.shape[1:]))
    return weight.flatten(1).numpy(), bias.numpy()


def _head(weight: np.ndarray, bias: np.ndarray, model: LoadedModel) -> Any:
    from onnx import helper, numpy_helper

    layers = len(model.inputs.mean) if isinstance(model.inputs, PooledInputs) else 1
    size = weight.shape[1] // layers
    names = {"weight": weight.T.astype(np.float32), "bias": bias.astype(np.float32)}
    nodes = [
        helper.make_node("Flatten", ["features"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
    ]
    return _model(
        nodes,
        {"features": ["clips", layers, size]},
        {"probabilities": ["clips", len(bias)]},
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in names.items()],
    )


def _model(nodes: list[Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any], constants: list[Any]) -> Any:
    import onnx
    from onnx import TensorProto, helper

    given, made = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in each.items()]
        for each in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "s3prl_metaperser", given, made, constants)
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(found)
    return found


def _save(model: Any, path: Path) -> None:
    import onnx

    onnx.save(model, str(path))


# ------------------------------------------------------------------ the upstream


def _upstream(model: LoadedModel, path: Path) -> tuple[bool, str]:
    """Whether the upstream's graph was written, and why not."""
    assert isinstance(model.inputs, PooledInputs)
    identity, upstream = model.inputs.identity, model.inputs.upstream
    if identity.pooling != "mean" or identity.normalize or identity.selection != "hidden_states":
        return False, "only time means of unnormalised hidden states are exported"
    if isinstance(upstream, Whisper) and not upstream.pad:
        _export(_WhisperMeans(upstream, model.inputs.layer), path)
        return True, ""
    filterbank = _filterbank_of(identity.upstream)
    if filterbank is not None:
        _save(filterbank, path)
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
    from onnx import helper, numpy_helper

    reach = window // 2
    slope = np.tile(np.arange(-reach, reach + 1) / (reach * (reach + 1) * (2 * reach + 1) / 3), (80, 1, 1))
    constants = {
        "whole": np.array([1, 1, -1]),
        "kernels": _frame_kernels(),
        "bands": _mel_bands(),
        "least": np.float32(np.finfo(np.float32).eps),
        "edges": np.array([0, 0, reach, 0, 0, reach]),
        "slope": slope.astype(np.float32),
        "time": np.array([2]),
    }
    nodes = [
        helper.make_node("Reshape", ["wave", "whole"], ["sound"]),
        helper.make_node("Conv", ["sound", "kernels"], ["spectrum"], strides=[160]),
        helper.make_node("Mul", ["spectrum", "spectrum"], ["squares"]),
        helper.make_node("MatMul", ["bands", "squares"], ["energies"]),  # of both parts of each bin
        helper.make_node("Max", ["energies", "least"], ["audible"]),
        helper.make_node("Log", ["audible"], ["level0"]),
    ]
    for number in range(order):
        nodes.append(helper.make_node("Pad", [f"level{number}", "edges"], [f"padded{number}"], mode="edge"))
        nodes.append(helper.make_node("Conv", [f"padded{number}", "slope"], [f"level{number + 1}"], group=80))
    levels = [f"level{number}" for number in range(order + 1)]
    nodes.append(helper.make_node("Concat", levels, ["frames"], axis=1))
    nodes.append(helper.make_node("ReduceMean", ["frames", "time"], ["features"], keepdims=0))
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return _model(nodes, {"wave": ["samples"]}, {"features": [1, 80 * (order + 1)]}, made)


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
