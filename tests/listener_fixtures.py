"""An exported model, made once a session without training: a random head on the features of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.listener.card import (
    SCHEMA,
    Adaptation,
    Card,
    TrainingCard,
    UpstreamCard,
    licence_notes,
    option_sections,
)
from s3prl_metaperser.listener.folder import MEAN, RATES, SCALE, write_folder
from s3prl_metaperser.meta.model import PARAMETERS
from s3prl_metaperser.methods.base import new_head
from s3prl_metaperser.s3prl_stack.hub import build_upstream, checkpoint_hash
from s3prl_metaperser.storage.hashing import tensor_hash
from s3prl_metaperser.upstream.finetuning import FineTunedModel
from s3prl_metaperser.upstream.store import RECIPE

OPTIONS = {
    "metarc": {"inner_steps": 2, "inner_lr": 0.05},
    "tunerc": {"longest_seconds": 1.0, "micro_batch_seconds": 3.0},
    "evalrc": {"shots": 8},
}


def random_model(
    out: Path,
    upstream: str = "fbank_no_cmvn",
    ckpt: Path | None = None,
    shape=(1, 240),
    *,
    finetuned: bool = False,
    projector: int = 8,
    steps: int = 4,
    label_set: LabelSet = LABEL_SET,
) -> Path:
    """Write a model folder of random parameters; ``shape`` is (layers, features) of the upstream."""
    changed = {"modelrc": {"projector_dim": projector}, "evalrc": {**OPTIONS["evalrc"], "steps": steps}}
    options = Options.from_config({"downstream_expert": {**OPTIONS, **changed}})
    classes = len(label_set.classes)
    head = new_head(options, *shape, classes, "random model")
    tensors, rest = dict(head.named_parameters()), None
    if finetuned:
        built = build_upstream(upstream, str(ckpt))
        model = FineTunedModel(built, head, options.downstream_expert.tunerc)
        tensors = model.named_adapted()
        rest = tensor_hash({n: v for n, v in built.state_dict().items() if f"upstream.{n}" not in tensors})
    names = list(tensors)
    assert finetuned or tuple(names) == PARAMETERS
    more = {} if finetuned else {MEAN: torch.zeros(shape), SCALE: torch.ones(shape)}
    card = Card(
        schema=SCHEMA,
        kind="model",
        system="Meta-PerSER",
        scope="finetuned" if finetuned else "frozen",
        classes=label_set.classes,
        label_set=label_set,
        upstream=UpstreamCard(
            name=upstream,
            checkpoint=checkpoint_hash(upstream, None if ckpt is None else str(ckpt)),
            source=() if ckpt is None else (ckpt.name,),
            **{"model_config": None, "selection": "hidden_states", "layer": None, "normalize": False},
            **{"dtype": "float32", "layers": shape[0], "features": shape[1], "standardized": False},
            **{"not_adapted": rest, "precision": "float32", "recipe": RECIPE},
        ),
        adaptation=Adaptation.under(options, (1.0,) * classes),
        options=option_sections(options),
        training=TrainingCard(corpus="demo", train_raters=9),
        metrics=None,
        licences=licence_notes(upstream, "demo", None),
        versions={},
        parameters=tuple(names),
        sha256="",
        listener=None,
    )
    rates = torch.full((2, len(names)), 0.05)
    return write_folder(out, card, {**tensors, RATES: rates, **more})


def write_clips(folder: Path, count: int = 6, rate: int = 16000) -> list[Path]:
    """Audible clips of different pitch and length."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        time = np.arange(int(rate * (0.4 + 0.1 * number))) / rate
        noise = np.random.default_rng(number).normal(size=len(time))
        paths.append(folder / f"clip{number}.wav")
        soundfile.write(paths[-1], 0.3 * np.sin(2 * np.pi * (150 + 90 * number) * time) + 0.02 * noise, rate)
    return paths


LABELS = ["happy", "sad", "neutral;happy", "angry", "fear", "surprise;excited", "disgust", "frustrated"]
