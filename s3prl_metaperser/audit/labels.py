"""What must be true of a result file and the corpus that it speaks of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from s3prl_metaperser.audit.findings import Findings
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import Corpus
from s3prl_metaperser.corpora.base import Rating
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.result_keys import Episode
from s3prl_metaperser.protocol.episodes import key_of, make_episodes
from s3prl_metaperser.run.workspace import Workspace

#: Losses are computed from float32 targets and weights.
LOSS_TOLERANCE = 1e-6


def check_labels(result: Result, corpus: Corpus, findings: Findings) -> None:
    """Check that episodes are those that the protocol draws, and that labels and losses are those of the corpus.

    Args:
        corpus: of the fingerprint that the result names.
    """
    try:
        workspace = Workspace(Options.from_config(result.options, "options", stored=True), corpus)
    except UserError as error:
        findings.check(False, "options", f"make no split of this corpus: {error}")
        return
    split, cell, raters = workspace.split, result.cell, result.raters
    role = "test" if cell.split == "test" else "validation"
    ratings = split.ratings_of(role)
    findings.equal(result.classes, tuple(corpus.classes), "classes", "what the corpus has")
    if result.label_set is not None:
        findings.equal(result.label_set, corpus.label_set, "label_set", "what the corpus has")
    findings.equal(raters.tested, tuple(ratings), "raters.test", "the one of this fold")
    findings.equal(raters.validating, split.validation_raters, "raters.validation", "the one of this fold")
    findings.equal(raters.train, tuple(split.train_raters), "raters.train", "those of this fold")
    answers = {(rater, rating.utterance): rating for rater, mine in ratings.items() for rating in mine}
    drawn = {(owner(result, e), u) for e in result.episodes for u in (*e.support, *e.query)}
    others = sorted(drawn - set(answers))
    rater, utterance = others[0] if others else ("", "")
    what = f"{len(others)} utterances are not {rater}'s to test on here, e.g. {utterance!r}"
    if not findings.check(not others, "episodes", what):
        return
    used = {utterance for _, utterance in drawn}
    if split.queries is not None:
        used = {utterance for episode in result.episodes for utterance in episode.query}
    if cell.scenario != "seen" and cell.split == "test":
        learned = used & {rating.utterance for rating in (*split.train, *split.validation)}
        findings.check(
            not learned, "episodes", f"{len(learned)} utterances were trained on, e.g. {sorted(learned)[:1]}"
        )
    _check_draws(result, workspace, role, ratings, findings)
    _check_ticks(result, workspace, answers, findings)


def owner(result: Result, episode: Episode) -> str:
    """Whose episode it is."""
    return episode.rater or result.raters.tested[0]


def _check_draws(
    result: Result, workspace: Workspace, role: str, ratings: Mapping[str, Sequence[Rating]], findings: Findings
) -> None:
    try:
        drawn = [make_episodes(mine, **workspace.request(role)) for mine in ratings.values()]
    except UserError as error:
        findings.check(False, "episodes", f"cannot be drawn: {error}")
        return
    findings.equal(result.hashes.episodes, key_of(drawn), "hashes.episodes", "the hash of what is drawn")
    right = [(each.rater, e.seed, e.support, e.query) for each in drawn for e in each.episodes]
    for index, (episode, expected) in enumerate(zip(result.episodes, right, strict=False)):
        mine = (owner(result, episode), episode.seed, episode.support, episode.query)
        text = f"is not what seed {expected[1]} draws from this corpus"
        findings.check(mine == expected, f"episodes[{index}]", text)


def _check_ticks(
    result: Result, workspace: Workspace, answers: Mapping[tuple[str, str], Rating], findings: Findings
) -> None:
    """Answers are the corpus's, and losses those of the probabilities under them."""
    labels, smoothing = workspace.corpus.label_set, workspace.options.downstream_expert.datarc.smoothing
    weights = workspace.class_weights().astype(np.float32).astype(np.float64)
    for index, episode in enumerate(result.episodes):
        mine = owner(result, episode)
        counted = np.stack([labels.counts(answers[mine, utterance].answer) for utterance in episode.query])
        key = f"episodes[{index}]"
        if findings.check(
            np.allclose(episode.ticks, counted, rtol=0, atol=1e-12), f"{key}.ticks", "are not the corpus's"
        ):
            targets = labels.target(counted, smoothing).astype(np.float32).astype(np.float64)
            logs = np.log(np.maximum(np.array(episode.probabilities), np.finfo(np.float32).tiny))
            loss = float((-(targets * logs).sum(1) * (targets * weights).sum(1)).mean())
            room = LOSS_TOLERANCE * max(1.0, abs(loss))
            findings.close(episode.loss, loss, room, f"{key}.loss", "the probabilities'")
