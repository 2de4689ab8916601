#!/usr/bin/env python
"""Do the statistics have the right size? Two copies of one system that differ only in their training seed.

    python benchmarks/statistics_size.py                    # 400 repeats, Linear-Zero, a training seed for each fold
    python benchmarks/statistics_size.py --seeds shared     # one training seed for all five folds
    python benchmarks/statistics_size.py --training once    # one training for all repeats: only the test data vary

Each repeat takes other utterances from a large demo corpus whose raters are identical, lets the raters tick anew,
trains both copies on all five folds and tests them on the same episodes. The copies differ only by chance, so
a test at 5 % must reject in 5 % of the repeats. The interval of one copy's mean must cover, in 95 % of them, the mean
over all repeats. With ``--training once`` the copies are trained on other utterances than are tested on, and differ by
what they happen to differ; the mean difference over all repeats is then what its interval must not miss.
What the project uses stands beside simpler ways, to show what goes wrong with those.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import numpy as np
import torch
from scipy.stats import norm, t

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.base import Corpus, Rating
from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.demo.raters import draw_ratings, intended_prior, rater_models
from s3prl_metaperser.demo.script import write_script
from s3prl_metaperser.evaluation.meta_testing import meta_test
from s3prl_metaperser.evaluation.metrics import metrics_for
from s3prl_metaperser.evaluation.statistics import Influences, Scored, estimates, influences
from s3prl_metaperser.meta.model import Head, pooled_logits
from s3prl_metaperser.methods import SYSTEMS
from s3prl_metaperser.methods.base import EpisodeData, HeadLearner, ModelState, Support, TrainingTask, new_head
from s3prl_metaperser.methods.initialisation import shuffled_batches
from s3prl_metaperser.protocol.episodes import make_episodes
from s3prl_metaperser.protocol.loss import soft_cross_entropy
from s3prl_metaperser.run.workspace import Prepared, Workspace
from s3prl_metaperser.s3prl_stack.hub import build_upstream, checkpoint_hash
from s3prl_metaperser.seeding import numpy_generator
from s3prl_metaperser.upstream.store import FeatureIdentity

UPSTREAM = "fbank_no_cmvn"
DRAWS = 1000
NAMES = [metric.name for metric in metrics_for(LABEL_SET)]
Copy = dict[str, Influences]


def options_for(chosen: argparse.Namespace, fold: str) -> Options:
    """Options of the large corpus and a short training."""
    return Options.from_config(
        {
            "downstream_expert": {
                "datarc": {"fold": fold, "demo": {"utterances": chosen.pool, "raters": "identical"}},
                "initrc": {"total_steps": chosen.steps},
                "modelrc": {"projector_dim": 64},
            }
        }
    )


class Laboratory:
    """The large corpus, and experiments on parts of it."""

    def __init__(self, chosen: argparse.Namespace):
        self.chosen = chosen
        workspace = Workspace(options_for(chosen, "fold1"))
        features = workspace.features(
            FeatureIdentity(UPSTREAM, checkpoint_hash(UPSTREAM)), lambda: build_upstream(UPSTREAM)
        )
        self.corpus, self.values, self.rows = workspace.corpus, features.values, features.rows
        prior, seed = intended_prior("identical"), workspace.options.downstream_expert.datarc.demo.seed
        self.turns = write_script(prior, seed=seed, utterances=chosen.pool)
        self.models = rater_models("identical")
        self.scales: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def repeat(self, number: int) -> tuple[Copy, Copy]:
        """Fresh utterances and ticks, two trainings a fold: rater -> scores, for both copies."""
        draw = numpy_generator("size", number)
        once = self.chosen.training == "once" and number >= 0
        free = [index for index in range(len(self.turns)) if not once or index not in self.trained_on]
        picked = draw.choice(free, self.chosen.utterances, replace=False)
        turns = [self.turns[index] for index in sorted(picked)]
        kept = {turn.utterance for turn in turns}
        ticks = draw_ratings(self.models, turns, seed=10_000 + number)
        ratings = tuple(Rating(u, r, ticks[u][r]) for u in sorted(ticks) for r in sorted(ticks[u]))
        utterances = tuple(u for u in self.corpus.utterances if u.id in kept)
        corpus = dataclasses.replace(self.corpus, utterances=utterances, ratings=ratings)
        if number < 0:
            self.trained_on = frozenset(picked.tolist())
        folds = [self._fold(corpus, f"fold{fold}", number) for fold in range(1, 6)]
        seeds = [
            [1_000_000 * number + 10 * (fold if self.chosen.seeds == "own" else 0) + index for index in range(2)]
            for fold in range(1, 6)
        ]
        if not once:
            runs = [(task, seed) for (task, _, _), pair in zip(folds, seeds, strict=True) for seed in pair]
            self.heads = trained(runs)
        heads = iter(self.heads)
        copies: tuple[Copy, Copy] = {}, {}
        for task, episodes, rater in folds:
            system = SYSTEMS.get(self.chosen.system)(task.options, task.class_weights)
            for copy in copies:
                tested = meta_test(system, ModelState(HeadLearner(next(heads))), episodes)
                copy[rater] = influences([Scored(r.query, r.probabilities, r.ticks, task.label_set) for r in tested])
        return copies

    def _fold(self, corpus: Corpus, fold: str, number: int) -> tuple[TrainingTask, list[EpisodeData], str]:
        options = options_for(self.chosen, fold)
        workspace, evalrc = Workspace(options, corpus), options.downstream_expert.evalrc
        if self.chosen.training == "each" or number < 0:
            self.scales[fold] = workspace.statistics(self.values, self.rows)
        mean, scale = self.scales[fold]
        prepared = Prepared((self.values - mean) / scale, self.rows, mean, scale, True)
        request = {"corpus": str(number), "scenario": "seen", "fold": fold}
        listed = make_episodes(
            workspace.split.test, shots=evalrc.shots, queries=evalrc.queries, seeds=range(evalrc.seeds), **request
        )
        labels, episodes = workspace.labels("test", self.rows), []
        for episode in listed.episodes:
            support, query = labels.select(episode.support), labels.select(episode.query)
            shown = Support(prepared.values[support.rows], torch.from_numpy(support.targets), episode.seed)
            episodes.append(EpisodeData(shown, prepared.values[query.rows], query, support.utterances))
        task = TrainingTask(
            features=prepared.values,
            label_set=corpus.label_set,
            raters={},
            consensus=workspace.labels("train", self.rows),
            class_weights=torch.from_numpy(workspace.class_weights()).float(),
            validation=workspace.labels("validation", self.rows),
            validation_episodes=(),
            options=options,
            seed=0,
            cache=Path(),
            identity="",
        )
        return task, episodes, workspace.split.test_raters[0]


def trained(runs: list[tuple[TrainingTask, int]]) -> list[Head]:
    """Consensus initialisations of (task, seed), all at once: what ``train_on_consensus`` gives each one alone."""
    options = runs[0][0].options.downstream_expert.initrc
    shape, classes = runs[0][0].features.shape[1:], len(runs[0][0].classes)
    heads = [new_head(task.options, *shape, classes, "consensus", seed) for task, seed in runs]
    stacked = {n: torch.stack([h.state_dict()[n] for h in heads]).requires_grad_() for n in heads[0].state_dict()}
    optimizer = torch.optim.AdamW(stacked.values(), lr=options.lr, weight_decay=options.weight_decay)
    data = [task.samples(task.consensus) for task, _ in runs]
    held_out = [task.samples(task.validation) for task, _ in runs]
    orders = [
        shuffled_batches(seed, len(inputs), options.batch_size)
        for (_, seed), (inputs, _) in zip(runs, data, strict=True)
    ]
    best = [float("inf")] * len(runs)
    for step in range(1, options.total_steps + 1):
        parts = [(inputs[c], targets[c]) for (inputs, targets), c in zip(data, map(next, orders), strict=True)]
        size = max(len(targets) for _, targets in parts)
        inputs = torch.stack([_filled(x, size) for x, _ in parts])
        targets = torch.stack([_filled(y, size) * (size / len(y)) for _, y in parts])
        optimizer.zero_grad(set_to_none=True)
        soft_cross_entropy(pooled_logits(stacked, inputs), targets).sum().backward()
        optimizer.step()
        if step % options.eval_step == 0 or step == options.total_steps:
            for index, (head, (inputs, targets)) in enumerate(zip(heads, held_out, strict=True)):
                now = {name: value[index].detach().clone() for name, value in stacked.items()}
                value = soft_cross_entropy(pooled_logits(now, inputs), targets).item()
                if value < best[index]:
                    best[index] = value
                    head.load_state_dict(now)
    return heads


def _filled(array: torch.Tensor, size: int) -> torch.Tensor:
    """Zeros behind, up to ``size`` rows: the last batch of an epoch is shorter in some folds."""
    return torch.cat([array, array.new_zeros(size - len(array), *array.shape[1:])])


def resampled(raters: Copy, metric: int, number: int) -> np.ndarray:
    """Means of each rater under random weights of the utterances (to first order), the same for all, [R, draws]."""
    names = sorted({utterance for r in raters.values() for utterance in r.utterances})
    drawn = numpy_generator("utterances", number).standard_exponential((len(names), DRAWS))
    weights = dict(zip(names, drawn, strict=True))
    return np.stack(
        [
            r.means[metric] + r.derivatives[metric] @ (np.stack([weights[u] for u in r.utterances]) - 1)
            for r in raters.values()
        ]
    )


def spans(raters: Copy, metric: int, number: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of a mean over raters, by the project's way and by simpler ones."""
    means = np.array([r.means[metric] for r in raters.values()])
    replicates = resampled(raters, metric, number)
    count, mean = len(means), means.mean()
    ours = estimates(raters)[NAMES[metric]].interval()
    alone = t.ppf(0.975, count - 1) * means.std(ddof=1) / np.sqrt(count)
    utterances = norm.ppf(0.975) * replicates.mean(0).std(ddof=1)
    picked = numpy_generator("raters", number).integers(count, size=(replicates.shape[1], count))
    columns = np.arange(len(picked))[:, None]
    both = np.percentile(replicates[picked, columns].mean(1), [2.5, 97.5])
    shuffled = (columns + 101 * np.arange(count)[picked]) % len(picked)  # each rater's own draws
    apart = np.percentile(replicates[picked, shuffled].mean(1), [2.5, 97.5])
    within = sum(np.var(row, ddof=1) for row in replicates) / count**2
    return {
        "t, raters and shared utterances (the project's)": (ours.low, ours.high),
        "t over raters alone": (mean - alone, mean + alone),
        "percentile bootstrap, raters, then shared utterances": (both[0], both[1]),
        "percentile bootstrap, raters, then their utterances": (apart[0], apart[1]),
        "normal, utterances alone, shared": (mean - utterances, mean + utterances),
        "normal, utterances alone, raters as independent": (
            mean - norm.ppf(0.975) * np.sqrt(within),
            mean + norm.ppf(0.975) * np.sqrt(within),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--system", default="Linear-Zero", choices=["Linear-Zero", "Linear-Few"])
    parser.add_argument("--seeds", default="own", choices=["own", "shared"], help="a training seed a fold, or one")
    parser.add_argument("--training", default="each", choices=["each", "once"], help="in each repeat, or once for all")
    parser.add_argument("--pool", type=int, default=3000, help="utterances of the large corpus")
    parser.add_argument("--utterances", type=int, default=600, help="utterances per repeat")
    parser.add_argument("--steps", type=int, default=150, help="outer steps per training")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    begun, laboratory = time.perf_counter(), Laboratory(chosen)
    if chosen.training == "once":
        laboratory.repeat(-1)
    found, means = [], []
    for number in range(chosen.repeats):
        first, second = laboratory.repeat(number)
        parts = first, {rater: first[rater] - second[rater] for rater in first}
        found.append([[spans(part, metric, number) for metric in range(len(NAMES))] for part in parts])
        means.append([np.mean([r.means for r in copy.values()], axis=0) for copy in (first, second)])
        if (number + 1) % 50 == 0:
            print(f"{number + 1} repeats, {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    first, second = np.mean(means, axis=0)  # of each metric
    truth, difference = ((first + second) / 2, 0 * first) if chosen.training == "each" else (first, first - second)
    print(
        f"{chosen.system}, trained in repeats: {chosen.training}, training seed: {chosen.seeds}, {chosen.repeats} "
        f"repeats of {chosen.utterances} utterances; 5.0 % and 95.0 % are right, -+ "
        f"{200 * np.sqrt(0.05 * 0.95 / chosen.repeats):.1f} by chance; lengths in points"
    )
    print(f"{'metric':<20} {'interval':<53} {'rejects':>8} {'length':>7} {'covers':>8} {'length':>7}")
    for metric, name in enumerate(NAMES):
        for way in found[0][0][metric]:
            shown = []
            for part, wanted in ((1, difference[metric]), (0, truth[metric])):
                low, high = np.array([f[part][metric][way] for f in found]).T
                inside = np.mean((low <= wanted) & (wanted <= high))
                shown += [100 * (1 - inside if part else inside), 100 * np.mean(high - low)]
            print(f"{name:<20} {way:<53} {shown[0]:>7.1f}% {shown[1]:>7.2f} {shown[2]:>7.1f}% {shown[3]:>7.2f}")
    print(f"({time.perf_counter() - begun:.0f} s)")


if __name__ == "__main__":
    main()
