"""What must be true of a result file by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import f1_score, hamming_loss

from s3prl_metaperser.audit.findings import Findings
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.results import scored_episodes
from s3prl_metaperser.evaluation.statistics import intervals
from s3prl_metaperser.protocol.episodes import Episode, EpisodeList, pool_hash
from s3prl_metaperser.protocol.labels import binarise, ticked

#: scikit-learn and the program add up in another order.
TOLERANCE = 1e-12
#: Probabilities are float32.
SUM_TOLERANCE = 1e-5
#: IEMOCAP's utterances begin with their session.
SESSION = re.compile(r"Ses\d\d")


def check_one(content: Mapping[str, Any], findings: Findings) -> bool:
    """Check a result file whose keys and types are right; returns whether its arrays fit each other."""
    _check_cell(content, findings)
    _check_raters(content, findings)
    _check_counts(content, findings)
    _check_hashes(content, findings)
    _check_tuned(content, findings)
    fits = [_check_episode(content, index, findings) for index in range(len(content["episodes"]))]
    if not (all(fits) and fits):
        return False
    _check_means(content, findings)
    _check_trajectory(content, findings)
    return True


def option(content: Mapping[str, Any], *names: str) -> Any:
    """An option of ``downstream_expert``; None where it is not there."""
    value: Any = content["options"].get("downstream_expert")
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _check_cell(content: Mapping[str, Any], findings: Findings) -> None:
    """The cell is what the options say."""
    cell = content["cell"]
    pairs = {
        "corpus": ("datarc", "corpus"),
        "scenario": ("datarc", "scenario"),
        "fold": ("datarc", "fold"),
        "shots": ("evalrc", "shots"),
        "queries": ("evalrc", "queries"),
        "protocol": ("evalrc", "protocol"),
    }
    for name, path in pairs.items():
        findings.equal(cell[name], option(content, *path), f"cell.{name}", f"option {'.'.join(path)}")
    seeds = option(content, "evalrc", "seeds" if cell["split"] == "test" else "validation_seeds")
    expected = list(range(seeds)) if isinstance(seeds, int) and seeds < 10**6 else seeds
    findings.equal(cell["seeds"], expected, "cell.seeds", "what the options say")
    findings.check(len(set(cell["seeds"])) == len(cell["seeds"]), "cell.seeds", "a seed is there twice")
    wanted = option(content, "modelrc", "standardize")
    findings.check(
        wanted == "auto" or cell["standardized"] is wanted,
        "cell.standardized",
        f"{cell['standardized']}, but option modelrc.standardize is {wanted!r}",
    )
    if content["tuned"] is None:
        findings.equal(cell["steps"], option(content, "evalrc", "steps"), "cell.steps", "option evalrc.steps")
    classes = content["classes"]
    findings.check(
        len(set(classes)) == len(classes) >= 2, "classes", "a class is there twice, or there are fewer than two"
    )


def _check_raters(content: Mapping[str, Any], findings: Findings) -> None:
    """Nobody who tests or validates trains."""
    raters, split = content["raters"], content["cell"]["split"]
    findings.check(raters["test"] not in raters["train"], "raters.train", f"holds the test rater {raters['test']}")
    findings.check(
        raters["validation"] not in raters["train"],
        "raters.train",
        f"holds the validation rater {raters['validation']}",
    )
    findings.check(
        len(set(raters["train"])) == len(raters["train"]) > 0, "raters.train", "is empty or names a rater twice"
    )
    same = raters["test"] == raters["validation"]
    findings.check(same == (split == "dev"), "raters", f"test {raters['test']}, validation {raters['validation']}")
    order, fold = option(content, "datarc", "test_raters"), content["cell"]["fold"]
    if isinstance(order, list) and order and (number := re.fullmatch(r"fold([1-9]\d{0,5})", fold)):
        at = int(number[1]) - 1 + (split == "dev")
        findings.equal(raters["test"], order[at % len(order)], "raters.test", f"the rater of {fold} in test_raters")
        after = order[int(number[1]) % len(order)]
        findings.equal(raters["validation"], after, "raters.validation", "the next of test_raters")


def _check_counts(content: Mapping[str, Any], findings: Findings) -> None:
    """K and Q are as asked for, or Q is smaller in all episodes alike."""
    counts, cell, episodes = content["counts"], content["cell"], content["episodes"]
    findings.equal(counts["shots_requested"], cell["shots"], "counts.shots_requested", "cell.shots")
    findings.equal(counts["shots_used"], cell["shots"], "counts.shots_used", "cell.shots (K never shrinks)")
    findings.equal(counts["queries_requested"], cell["queries"], "counts.queries_requested", "cell.queries")
    used = counts["queries_used"]
    findings.check(1 <= used <= cell["queries"], "counts.queries_used", f"{used}, expected 1 to Q = {cell['queries']}")
    findings.equal(counts["episodes"], len(episodes), "counts.episodes", "the number of episodes")
    findings.equal([e["seed"] for e in episodes], cell["seeds"], "episodes[].seed", "cell.seeds")


def _check_hashes(content: Mapping[str, Any], findings: Findings) -> None:
    hashes, cell, counts = content["hashes"], content["cell"], content["counts"]
    for name in sorted(hashes.keys() - {"episodes"}):
        findings.check(re.fullmatch(r"[0-9a-f]{64}", str(hashes[name])), f"hashes.{name}", "is no SHA-256")
    findings.check(re.fullmatch(r"[0-9a-f]{16}", hashes["episodes"]), "hashes.episodes", "is no hash of episodes")
    if counts["queries_used"] < cell["queries"] and content["episodes"]:  # then an episode holds all that was rated
        first = content["episodes"][0]
        key = listed(content, pool_hash([*first["support"], *first["query"]])).key
        findings.equal(hashes["episodes"], key, "hashes.episodes", "the hash of these episodes")


def listed(content: Mapping[str, Any], pool: str) -> EpisodeList:
    """The episode list of a result file."""
    cell = content["cell"]
    return EpisodeList(
        corpus=content["hashes"]["corpus"],
        scenario=cell["scenario"],
        fold=cell["fold"],
        rater=content["raters"]["test"],
        pool=pool,
        shots=cell["shots"],
        queries=cell["queries"],
        episodes=tuple(Episode(e["seed"], tuple(e["support"]), tuple(e["query"])) for e in content["episodes"]),
    )


def _check_tuned(content: Mapping[str, Any], findings: Findings) -> None:
    """What was chosen was one of the choices, and the best of them."""
    tuned, cell = content["tuned"], content["cell"]
    is_tuned = cell["protocol"] == "tuned"
    if (
        not findings.check((tuned is not None) == is_tuned, "tuned", f"does not fit protocol {cell['protocol']}")
        or not tuned
    ):
        return
    chosen, grid = tuned.get("chosen"), tuned.get("grid")
    whole = isinstance(chosen, dict) and isinstance(grid, list) and all(isinstance(choice, dict) for choice in grid)
    if not findings.check(whole, "tuned", "has no chosen or no grid"):
        return
    wanted = option(content, "evalrc", "validation_seeds")
    findings.equal(tuned.get("validation_episodes"), wanted, "tuned.validation_episodes", "option validation_seeds")
    steps = chosen.get("evalrc.steps", option(content, "evalrc", "steps"))
    findings.equal(cell["steps"], steps, "cell.steps", "what was chosen")
    if not grid:
        findings.equal(chosen, {}, "tuned.chosen", "the only choice, nothing,")
        return
    choices = [{name: value for name, value in choice.items() if name != "loss"} for choice in grid]
    if findings.check(chosen in choices, "tuned.chosen", "is none of the choices"):
        losses = [choice.get("loss") for choice in grid]
        known = [loss for loss in losses if isinstance(loss, int | float)]
        mine = losses[choices.index(chosen)]
        findings.check(known and mine == min(known), "tuned.chosen", f"has loss {mine}, which is not the lowest")


def _check_episode(content: Mapping[str, Any], index: int, findings: Findings) -> bool:
    """No leakage, K and Q, predictions and metrics. Returns whether the arrays fit each other."""
    episode, counts, classes = content["episodes"][index], content["counts"], len(content["classes"])
    at, support, query = f"episodes[{index}]", episode["support"], episode["query"]
    both = sorted(set(support) & set(query))
    findings.check(not both, f"{at}.query", f"{len(both)} of its utterances are in the support, too, e.g. {both[:1]}")
    for name, part, size in (("support", support, counts["shots_used"]), ("query", query, counts["queries_used"])):
        findings.equal(
            len(part), size, f"{at}.{name}: its length", f"counts.{'shots' if name == 'support' else 'queries'}_used"
        )
        findings.check(len(set(part)) == len(part), f"{at}.{name}", "an utterance is there twice")
    _check_sessions(content, [*support, *query], at, findings)
    fits = True
    for name in ("probabilities", "ticks"):
        rows = episode[name]
        right = len(rows) == len(query) > 0 and all(len(row) == classes for row in rows)
        fits = findings.check(right, f"{at}.{name}", f"has not the shape [{len(query)}, {classes}]") and fits
    if not fits:
        return False
    probabilities, ticks = np.array(episode["probabilities"], dtype=np.float64), np.array(episode["ticks"])
    in_range = bool(((probabilities >= 0) & (probabilities <= 1 + SUM_TOLERANCE)).all())
    findings.check(in_range, f"{at}.probabilities", "some are below 0 or above 1")
    worst = float(np.abs(probabilities.sum(1) - 1).max())
    findings.check(worst <= SUM_TOLERANCE, f"{at}.probabilities", f"a row's sum is off one by {worst:.2g}")
    rated = findings.check((ticks.sum(1) > 0).all(), f"{at}.ticks", "an utterance has no tick")
    findings.check(episode["loss"] >= 0, f"{at}.loss", f"is {episode['loss']}")
    if rated:
        _check_metrics(episode["metrics"], scores(binarise(probabilities), ticked(ticks)), f"{at}.metrics", findings)
    return rated


def _check_sessions(content: Mapping[str, Any], utterances: Sequence[str], at: str, findings: Findings) -> None:
    """Unseen tests on the test sessions alone; known without the corpus where ids begin with the session."""
    sessions = option(content, "datarc", "test_sessions")
    unseen = content["cell"]["scenario"] == "unseen" and content["cell"]["split"] == "test"
    if unseen and isinstance(sessions, list) and all(SESSION.match(utterance) for utterance in utterances):
        others = [u for u in utterances if not u.startswith(tuple(str(s) for s in sessions))]
        findings.check(not others, at, f"{len(others)} utterances are not of {', '.join(sessions)}, e.g. {others[:1]}")


def scores(predicted: np.ndarray, present: np.ndarray) -> dict[str, float]:
    """The metrics by scikit-learn.

    Args:
        predicted: bool [Q, C].
        present: bool [Q, C].
    """
    return {
        "macro_f1": float(f1_score(present, predicted, average="macro", zero_division=0)),
        "micro_f1": float(f1_score(present, predicted, average="micro", zero_division=0)),
        "unweighted_accuracy": 1 - float(hamming_loss(present, predicted)),  # classes have the same number of samples
    }


def _check_metrics(stored: Mapping[str, Any], computed: Mapping[str, float], key: str, findings: Findings) -> None:
    for name in METRICS:
        off = abs(stored[name] - computed[name])
        what = f"{stored[name]}, but scikit-learn computes {computed[name]} from the predictions"
        findings.check(off <= TOLERANCE, f"{key}.{name}", what)


def _check_means(content: Mapping[str, Any], findings: Findings) -> None:
    """Means are over the episodes, and intervals those of docs/results.md."""
    draws = option(content, "evalrc", "interval_draws")
    again = intervals(scored_episodes(content), draws) if isinstance(draws, int) and 2 <= draws <= 10**5 else {}
    for name in METRICS:
        span, key = content["metrics"][name], f"metrics.{name}"
        mean = float(np.mean([episode["metrics"][name] for episode in content["episodes"]]))
        findings.check(
            abs(span["mean"] - mean) <= TOLERANCE, f"{key}.mean", f"{span['mean']}, but the episodes' is {mean}"
        )
        findings.check(
            0 <= span["low"] <= span["mean"] <= span["high"] <= 1, key, "low, mean and high are out of order"
        )
        if name in again:
            same = np.allclose([span["low"], span["high"]], [again[name].low, again[name].high], rtol=0, atol=1e-9)
            findings.check(same, key, f"the interval computed again is {again[name].low} to {again[name].high}")


def _check_trajectory(content: Mapping[str, Any], findings: Findings) -> None:
    """Every point's metrics are those of its predictions, and the point of the cell's own steps has its numbers."""
    points, episodes, last = content["trajectory"] or [], content["episodes"], -1
    if points and all(isinstance(point, dict) for point in points):
        asked = option(content, "evalrc", "trajectory") or ()
        whole = isinstance(asked, list) and all(isinstance(steps, int) for steps in asked)
        asked = sorted(set(asked)) if whole else asked
        findings.equal(
            [point.get("steps") for point in points], asked, "trajectory[].steps", "option evalrc.trajectory"
        )
    for index, point in enumerate(points):
        key = f"trajectory[{index}]"
        whole = isinstance(point, dict) and isinstance(point.get("steps"), int) and point["steps"] > last
        if not findings.check(whole, key, "has no steps, or fewer than the point before"):
            return
        last = point["steps"]
        if "diverged" in point:
            continue
        names = (*METRICS, "loss", "support_loss", "predicted")
        right = all(isinstance(point.get(name), list) and len(point[name]) == len(episodes) for name in names)
        if findings.check(right, key, "has not one entry for each episode"):
            _check_point(content, point, key, findings)


def _check_point(content: Mapping[str, Any], point: Mapping[str, Any], key: str, findings: Findings) -> None:
    classes, own = len(content["classes"]), point["steps"] == content["cell"]["steps"]
    for number, episode in enumerate(content["episodes"]):
        bits, at = point["predicted"][number], f"{key} of episode {number}"
        right = isinstance(bits, list) and len(bits) == len(episode["query"])
        right = right and all(isinstance(bit, int) and 0 <= bit < 1 << classes for bit in bits)
        if not findings.check(right, f"{at}: predicted", "has not one number for each query utterance"):
            continue
        predicted = (np.array(bits)[:, None] >> np.arange(classes) & 1).astype(bool)
        stored = {name: point[name][number] for name in METRICS}
        if findings.check(all(isinstance(v, int | float) for v in stored.values()), at, "a metric is no number"):
            _check_metrics(stored, scores(predicted, ticked(episode["ticks"])), at, findings)
            if own:
                findings.equal(stored, {n: episode["metrics"][n] for n in METRICS}, at, "what the cell itself has")
