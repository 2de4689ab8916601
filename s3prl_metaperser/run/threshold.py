"""The threshold above which a class is given, learned from the training raters (``evalrc.learned_threshold``).

Of predictions for one who ticks several classes, 1 / C is Meta-PerSER's threshold. Moving it changes macro-F1 more than
adapting to a listener does, so that systems can come out in another order for no other reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s3prl_metaperser.evaluation.meta_testing import Diverged, meta_test
from s3prl_metaperser.evaluation.metrics import THRESHOLD_MACRO_F1, Weighted
from s3prl_metaperser.evaluation.statistics import Scored
from s3prl_metaperser.methods.base import ModelState, System
from s3prl_metaperser.protocol.episodes import make_episodes
from s3prl_metaperser.run.workspace import Prepared, Workspace, say

#: Of many training raters so many are asked, evenly spread over their names.
RATERS = 20
#: Thresholds that are tried beside 1 / C: quantiles of all predictions.
CANDIDATES = 200


def learned_threshold(system: System, state: ModelState, workspace: Workspace, prepared: Prepared) -> float | None:
    """The threshold with the best macro-F1 for training raters; None where it is not asked for or nothing to learn.

    Each is tested as a test rater is, on one episode of K and Q of the own ratings. Nothing of the test rater is used.

    Args:
        system: as it will be tested.
        prepared: features on the device of the state.
    """
    if not system.options.downstream_expert.evalrc.learned_threshold:
        return None
    label_set = workspace.corpus.label_set
    if label_set.kind not in THRESHOLD_MACRO_F1.kinds:
        say(f"evalrc.learned_threshold is not used: one answer of {label_set.name} is no set of several ticks")
        return None
    request = {**workspace.request("test"), "seeds": [0], "queries_from": None}
    ratings = {
        r: mine for r, mine in sorted(workspace.split.ratings_of("train").items()) if len(mine) > request["shots"]
    }
    names = (
        [list(ratings)[place] for place in np.unique(np.linspace(0, len(ratings) - 1, RATERS).astype(int))]
        if ratings
        else []
    )
    drawn = tuple(make_episodes(ratings[name], **request) for name in names)
    try:
        tested = meta_test(system, state, workspace.episode_data(drawn, prepared, "train")) if drawn else []
    except Diverged as error:
        say(f"no threshold is learned: {error}")
        return None
    if not tested:
        say(f"no threshold is learned: no training rater has more than K={request['shots']} ratings")
        return None
    smoothing = system.options.downstream_expert.datarc.smoothing
    found = best_threshold([Scored(r.query, r.probabilities, r.ticks, label_set, smoothing) for r in tested])
    usual = 1 / len(label_set.classes)
    say(f"threshold {found:.3f} is the best for {len(tested)} training raters (1 / C is {usual:.3f})")
    return found


def best_threshold(episodes: Sequence[Scored]) -> float:
    """The threshold with the highest mean macro-F1; of equal ones that nearest to 1 / C."""
    every = np.concatenate([np.asarray(e.probabilities, dtype=np.float64).ravel() for e in episodes])
    usual = 1 / len(episodes[0].label_set.classes)
    candidates = np.append(np.quantile(every, np.linspace(0, 1, CANDIDATES)), usual)
    means = np.array([np.mean([_macro_f1(e, float(threshold)) for e in episodes]) for threshold in candidates])
    best = candidates[means >= means.max() - 1e-12]
    return float(best[np.abs(best - usual).argmin()])


def _macro_f1(episode: Scored, threshold: float) -> float:
    known = Weighted(episode.probabilities, episode.counts, episode.label_set, threshold=threshold)
    assert THRESHOLD_MACRO_F1.weighted is not None
    return float(THRESHOLD_MACRO_F1.weighted(known)[0])
