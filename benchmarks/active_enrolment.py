#!/usr/bin/env python
"""Do fewer labels do if the listening page chooses the clips? Random and informative clips by number of labels, paired.

    OMP_NUM_THREADS=1 python benchmarks/active_enrolment.py --out result/active      # the demo's `opposed` raters
    OMP_NUM_THREADS=1 python benchmarks/active_enrolment.py --out result/active --corpus speechocean762 --root DIR \\
        -u embeddings -k whisper_tiny_en.npz --option answer=fluency --bins 6 7 8

Meta-PerSER is trained in each fold as in the grids (`--system` for another one). Then, replicate by replicate, the test
rater's clips are cut into queries and a pool (by speakers where there are many); K labels of the pool are drawn at
random, or by the listening page's own choice (`informative`, see s3prl_metaperser/listener/next_clip.py), or as those
of which the model adapted so far is least certain (`uncertain`, four at a time). All see the same pool, the same
queries and the same first clip, so that differences are paired. Intervals are Student's over test raters, each the mean
of its replicates: for further raters. The goal is that half the labels, chosen, do as well as all of them at random.

Macro-F1 of a scale is over bins of its levels (`--bins`: their upper ends), of the predicted mean and of the answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import numpy as np
import torch
from sklearn.metrics import f1_score

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.config.override import parse_override
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.evaluation.metrics import episode_scores
from s3prl_metaperser.evaluation.statistics import Estimate
from s3prl_metaperser.listener.next_clip import design_gain
from s3prl_metaperser.methods.base import Support
from s3prl_metaperser.protocol.loader import LabelTable
from s3prl_metaperser.run.cell import Record, run_cell
from s3prl_metaperser.run.experiment import BEST
from s3prl_metaperser.run.opened import Checkpoint, OpenCell
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.seeding import numpy_generator

LABELS = (4, 8, 12, 16, 24, 32)
WAYS = ("random", "informative", "uncertain")
#: Clips that are chosen before the model adapts again, as on the listening page.
EVERY = 4
#: With fewer speakers queries are clips of any.
MANY_SPEAKERS = 20


class Listener:
    """A test rater's clips and labels, and the trained system.

    Args:
        bins: upper ends of the bins of a scale, for macro-F1.
    """

    def __init__(self, opened: OpenCell, checkpoint: Path, bins: list[float]):
        self.system, self.bins = opened.system, bins
        self.state = opened.load(Checkpoint.read(checkpoint))
        self.rater = opened.workspace.split.test_raters[0]
        self.table: LabelTable = opened.workspace.labels("test", opened.scope.prepared.rows)
        self.label_set: LabelSet = opened.task.label_set
        self.smoothing = opened.options.downstream_expert.datarc.smoothing
        self.inputs = opened.task.features[torch.from_numpy(self.table.rows)]
        self.vectors = self.inputs.double().mean(1).numpy()
        self.speakers = [opened.workspace.corpus.utterance(name).speaker for name in self.table.utterances]

    def cut(self, replicate: int, queries: int, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of the queries and of the pool, which has at most so many clips."""
        rng = numpy_generator("active enrolment", self.rater, replicate)
        names = sorted(set(self.speakers))
        if len(names) >= MANY_SPEAKERS:
            held = set(rng.permutation(names)[: round(0.3 * len(names))])
            asked = np.array([i for i, name in enumerate(self.speakers) if name in held])
        else:
            asked = rng.permutation(len(self.speakers))[: len(self.speakers) // 2]
        pool = np.setdiff1d(np.arange(len(self.speakers)), asked)
        return rng.permutation(asked)[:queries], rng.permutation(pool)[:most]

    def adapted(self, chosen: list[int]) -> Callable[[np.ndarray], np.ndarray]:
        """Predictions of clips after adapting to these."""
        targets = torch.from_numpy(self.table.targets[chosen])
        (predictor,) = self.system.adapt_many(self.state, [Support(self.inputs[chosen], targets, 0)])
        return lambda places: self.system.predict(self.state, predictor, self.inputs[torch.from_numpy(places)])

    def order(self, way: str, pool: np.ndarray, most: int) -> list[int]:
        """The first ``most`` clips of the pool that are labelled; the pool's first one is always the first."""
        if way == "random":
            return pool[:most].tolist()
        chosen = [int(pool[0])]
        vectors = self.vectors[pool] - self.vectors[pool].mean(0)
        while len(chosen) < most:
            left = np.setdiff1d(pool, chosen)
            if way == "informative":
                place = {clip: number for number, clip in enumerate(pool.tolist())}
                gains = design_gain(vectors, [place[i] for i in left.tolist()], [place[i] for i in chosen])
                chosen.append(int(left[np.argmax(gains)]))
            else:
                found = self.adapted(chosen)(left)
                doubt = -(found * np.log(np.maximum(found, 1e-12))).sum(1)
                room = min(EVERY - len(chosen) % EVERY, most - len(chosen))
                chosen += left[np.argsort(-doubt, kind="stable")[:room]].tolist()
        return chosen

    def scores(self, chosen: list[int], asked: np.ndarray) -> tuple[float, float]:
        """Macro-F1 and nats of the queries."""
        found, counts = self.adapted(chosen)(asked), self.table.counts[asked]
        scores = episode_scores(found, counts, self.label_set, self.smoothing)
        if "macro_f1" in scores:
            return scores["macro_f1"], scores["nats"]
        levels, ends = np.array(self.label_set.levels), np.array(self.bins)
        said = np.searchsorted(ends, (counts @ levels) / counts.sum(1))
        heard = np.searchsorted(ends, np.round(self.label_set.value(found, self.smoothing)))
        bins = list(range(len(ends) + 1))
        return float(f1_score(said, heard, labels=bins, average="macro", zero_division=0)), scores["nats"]


def measure(listener: Listener, replicates: int, queries: int, most: int) -> np.ndarray:
    """[ways, replicates, numbers of labels, (macro-F1, nats)]."""
    found = np.empty((len(WAYS), replicates, len(LABELS), 2))
    for replicate in range(replicates):
        asked, pool = listener.cut(replicate, queries, most)
        for number, way in enumerate(WAYS):
            order = listener.order(way, pool, max(LABELS))
            found[number, replicate] = [listener.scores(order[:n], asked) for n in LABELS]
    return found


def shown(values: np.ndarray, scale: float, digits: int, sign: str = "") -> str:
    """Mean of raters with its interval; ``values`` has one for each."""
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    span = Estimate(float(values.mean()), error, len(values) - 1).interval()
    mean, low, high = (f"{scale * value:{sign}.{digits}f}" for value in (span.mean, span.low, span.high))
    return f"{mean} [{low}, {high}]"


def tables(found: np.ndarray) -> str:
    """``found`` [raters, ways, numbers of labels, metrics] as Markdown."""
    lines = []
    for metric, (title, scale, digits) in enumerate((("macro-F1, points", 100, 1), ("nats", 1, 3))):
        each = found[..., metric]
        lines += [f"\n{title}\n", f"| labels | {' | '.join(WAYS)} | {' | '.join(f'{w} - random' for w in WAYS[1:])} |"]
        lines += ["|---" * (2 * len(WAYS)) + "|"]
        for n, labels in enumerate(LABELS):
            level = [shown(each[:, way, n], scale, digits) for way in range(len(WAYS))]
            apart = [shown(each[:, way, n] - each[:, 0, n], scale, digits, "+") for way in range(1, len(WAYS))]
            lines.append(f"| {labels} | {' | '.join([*level, *apart])} |")
        for half, whole in ((4, 8), (8, 16), (12, 24), (16, 32)):
            a, b = LABELS.index(half), LABELS.index(whole)
            apart = [shown(each[:, way, a] - each[:, 0, b], scale, digits, "+") for way in range(len(WAYS))]
            words = ", ".join(f"{way} {said}" for way, said in zip(WAYS, apart, strict=True))
            lines.append(f"\n{half} labels minus {whole} at random: {words}")
    return "\n".join(lines)


def main() -> int:
    """Train what is missing, choose, adapt and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of experiments and of what was measured")
    parser.add_argument("--corpus", default="demo")
    parser.add_argument("--root")
    parser.add_argument("-u", "--upstream", default="fbank_no_cmvn")
    parser.add_argument("-k", "--ckpt")
    parser.add_argument("--system", default="Meta-PerSER")
    parser.add_argument("--folds", nargs="+", default=[f"fold{n}" for n in range(1, 6)])
    parser.add_argument("--option", action="append", default=[], help="of datarc, NAME=VALUE [demo.raters=opposed]")
    parser.add_argument("--bins", type=float, nargs="+", default=[], help="of a scale, for macro-F1")
    parser.add_argument("--replicates", type=int, default=5)
    parser.add_argument("--queries", type=int, default=128)
    parser.add_argument("--pool", type=int, default=300, help="clips that may be labelled, at most [300]")
    given = parser.parse_args()
    torch.set_num_threads(1)
    datarc: dict = {"corpus": given.corpus, **({"root": given.root} if given.root else {})}
    for text in given.option or (["demo.raters=opposed"] if given.corpus == "demo" else []):
        for path, value in parse_override(f"config.{text}"):
            place = datarc
            for key in path[1:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = value
    raters, every = [], []
    for fold in given.folds:
        options = Options.from_config({"downstream_expert": {"datarc": {**datarc, "fold": fold}}})
        folder, record = given.out / f"{given.corpus}-{given.system}-{fold}", Record()
        upstream = UpstreamOptions(given.upstream, given.ckpt)
        run_cell(CellOptions(upstream, folder, options, system=given.system), record=record)
        assert record.opened is not None
        listener = Listener(record.opened, folder / BEST, given.bins)
        every.append(measure(listener, given.replicates, given.queries, given.pool))
        raters.append(listener.rater)
        print(f"{listener.rater}: {len(listener.speakers)} clips", file=sys.stderr, flush=True)
    found = np.stack(every)  # [raters, ways, replicates, labels, metrics]
    print(f"{given.corpus}, {given.system}, {given.upstream}; raters {' '.join(raters)}; {given.replicates} replicates")
    print(tables(found.mean(2)))
    content = {"raters": raters, "ways": WAYS, "labels": LABELS, "found": found.tolist()}
    (given.out / f"{given.corpus}-{given.system}.json").write_text(json.dumps(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
