#!/usr/bin/env python
"""Feature extraction: this project's store against the plain loop over s3prl's upstream, one utterance at a time.

    OMP_NUM_THREADS=1 python benchmarks/speed/features.py --json result.json           # tiny upstreams with weights
    OMP_NUM_THREADS=1 python benchmarks/speed/features.py --size base --utterances 6   # the Base models' shape
    python benchmarks/speed/features.py --tiny                                         # seconds: does it run?

The plain loop reads a file, mixes it down, resamples it (soxr, as ours), calls the upstream, takes each layer's
time-mean and saves all of them at the end. Ours reads, checks and resamples ahead in other threads, batches exactly
where that is possible, and writes shards; the files' hashes are made before, as they are at each start. ``padded`` is
what must not be done, s3prl's own batches padded to the longest: its error says why. Upstreams have random weights;
rounds are interleaved, medians count.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[2] / "tests")]

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import numpy as np
import soundfile
import soxr
import torch
from random_checkpoints import UPSTREAM, make_checkpoint
from timing import about, interleaved, medians, ratio
from torch import Tensor, nn

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import open_corpus
from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.corpora.contents import audio_hash
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.upstream.pooling import pooler
from s3prl_metaperser.upstream.store import FeatureIdentity, PooledStore

RATE = 16000
KINDS = ("wav2vec2", "hubert", "wavlm")


def demo_utterances(count: int) -> list[Utterance]:
    """Of the demo corpus: 16 kHz mono, evenly spaced over it."""
    utterances = open_corpus(Options().downstream_expert.datarc).utterances
    return list(utterances)[:: max(1, len(utterances) // count)][:count]


def noise_utterances(folder: Path, count: int, rate: int, channels: int) -> list[Utterance]:
    """Noise of 1 to 5 seconds."""
    generator, made = np.random.default_rng(0), []
    for number in range(count):
        seconds = 1 + 4 * number / max(count - 1, 1)
        samples = 0.1 * generator.standard_normal((int(seconds * rate), channels))
        path = folder / f"{rate}-{channels}-{number}.wav"
        soundfile.write(path, samples, rate, subtype="PCM_16")
        made.append(Utterance(path.stem, path, "s", "Ses01", seconds))
    return made


def read_plainly(path: Path) -> Tensor:
    """float32 [n] at 16 kHz."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(1)
    return torch.from_numpy(mono if rate == RATE else soxr.resample(mono, rate, RATE, quality="HQ"))


def plain_loop(upstream: nn.Module, utterances: list[Utterance], out: Path) -> Tensor:
    """The loop that one writes with s3prl: features [N, L, D]."""
    found = []
    with torch.no_grad():
        for utterance in utterances:
            states = upstream([read_plainly(utterance.path)])["hidden_states"]
            found.append(torch.stack([layer[0].mean(0) for layer in states]))
    torch.save(torch.stack(found), out)
    return torch.stack(found)


def padded(upstream: nn.Module, utterances: list[Utterance], batch: int) -> Tensor:
    """s3prl's batches: every utterance padded to the longest, its own frames averaged."""
    found, rate = [], upstream.get_downsample_rates("hidden_states")
    with torch.no_grad():
        for start in range(0, len(utterances), batch):
            waves = [read_plainly(utterance.path) for utterance in utterances[start : start + batch]]
            states = torch.stack(list(upstream(waves)["hidden_states"]))  # [L, B, T, D]
            found += [states[:, index, : round(len(wave) / rate)].mean(1) for index, wave in enumerate(waves)]
    return torch.stack(found)


def stored(
    upstream: nn.Module, utterances: list[Utterance], hashes: dict[str, str], root: Path, batch: int
) -> PooledStore:
    """Ours, from files to shards on disk."""
    store = PooledStore(Path(tempfile.mkdtemp(dir=root)), FeatureIdentity("measured", "0" * 64))
    with contextlib.redirect_stderr(io.StringIO()):
        store.make(utterances, hashes, pooler(upstream, selection="hidden_states", normalize=False), batch)
    return store


def difference(one: Tensor, other: Tensor) -> float:
    """The largest distance over utterances of one feature, over the spread of that layer's features."""
    return ((one - other).abs().amax((0, 2)) / other.std((0, 2))).max().item()


def measure(upstream: nn.Module, utterances: list[Utterance], batch: int, rounds: int) -> dict[str, Any]:
    """Seconds and agreement of one case."""
    upstream = upstream.eval()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "plain.pt"
        hashes = {utterance.id: audio_hash(utterance.path) for utterance in utterances}
        ours = functools.partial(stored, upstream, utterances, hashes, Path(folder))
        runs = {
            "plain loop": lambda: plain_loop(upstream, utterances, out),
            "ours": lambda: ours(1),
            f"ours, batches of {batch}": lambda: ours(batch),
        }
        seconds = interleaved(runs, rounds)
        reference = plain_loop(upstream, utterances, out)
        apart = {}
        for name in list(runs)[1:]:
            apart[name] = difference(runs[name]().load(utterances, hashes).values, reference)
        apart[f"padded, batches of {batch}"] = difference(padded(upstream, utterances, batch), reference)
    return {
        "utterances": len(utterances),
        "audio_seconds": sum(utterance.seconds for utterance in utterances),
        "seconds": seconds,
        "ratios": {
            name: {clock: round(ratio(seconds, name, "plain loop", clock), 3) for clock in ("process", "wall")}
            for name in runs
        },
        "difference": apart,
    }


def show(name: str, case: dict[str, Any]) -> None:
    """One case as text."""
    print(f"{name}: {case['utterances']} utterances, {case['audio_seconds']:.0f} s of audio")
    by_processor, by_clock = medians(case["seconds"]), medians(case["seconds"], "wall")
    for run, seconds in by_processor.items():
        relative = case["ratios"][run]
        apart = f"   apart {case['difference'][run]:.1e}" if run in case["difference"] else ""
        print(
            f"  {run:<24}{seconds:>8.3f} s processor ({relative['process']:.2f}){by_clock[run]:>8.3f} s wall "
            f"({relative['wall']:.2f}){apart}"
        )
    for run, apart in case["difference"].items():
        if run.startswith("padded"):
            print(f"  {run:<24}apart {apart:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", choices=["tiny", "base"], default="tiny", help="size of the upstreams with weights")
    parser.add_argument("--utterances", type=int, default=48)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--tiny", action="store_true", help="a few utterances of noise, to try the script")
    chosen = parser.parse_args()
    if chosen.tiny:
        chosen.utterances, chosen.rounds, chosen.kinds, chosen.batch = 4, 1, ["wavlm"], 2
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    cases = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise = noise_utterances(folder, chosen.utterances, 44100, 2)
        corpora = {"44.1 kHz stereo noise": noise}
        if not chosen.tiny:
            corpora = {"demo corpus": demo_utterances(chosen.utterances), **corpora}
        for corpus, utterances in corpora.items():
            upstreams = {"fbank_no_cmvn": lambda: build_upstream("fbank_no_cmvn")}
            for kind in chosen.kinds:
                file = make_checkpoint(kind, folder / f"{kind}.pt", size=chosen.size)
                upstreams[f"{kind} ({chosen.size})"] = lambda k=kind, f=file: build_upstream(UPSTREAM[k], str(f))
            for upstream, build in upstreams.items():
                case = measure(build(), utterances, chosen.batch, chosen.rounds)
                cases[f"{upstream}, {corpus}"] = case
                show(f"{upstream}, {corpus}", case)
    result = {**about(), "rounds": chosen.rounds, "batch": chosen.batch, "cases": cases}
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
