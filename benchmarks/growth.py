"""How time grows with ratings, raters, utterances and result files: from a size to its double, at most 2.2 times.

    python benchmarks/growth.py [--only raters]

Ratings and features are synthetic, so that no audio is needed. Each size runs in a process of its own; seconds are of
the processor, since other work on a machine changes the others. ``many_raters_speed.py`` does it for a crowd.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: What is doubled -> (raters, utterances, ratings of each rater) before and after.
SIZES = {
    "ratings": ((50, 2000, 2000), (50, 4000, 4000)),
    "raters": ((1000, 2000, 50), (2000, 2000, 50)),
    "utterances": ((20, 10000, 3000), (20, 20000, 3000)),
}
RESULTS = (40, 80)
LIMIT = 2.2
DIMENSION = 80


def crowd(raters: int, utterances: int, each: int):
    """A corpus in memory, of two raters in three one who answers as most do."""
    import numpy as np

    from s3prl_metaperser.corpora.base import Corpus, Rating, Utterance
    from s3prl_metaperser.corpora.label_sets import LABEL_SETS

    labels, draw = LABEL_SETS.get("big_six"), np.random.default_rng(0)
    names = [f"clip{number:06d}" for number in range(utterances)]
    made = [Utterance(name, Path(f"{name}.wav"), f"s{n % 100}", f"part{n % 5}", 2.0) for n, name in enumerate(names)]
    usual = draw.integers(len(labels.classes), size=utterances)
    ratings = []
    for rater in range(raters):
        chosen = draw.choice(utterances, size=each, replace=False)
        own = np.where(draw.random(each) < 0.6, usual[chosen], draw.integers(len(labels.classes), size=each))
        ratings += [Rating(names[n], f"r{rater:05d}", (labels.classes[c],)) for n, c in zip(chosen, own, strict=True)]
    ratings.sort(key=lambda rating: (rating.utterance, rating.rater))
    return Corpus("crowd", Path("crowd"), labels, tuple(made), tuple(ratings))


def opened(
    corpus, folder: Path, system: str = "Meta-PerSER", changes: Mapping[str, Any] | None = None, layers: int = 1
):
    """A cell on this corpus, with random features in the place of an upstream's.

    Args:
        changes: to the configuration.
        layers: of the features, each of ``DIMENSION`` numbers.
    """
    import torch

    from s3prl_metaperser.config.options import Options, merged
    from s3prl_metaperser.run.opened import OpenCell
    from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
    from s3prl_metaperser.run.workspace import Workspace
    from s3prl_metaperser.upstream.store import PooledFeatures

    class Synthetic(Workspace):
        contents: Any = functools.cached_property(lambda self: _Contents(self.corpus))

        def features_exist(self, identity) -> bool:
            return True

        def features(self, identity, upstream) -> PooledFeatures:
            shape = len(self.utterances), layers, DIMENSION
            values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            return PooledFeatures({u.id: row for row, u in enumerate(self.utterances)}, values)

    expert = {
        "datarc": {"corpus": "ratings_csv", "root": str(folder), "cache_dir": str(folder / "cache")},
        "metarc": {"initialisation": False},
        "evalrc": {"shots": 16, "queries": 8, "seeds": 5, "validation_seeds": 2, "steps": 5},
    }
    config = {"downstream_expert": expert, "runner": {"total_steps": 1}}
    options = Options.from_config(merged(config, changes or {}))
    cell = CellOptions(UpstreamOptions("fbank_no_cmvn"), folder, options, system=system, device="cpu")
    return OpenCell(cell, lambda chosen: Synthetic(chosen, corpus))


class _Contents:
    """Digests of audio that is not there."""

    def __init__(self, corpus):
        self.files = {utterance.id: utterance.id for utterance in corpus.utterances}
        self.sounds, self.fingerprint = self.files, "0" * 64


def validated(corpus, folder: Path) -> None:
    """``metaperser validate`` of the labels."""
    from s3prl_metaperser.corpora.validate import format_report, validation_report

    format_report(corpus, validation_report(corpus, decode_audio=False))


def first_step(corpus, folder: Path) -> None:
    """From a corpus in memory to the first outer step, its validation and its checkpoint."""
    from s3prl_metaperser.run.training import train

    train(opened(corpus, folder))


def evaluated(corpus, folder: Path) -> None:
    """Meta-testing of the test rater, after training."""
    from s3prl_metaperser.run.experiment import BEST
    from s3prl_metaperser.run.opened import Checkpoint
    from s3prl_metaperser.run.testing import evaluate

    evaluate(opened(corpus, folder), Checkpoint.read(folder / BEST))


def audited(folder: Path) -> None:
    """``metaperser validate --all``."""
    from s3prl_metaperser.audit import audit

    audit(folder)


def reported(folder: Path) -> None:
    """``metaperser report``."""
    from s3prl_metaperser.report.write import write_report

    write_report(folder, folder.with_name("report"))


def results(folder: Path, count: int) -> None:
    """So many result files: two systems under every upstream."""
    from s3prl_metaperser.evaluation.result import Result

    corpus = crowd(5, 200, 200)
    for system in ("Random", "Linear-Zero"):
        first_step_of = folder.with_name(system)
        first_step_of.mkdir()
        cell = opened(corpus, first_step_of, system)
        _trained(cell)
        result = Result.read(first_step_of / "result_test.json")
        for number in range(count // 2):
            named = dataclasses.replace(result, cell=dataclasses.replace(result.cell, upstream=f"upstream{number}"))
            named.write(folder / f"{system}-{number}" / "result_test.json")


def _trained(cell) -> None:
    from s3prl_metaperser.run.experiment import BEST
    from s3prl_metaperser.run.opened import Checkpoint
    from s3prl_metaperser.run.testing import evaluate
    from s3prl_metaperser.run.training import train

    train(cell)
    evaluate(cell, Checkpoint.read(cell.cell.folder / BEST))


def seconds(what: Mapping[str, Callable[..., None]], size: Any, dimension: int, send) -> None:
    """Run each of ``what`` in this process and send its seconds, and the peak of memory in MiB."""
    global DIMENSION
    DIMENSION = dimension
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  until the process ends
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "folder"
        folder.mkdir()
        import s3prl_metaperser.audit
        import s3prl_metaperser.report.write
        import s3prl_metaperser.run.cell  # noqa: F401  imports are not what grows

        if isinstance(size, int):
            results(folder, size)
            arguments: tuple = (folder,)
        else:
            arguments = (crowd(*size), folder)
        for name, function in what.items():
            began = time.process_time()
            function(*arguments)
            found[name] = time.process_time() - began
    found["MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    send.send(found)


def measured(what: Mapping[str, Callable[..., None]], size: Any, dimension: int = DIMENSION) -> dict[str, float]:
    """:func:`seconds` in a process of its own, with features of so many numbers a layer."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=seconds, args=(what, size, dimension, send))
    process.start()
    send.close()
    try:
        return receive.recv()
    finally:
        process.join()


def main(arguments: list[str] | None = None) -> int:
    """Print the table; the exit status is the number of ratios above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*SIZES, "results"], help="double this alone")
    asked = parser.parse_args(arguments)
    labels = {"validate": validated, "train, first step": first_step, "evaluate": evaluated}
    above = 0
    print(f"{'doubled':<11} {'what':<18} {'before':>7} {'after':>7} {'ratio':>6}")
    jobs: list[tuple[str, Any, Any, dict]] = [(name, *sizes, labels) for name, sizes in SIZES.items()]
    jobs.append(("results", *RESULTS, {"validate --all": audited, "report": reported}))
    for name, small, large, what in jobs:
        if asked.only not in (None, name):
            continue
        one, two = measured(what, small), measured(what, large)
        for part in what:
            ratio = two[part] / one[part]
            above += ratio > LIMIT
            print(f"{name:<11} {part:<18} {one[part]:6.2f}s {two[part]:6.2f}s {ratio:6.2f}", flush=True)
    return above


if __name__ == "__main__":
    sys.exit(main())
