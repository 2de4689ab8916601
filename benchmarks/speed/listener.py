#!/usr/bin/env python
"""One listener's time: adapting to K clips with cached features, and predicting beside the upstream alone.

    python benchmarks/speed/listener.py [--json FILE]
    python benchmarks/speed/listener.py --tiny                          # seconds: does it run?

Models of random weights with the frozen scope's head; audio is noise of several lengths. What is compared runs in
interleaved rounds; ratios are of processor time on one thread, so that other load on the machine matters little.
Adaptation has its time on the wall beside it, which is what a person waits for, on one thread and on two.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from s3prl_metaperser.listener.labels import ListenerLabels
from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import numpy as np
import soundfile
import torch
from listener_fixtures import LABELS, random_model
from random_checkpoints import make_checkpoint
from timing import about, interleaved, medians, ratio

from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.s3prl_stack.hub import build_upstream

RATE, SHOTS = 16000, 32


def write_audio(folder: Path, count: int, shortest: float, longest: float) -> list[Path]:
    """Noise of ``count`` lengths, in seconds evenly from ``shortest`` to ``longest``."""
    paths = []
    for number, seconds in enumerate(np.linspace(shortest, longest, count)):
        paths.append(folder / f"{number}.wav")
        noise = np.random.default_rng(number).normal(size=int(seconds * RATE))
        soundfile.write(paths[-1], 0.1 * noise, RATE)
    return paths


def measure_adaptation(recognizer: PersonalizedEmotionRecognizer, threads: int, count: int) -> dict[str, float]:
    """Median seconds of adapting to K=32 clips with cached features, with 50 steps, by both clocks."""
    said = recognizer.card["upstream"]
    generator = torch.Generator().manual_seed(0)
    items = list(torch.randn(SHOTS, said["layers"], said["features"], generator=generator))
    labels = ListenerLabels.read([LABELS[n % len(LABELS)] for n in range(SHOTS)], recognizer.label_set)
    torch.set_num_threads(threads)
    seconds = interleaved({"adapt": lambda: recognizer.adapt_items(items, labels)}, count)
    return {"threads": threads, **{clock: medians(seconds, clock)["adapt"] for clock in ("process", "wall")}}


def measure_prediction(
    recognizer: PersonalizedEmotionRecognizer, upstream: torch.nn.Module, paths: list[Path], batch: int, count: int
) -> dict[str, dict[str, float]]:
    """Processor seconds of all clips, and the speed of predicting beside that of the upstream's own forward pass.

    Predicting is measured from the very samples that the upstream gets, and from their files.
    """
    torch.set_num_threads(1)
    samples = [soundfile.read(path, dtype="float32")[0] for path in paths]
    waves = [torch.from_numpy(wave) for wave in samples]

    def alone() -> None:
        with torch.no_grad():
            for start in range(0, len(waves), batch):
                upstream(waves[start : start + batch])

    runs = {
        "upstream": alone,
        "samples": lambda: recognizer.predict_proba(samples, sampling_rate=RATE, batch_size=batch),
        "files": lambda: recognizer.predict_proba(paths, batch_size=batch),
    }
    seconds = interleaved(runs, count)
    return {
        "seconds": medians(seconds),
        "speed": {name: ratio(seconds, "upstream", name) for name in ("samples", "files")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="a tiny upstream")
    chosen = parser.parse_args()
    setting = {"shots": SHOTS, "steps": 50, "clips": chosen.clips, "seconds": [1.0, 4.0], "rounds": chosen.rounds}
    content = {"setting": setting, "adaptation": [], "prediction": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size, shape = ("tiny", (3, 16)) if chosen.tiny else ("base", (13, 768))
        weights = make_checkpoint("wav2vec2", folder / "wav2vec2.pt", size=size)
        audio = folder / "audio"
        audio.mkdir()
        paths = write_audio(audio, chosen.clips, *setting["seconds"])
        for upstream, ckpt, form in (("fbank_no_cmvn", None, (1, 240)), ("wav2vec2_local", weights, shape)):
            model = random_model(folder / upstream, upstream, ckpt, form, projector=256, steps=50)
            recognizer = PersonalizedEmotionRecognizer.load(model, upstream_ckpt=ckpt)
            built = build_upstream(upstream, None if ckpt is None else str(ckpt)).eval()
            for threads in (1, 2):
                found = measure_adaptation(recognizer, threads, 4 * chosen.rounds)
                content["adaptation"].append({"upstream": upstream, **found})
                print(f"{upstream}: adapting to {SHOTS} clips takes {found['wall']:.3f} s on {threads} thread(s)")
            many = paths * (1 if ckpt else 8)
            for batch in (1, 4):
                found = measure_prediction(recognizer, built, many, batch, chosen.rounds)
                content["prediction"].append({"upstream": upstream, "batch": batch, **found})
                speed = found["speed"]
                print(
                    f"{upstream}, batches of {batch}: the upstream alone takes {found['seconds']['upstream']:.3f} s; "
                    f"predicting is {speed['samples']:.2f} x as fast from samples, {speed['files']:.2f} x from files"
                )
    if chosen.json:
        chosen.json.write_text(json.dumps({**about(), **content}, indent=1) + "\n")


if __name__ == "__main__":
    main()
