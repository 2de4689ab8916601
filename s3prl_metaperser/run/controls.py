"""Whose labels? The test episodes again, with labels that are not the listener's own (docs/protocols.md, "Controls").

A gain that stays with them is not personal. Query samples, and how they are scored, stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from s3prl_metaperser.corpora.base import Corpus, Rating, by_utterance
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.controls import tested_control
from s3prl_metaperser.evaluation.decided import UNADAPTED
from s3prl_metaperser.evaluation.result_keys import Control
from s3prl_metaperser.methods.base import EpisodeData, ModelState, Support, System
from s3prl_metaperser.protocol.episodes import Episode, EpisodeList
from s3prl_metaperser.protocol.loader import LabelTable
from s3prl_metaperser.protocol.splits import Split
from s3prl_metaperser.run.workspace import Prepared, Workspace
from s3prl_metaperser.seeding import numpy_generator


def controls(
    system: System,
    state: ModelState,
    workspace: Workspace,
    episodes: Sequence[EpisodeList],
    data: Sequence[EpisodeData],
    prepared: Prepared,
) -> tuple[Control, ...] | None:
    """Meta-test under each of ``evalrc.controls``; None where there is none.

    Args:
        episodes: the test raters', whose order ``data`` has.
        prepared: features on the device of ``data``.

    Raises:
        UserError: nobody else rated what a control needs.
    """
    wanted, found = system.options.downstream_expert.evalrc.controls, []
    for name in wanted:
        others = data if name == UNADAPTED else _with_other_labels(name, workspace, episodes, data, prepared)
        found.append(tested_control(name, system, state, others, workspace.corpus.label_set))
    return tuple(found) or None


def other_labels(
    control: str, rater: str, episode: Episode, split: Split, corpus: Corpus, by_clip: Mapping[str, Sequence[Rating]]
) -> list[Rating]:
    """The ratings that take the place of an episode's K support samples; of fewer clips where there are no more.

    Args:
        control: ``swapped``: all of one other listener, on as many clips. With one test rater it is the fold's
            validation rater, on clips of the rater's own that are not queried; with several the test rater who stands
            half their number further, on any that are not queried. ``mixed``: on the same K clips, each of another
            rater, drawn from all others who rated it. ``consensus``: on the same K clips, each of all others who rated
            it. ``shuffled``: the listener's own K answers, dealt out anew among the same K clips.
        by_clip: utterance -> its ratings.
    """
    draw = numpy_generator("control", control, split.scenario, split.fold, rater, episode.seed)
    if control == "shuffled":
        answers = {rating.utterance: rating for rating in split.ratings_of("test")[rater]}
        dealt = draw.permutation(len(episode.support))
        pairs = zip(episode.support, (episode.support[place] for place in dealt), strict=True)
        return [dataclasses.replace(answers[other], utterance=clip) for clip, other in pairs]
    if control in ("mixed", "consensus"):
        others = [[each for each in by_clip[clip] if each.rater != rater] for clip in episode.support]
        if control == "consensus":
            return [each for rated in others for each in rated]
        return [rated[draw.integers(len(rated))] for rated in others if rated]
    tested, queried = split.ratings_of("test"), set(episode.query)
    if len(tested) > 1:
        theirs = [rating for rating in tested[split.opposite[rater]] if rating.utterance not in queried]
    else:
        own = {rating.utterance for rating in tested[rater]} - queried
        theirs = [rating for rating in corpus.all_of(split.validation_raters[0]) if rating.utterance in own]
    return [theirs[index] for index in draw.permutation(len(theirs))[: len(episode.support)]]


def _with_other_labels(
    control: str, workspace: Workspace, episodes: Sequence[EpisodeList], data: Sequence[EpisodeData], prepared: Prepared
) -> list[EpisodeData]:
    """The episodes with other labels, all with as many."""
    corpus, by_clip = workspace.corpus, by_utterance(workspace.corpus.ratings)
    drawn = [
        other_labels(control, each.rater, episode, workspace.split, corpus, by_clip)
        for each in episodes
        for episode in each.episodes
    ]
    clips = [list(dict.fromkeys(rating.utterance for rating in ratings)) for ratings in drawn]
    shots = min(map(len, clips))
    if not shots:
        raise UserError(
            f"evalrc.controls: {control} needs others' labels on clips of each test rater, and for some episode there "
            "are none. Leave it out."
        )
    smoothing, found = workspace.options.downstream_expert.datarc.smoothing, []
    for ratings, those, known in zip(drawn, clips, data, strict=True):
        kept = [rating for rating in ratings if rating.utterance in those[:shots]]
        labels = LabelTable.from_ratings(kept, prepared.rows, corpus.label_set, smoothing)
        targets = torch.from_numpy(labels.targets).to(known.support.targets.device)
        support = Support(prepared.values[labels.rows], targets, known.support.seed)
        found.append(EpisodeData(support, known.query, known.query_labels))
    return found
