"""What must be true of a result file by itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import f1_score, hamming_loss

from s3prl_metaperser.audit.findings import Findings
from s3prl_metaperser.evaluation.metrics import episode_scores, metrics_for
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.result_keys import Control, Point
from s3prl_metaperser.evaluation.statistics import intervals
from s3prl_metaperser.protocol.episodes import Episode, EpisodeList, pool_hash
from s3prl_metaperser.protocol.labels import binarise, ticked
from s3prl_metaperser.protocol.splits import named
from s3prl_metaperser.tasks import DEFAULT_TASK

#: scikit-learn and the program add up in another order.
TOLERANCE = 1e-12
#: Probabilities are float32.
SUM_TOLERANCE = 1e-5
#: IEMOCAP's utterances begin with their session.
SESSION = re.compile(r"Ses\d\d")


def check_one(result: Result, findings: Findings) -> bool:
    """Check a result whose keys, types and shapes are right; returns whether every utterance has an answer."""
    if result.task == DEFAULT_TASK:  # other tasks have options, splits and units of their own
        _check_cell(result, findings)
        _check_raters(result, findings)
    _check_counts(result, findings)
    _check_hashes(result, findings)
    _check_tuned(result, findings)
    fits = [_check_episode(result, index, findings) for index in range(len(result.episodes))]
    if not all(fits):
        return False
    _check_means(result, findings)
    _check_trajectory(result, findings)
    for index, control in enumerate(result.controls or ()):
        _check_point(result, control, f"controls[{index}]", findings)
    return True


def _check_cell(result: Result, findings: Findings) -> None:
    """The cell is what the options say."""
    cell = result.cell
    for section, names in {
        "datarc": ("corpus", "scenario", "fold"),
        "evalrc": ("shots", "queries", "protocol"),
    }.items():
        for name in names:
            said = result.option(section, name)
            findings.equal(getattr(cell, name), said, f"cell.{name}", f"option {section}.{name}")
    seeds = result.option("evalrc", "seeds" if cell.split == "test" else "validation_seeds")
    expected = tuple(range(seeds)) if isinstance(seeds, int) and seeds < 10**6 else seeds
    findings.equal(cell.seeds, expected, "cell.seeds", "what the options say")
    findings.check(len(set(cell.seeds)) == len(cell.seeds), "cell.seeds", "a seed is listed twice")
    wanted = result.option("modelrc", "standardize")
    findings.check(
        wanted == "auto" or cell.standardized is wanted,
        "cell.standardized",
        f"{cell.standardized}, but option modelrc.standardize is {wanted!r}",
    )
    if result.tuned is None:
        findings.equal(cell.steps, result.option("evalrc", "steps"), "cell.steps", "option evalrc.steps")
    classes = result.classes
    findings.check(
        len(set(classes)) == len(classes) >= 2, "classes", "a class is listed twice, or there are fewer than two"
    )


def _check_raters(result: Result, findings: Findings) -> None:
    """Nobody who tests or validates trains."""
    raters, split = result.raters, result.cell.split
    tested, validating = set(raters.tested), set(raters.validating)
    for role, held_out in (("test", tested), ("validation", validating)):
        both = sorted(held_out & set(raters.train))
        findings.check(not both, "raters.train", f"holds the {role} rater {named(both)}")
    findings.check(len(set(raters.train)) == len(raters.train) > 0, "raters.train", "is empty or names a rater twice")
    fits = tested == validating if split == "dev" else not tested & validating
    said = f"test {named(raters.tested)}, validation {named(raters.validating)}"
    findings.check(fits and len(tested) == len(raters.tested) > 0, "raters", said)
    order, fold = result.option("datarc", "test_raters"), result.cell.fold
    if isinstance(order, list) and order and (number := re.fullmatch(r"fold([1-9]\d{0,5})", fold)):
        at = int(number[1]) - 1 + (split == "dev")
        findings.equal(raters.test, order[at % len(order)], "raters.test", f"the rater of {fold} in test_raters")
        after = order[int(number[1]) % len(order)]
        findings.equal(raters.validation, after, "raters.validation", "the next of test_raters")


def _check_counts(result: Result, findings: Findings) -> None:
    """K and Q are as asked for, or Q is smaller in all episodes alike."""
    counts, cell, episodes = result.counts, result.cell, result.episodes
    findings.equal(counts.shots_requested, cell.shots, "counts.shots_requested", "cell.shots")
    findings.equal(counts.shots_used, cell.shots, "counts.shots_used", "cell.shots (K never shrinks)")
    findings.equal(counts.queries_requested, cell.queries, "counts.queries_requested", "cell.queries")
    used = counts.queries_used
    findings.check(1 <= used <= cell.queries, "counts.queries_used", f"{used}, expected 1 to Q = {cell.queries}")
    findings.equal(counts.episodes, len(episodes), "counts.episodes", "the number of episodes")
    tested = result.raters.tested
    owners = [e.rater or tested[0] for e in episodes] if len(tested) == 1 else [e.rater for e in episodes]
    expected = [(rater, seed) for rater in tested for seed in cell.seeds]
    found = list(zip(owners, (e.seed for e in episodes), strict=True))
    findings.equal([seed for _, seed in found], [seed for _, seed in expected], "episodes[].seed", "cell.seeds")
    findings.check(owners == [rater for rater, _ in expected], "episodes[].rater", "are not raters.test in their order")


def _check_hashes(result: Result, findings: Findings) -> None:
    hashes, cell, counts = result.hashes, result.cell, result.counts
    for name, value in sorted(vars(hashes).items()):
        if name != "episodes" and value is not None:
            findings.check(re.fullmatch(r"[0-9a-f]{64}", value), f"hashes.{name}", "is no SHA-256")
    findings.check(re.fullmatch(r"[0-9a-f]{16}", hashes.episodes), "hashes.episodes", "is no hash of episodes")
    if counts.queries_used < cell.queries and len(result.raters.tested) == 1:  # an episode holds all that was rated
        first = result.episodes[0]
        key = _listed(result, pool_hash([*first.support, *first.query])).key
        findings.equal(hashes.episodes, key, "hashes.episodes", "the hash of these episodes")


def _listed(result: Result, pool: str) -> EpisodeList:
    """The episode list of a result file of one rater."""
    cell = result.cell
    return EpisodeList(
        corpus=result.hashes.corpus,
        scenario=cell.scenario,
        fold=cell.fold,
        rater=result.raters.tested[0],
        pool=pool,
        shots=cell.shots,
        queries=cell.queries,
        episodes=tuple(Episode(e.seed, e.support, e.query) for e in result.episodes),
    )


def _check_tuned(result: Result, findings: Findings) -> None:
    """What was chosen was one of the choices, and the best of them."""
    tuned, cell = result.tuned, result.cell
    is_tuned = cell.protocol == "tuned"
    fits = findings.check((tuned is not None) == is_tuned, "tuned", f"does not fit protocol {cell.protocol}")
    if not fits or tuned is None:
        return
    wanted = result.option("evalrc", "validation_seeds")
    findings.equal(tuned.validation_episodes, wanted, "tuned.validation_episodes", "option validation_seeds")
    steps = tuned.chosen.get("evalrc.steps", result.option("evalrc", "steps"))
    findings.equal(cell.steps, steps, "cell.steps", "what was chosen")
    losses = [loss for choice, loss in tuned.choices() if choice == tuned.chosen]
    if not tuned.grid:
        findings.equal(tuned.chosen, {}, "tuned.chosen", "the only choice, nothing,")
    elif findings.check(losses, "tuned.chosen", "is none of the choices"):
        known = [loss for _, loss in tuned.choices() if isinstance(loss, int | float)]
        lowest = known and losses[0] == min(known)
        findings.check(lowest, "tuned.chosen", f"has loss {losses[0]}, which is not the lowest")


def _check_episode(result: Result, index: int, findings: Findings) -> bool:
    """No leakage, K and Q, predictions and metrics. Returns whether every utterance has an answer."""
    episode, counts = result.episodes[index], result.counts
    at, support, query = f"episodes[{index}]", episode.support, episode.query
    both = sorted(set(support) & set(query))
    findings.check(not both, f"{at}.query", f"{len(both)} of its utterances are in the support, too, e.g. {both[:1]}")
    several = len(result.raters.tested) > 1  # of whom some may have more to test on than counts.queries_used
    least, most = counts.queries_used, result.cell.queries if several else counts.queries_used
    findings.equal(len(support), counts.shots_used, f"{at}.support: its length", "counts.shots_used")
    findings.check(
        least <= len(query) <= most, f"{at}.query: its length", f"{len(query)}, but counts.queries_used {least}"
    )
    for name, part in (("support", support), ("query", query)):
        findings.check(len(set(part)) == len(part), f"{at}.{name}", "an utterance is listed twice")
    _check_sessions(result, [*support, *query], at, findings)
    probabilities, ticks = np.array(episode.probabilities), np.array(episode.ticks)
    in_range = bool(((probabilities >= 0) & (probabilities <= 1 + SUM_TOLERANCE)).all())
    findings.check(in_range, f"{at}.probabilities", "some are below 0 or above 1")
    worst = float(np.abs(probabilities.sum(1) - 1).max())
    findings.check(worst <= SUM_TOLERANCE, f"{at}.probabilities", f"a row's sum is off one by {worst:.2g}")
    rated = findings.check((ticks.sum(1) > 0).all(), f"{at}.ticks", "an utterance has no tick")
    findings.check(episode.loss >= 0, f"{at}.loss", f"is {episode.loss}")
    if rated:
        smoothing = result.option("datarc", "smoothing", default=0.0)
        _check_metrics(
            result, episode.metrics, probabilities, ticks, smoothing, f"{at}.metrics", findings, result.threshold
        )
    return rated


def _check_sessions(result: Result, utterances: Sequence[str], at: str, findings: Findings) -> None:
    """Unseen tests on the test sessions alone; known without the corpus where ids begin with the session."""
    sessions = result.option("datarc", "test_sessions")
    unseen = result.cell.scenario == "unseen" and result.cell.split == "test"
    if unseen and isinstance(sessions, list | tuple) and all(SESSION.match(utterance) for utterance in utterances):
        others = [u for u in utterances if not u.startswith(tuple(str(s) for s in sessions))]
        findings.check(not others, at, f"{len(others)} utterances are not of {', '.join(sessions)}, e.g. {others[:1]}")


def _check_metrics(
    result: Result,
    stored: Mapping[str, float],
    probabilities: np.ndarray,
    ticks: np.ndarray,
    smoothing: float,
    key: str,
    findings: Findings,
    threshold: float | None = None,
) -> None:
    """Metrics are those of the predictions: computed again, and where scikit-learn has them, by it, too."""
    computed = [("the program", episode_scores(probabilities, ticks, result.answers, smoothing, threshold))]
    if result.answers.kind == "multi":
        computed.append(("scikit-learn", scores(binarise(probabilities), ticked(ticks))))
    for by, values in computed:
        for name in stored.keys() & values.keys():
            what = f"{stored[name]}, but {by} computes {values[name]} from the predictions"
            findings.check(abs(stored[name] - values[name]) <= TOLERANCE, f"{key}.{name}", what)


def scores(predicted: np.ndarray, present: np.ndarray) -> dict[str, float]:
    """The metrics of several ticks by scikit-learn.

    Args:
        predicted: bool [Q, C].
        present: bool [Q, C].
    """
    return {
        "macro_f1": float(f1_score(present, predicted, average="macro", zero_division=0)),
        "micro_f1": float(f1_score(present, predicted, average="micro", zero_division=0)),
        "unweighted_accuracy": 1 - float(hamming_loss(present, predicted)),  # classes have the same number of samples
    }


def _check_means(result: Result, findings: Findings) -> None:
    """Means are over the episodes, and intervals those of docs/results.md."""
    again, drawn = intervals(result.scored), result.option("evalrc", "interval_draws") if result.schema < 4 else None
    for name, span in result.metrics.items():
        key, values = f"metrics.{name}", [e.metrics[name] for e in result.episodes if name in e.metrics]
        whole = len(values) + span.undefined == len(result.episodes)
        if findings.check(whole, key, "some episodes do not have it") and values:
            findings.close(span.mean, float(np.mean(values)), TOLERANCE, f"{key}.mean", "the episodes'")
        findings.check(span.low <= span.mean <= span.high, key, "low, mean and high are out of order")
        if name in again:
            low, high = again[name].low, again[name].high
            by_chance = (
                0.02 + 3 / math.sqrt(2 * max(drawn, 2)) if isinstance(drawn, int) else 0.0
            )  # of version 3's draws
            room = 1e-9 + by_chance * (high - low)
            same = np.allclose([span.low, span.high], [low, high], rtol=0, atol=room)
            findings.check(same, key, f"the interval computed again is {low} to {high}")


def _check_trajectory(result: Result, findings: Findings) -> None:
    """Every point's metrics are those of its predictions, and the point of the cell's own steps has its numbers."""
    points = result.trajectory or ()
    if points:
        asked = result.option("evalrc", "trajectory") or ()
        whole = isinstance(asked, list | tuple) and all(isinstance(steps, int) for steps in asked)
        expected = sorted(set(asked)) if whole else asked
        findings.equal([point.steps for point in points], expected, "trajectory[].steps", "option evalrc.trajectory")
    for index, point in enumerate(points):
        key, rising = f"trajectory[{index}]", not index or point.steps > points[index - 1].steps
        findings.check(rising, key, "has no more steps than the point before")
        _check_point(result, point, key, findings)


def _check_point(result: Result, point: Point | Control, key: str, findings: Findings) -> None:
    if point.diverged is not None:
        return
    of_support = (point.support_loss,) if isinstance(point, Point) else ()
    lists = (*point.metrics.values(), point.loss, *of_support, point.predicted)
    whole = all(len(values) == len(result.episodes) for values in lists)
    if not findings.check(whole, key, "does not have one entry for each episode"):
        return
    classes, own = len(result.classes), isinstance(point, Point) and point.steps == result.cell.steps
    of_decisions = {metric.name for metric in metrics_for(result.answers) if metric.of_decisions}
    for number, (episode, bits) in enumerate(zip(result.episodes, point.predicted, strict=True)):
        at = f"{key} of episode {number}"
        right = len(bits) == len(episode.query) and all(bit < 1 << classes for bit in bits)
        if findings.check(right, f"{at}: predicted", "does not have one number for each query utterance"):
            predicted = (np.array(bits)[:, None] >> np.arange(classes) & 1).astype(np.float64)
            stored = {name: values[number] for name, values in point.metrics.items()}
            decided = {name: value for name, value in stored.items() if name in of_decisions}
            _check_metrics(result, decided, predicted, np.array(episode.ticks), 0.0, at, findings)
            if own:
                mine = {name: episode.metrics.get(name) for name in stored}
                findings.equal(stored, mine, at, "what the cell itself has")
