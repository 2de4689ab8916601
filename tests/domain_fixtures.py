"""Four small corpora of five emotions as one, with vectors for their recordings."""

from __future__ import annotations

import math
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from s3prl_metaperser.config.domain_options import DomainOptions
from s3prl_metaperser.corpora.base import Corpus, Rating, Utterance
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.run.cell import Record
from s3prl_metaperser.run.domains import run_cell
from s3prl_metaperser.run.opened import Checkpoint
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.run.workspace import Workspace
from s3prl_metaperser.seeding import numpy_generator

FIVE = LabelSet("five_emotions", "single", ("happiness", "sadness", "anger", "fear", "disgust"))
#: Name -> speakers, utterances of each.
SIZES = {"alpha": (5, 10), "beta": (2, 20), "gamma": (4, 10), "delta": (6, 10)}


def write_noise(path: Path, *drawn_by: object) -> Path:
    """A tenth of a second of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = numpy_generator("noise", *drawn_by).integers(-9000, 9000, 1600)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(noise.astype("<i2").tobytes())
    return path


def several(root: Path, sizes: Mapping[str, tuple[int, int]] = SIZES, *, seed: int = 0, without: str = "") -> Corpus:
    """The corpora; each recording is another tenth of a second of noise.

    Args:
        without: the last corpus lacks this class.
    """
    utterances, ratings = [], []
    for name, (speakers, each) in sizes.items():
        last = name == list(sizes)[-1]
        classes = [label for label in FIVE.classes if not (last and label == without)]
        for number in range(speakers * each):
            path = write_noise(root / name / f"{number:03d}.wav", seed, name, number)
            identifier, speaker = f"{name}/{number:03d}", f"{name}/{number % speakers}"
            utterances.append(Utterance(identifier, path, speaker, name, 0.1))
            ratings.append(Rating(identifier, name, (classes[number // speakers % len(classes)],)))
    return Corpus("several", root, FIVE, tuple(utterances), tuple(ratings))


def planted(root: Path) -> Path:
    """Three corpora in the layouts of real ones, 20 utterances of two speakers each, a tenth of a second of noise."""
    names = [f"emodb/wav/{who}a01{letter}{take}.wav" for who in ("03", "08") for letter in "WEAFT" for take in "ab"]
    names += [
        f"savee/{who}/{code}0{n}.wav" for who in ("DC", "JE") for code in ("h", "sa", "a", "f", "d") for n in "12"
    ]
    words = ("gio", "tri", "rab", "pau", "dis")
    names += [f"emovo/{who}/{word}-{who}-b{n}.wav" for who in ("f1", "m1") for word in words for n in "12"]
    for name in names:
        write_noise(root / name, name)
    return root


def vectors(corpus: Corpus, file: Path, *, shift: float = 1.0, layers: int = 2, size: int = 6) -> Path:
    """A file of vectors in which each class has a place, and each corpus is shifted."""
    rng = numpy_generator("vectors")
    means = {label: rng.normal(size=(layers, size)) for label in FIVE.classes}
    moved = {name: shift * rng.normal(size=(layers, size)) for name in corpus.raters()}
    values = [
        means[rating.ticks[0]] + moved[rating.rater] + rng.normal(size=(layers, size)) for rating in corpus.ratings
    ]
    np.savez(file, names=np.array([rating.utterance for rating in corpus.ratings]), values=np.array(values, np.float32))
    return file


def options(scenario: str = "rest:delta", **sections: Mapping[str, object]) -> DomainOptions:
    """Short training on these corpora."""
    runner = {"total_steps": 30, "eval_step": 10, "save_step": 10, "log_step": 5, **sections.pop("runner", {})}
    optimizer = sections.pop("optimizer", {})
    data = {"scenario": scenario, "batch_size": 12, **sections.pop("datarc", {})}
    model = {"projector_dim": 8, **sections.pop("modelrc", {})}
    expert = {"datarc": data, "modelrc": model, **sections}
    return DomainOptions.from_config({"runner": runner, "optimizer": optimizer, "downstream_expert": expert})


def run(
    corpus: Corpus, file: Path | None, folder: Path, chosen: DomainOptions, system: str = "Deep-All", **how: object
) -> Result:
    """Train and test a cell on the vectors of a file."""
    past, upstream = how.pop("past", None), how.pop("upstream", UpstreamOptions("embeddings", checkpoint=str(file)))
    assert isinstance(upstream, UpstreamOptions)
    folder.mkdir(parents=True, exist_ok=True)
    cell = CellOptions(
        upstream,
        folder,
        chosen,
        system=system,
        task="domain_generalized_emotion",
        **how,  # type: ignore[arg-type]
    )

    def opened(given: DomainOptions, **splits: object) -> Workspace:
        return Workspace(given, corpus, **splits)  # type: ignore[arg-type]

    assert past is None or isinstance(past, Checkpoint)
    return run_cell(cell, opened, Record(), past)


def nats(result: Result) -> float:
    """Mean negative log-likelihood, by hand."""
    (episode,) = result.episodes
    return -sum(math.log(p[t.index(1)]) for p, t in zip(episode.probabilities, episode.ticks, strict=True)) / len(
        episode.query
    )
