"""What the protocol promises in its corners; each of these was a mutant that no other test of the protocol noticed."""

import dataclasses

import numpy as np
import pytest
from synthetic import synthetic_corpus

from s3prl_metaperser.corpora.base import Rating
from s3prl_metaperser.corpora.iemocap import CLASSES, LABEL_SET
from s3prl_metaperser.protocol.episodes import pool_hash
from s3prl_metaperser.protocol.labels import ticked
from s3prl_metaperser.protocol.loader import EpisodicDataset, LabelTable
from s3prl_metaperser.protocol.splits import default_test_raters, make_split, said_of


@pytest.fixture(scope="module")
def corpus():
    return synthetic_corpus()


def renamed(corpus, raters):
    """The corpus with only these of its raters, named ``r0``, ``r1``, ..."""
    names = {rater: f"r{number}" for number, rater in enumerate(raters)}
    kept = [Rating(r.utterance, names[r.rater], r.ticks) for r in corpus.ratings if r.rater in names]
    return dataclasses.replace(corpus, ratings=tuple(kept))


def test_in_other_corpora_the_five_raters_with_the_most_ratings_are_tested_the_busiest_first(corpus):
    other = renamed(corpus, corpus.raters())
    assert len(other.raters()) > 6
    counts = {rater: len(other.ratings_of(rater)) for rater in other.raters()}
    expected = sorted(counts, key=lambda rater: (-counts[rater], rater))
    assert default_test_raters(other, ()) == tuple(expected[:5])
    assert default_test_raters(other, expected[:1]) == tuple(expected[1:6])


def test_the_training_ratings_of_a_rater_are_that_raters_alone(corpus):
    split = make_split(corpus, scenario="unseen", fold="fold1")
    for rater in split.train_raters:
        mine = split.ratings_of("train")[rater]
        assert mine == tuple(r for r in split.train if r.rater == rater) != ()
    assert not {*split.test_raters, *split.validation_raters} & set(split.ratings_of("train"))


def test_only_raters_that_drop_out_are_named_as_such(corpus):
    split = make_split(corpus, scenario="unseen", fold="fold1")
    notes = [note.split()[1] for note in split.notes if "does not train" in note]
    training = {r.rater for r in corpus.ratings if not r.utterance.startswith("Ses05")}
    assert notes == [
        r for r in corpus.raters() if r not in training and r not in (*split.test_raters, *split.validation_raters)
    ]
    assert set(notes).isdisjoint(split.train_raters)
    assert make_split(corpus, scenario="seen", fold="fold1").notes == ()


def test_many_raters_that_drop_out_share_one_line():
    raters = [f"r{number}" for number in range(20)]
    assert said_of(raters[:2], lambda rater: f"is {rater}", str) == ["rater r0 is r0", "rater r1 is r1"]
    assert said_of(raters, lambda rater: "", lambda: "are many") == ["20 raters (r0, r1, r2, r3, r4, ...) are many"]


def table(size):
    ratings = [Rating(f"u{number:03}", "a", (CLASSES[number % len(CLASSES)],)) for number in range(size)]
    return LabelTable.from_ratings(ratings, {r.utterance: 2 * row for row, r in enumerate(ratings)}, LABEL_SET, 0.05)


@pytest.mark.parametrize(("rated", "each"), [(40, 8), (16, 8), (11, 5), (3, 1), (2, 1)])
def test_without_csmt_support_and_query_are_k_each_and_disjoint_or_half_of_what_there_is(rated, each):
    data = EpisodicDataset({"a": table(rated)}, shots=8, combined_set=False, seed=1, first_step=1, steps=20)
    for step in range(20):
        batch = data[step]
        used = [set(rows[0, :each].tolist()) for rows in (batch.support_rows, batch.query_rows)]
        assert [len(rows) for rows in used] == [each, each]
        assert used[0].isdisjoint(used[1])
        for targets in (batch.support_targets, batch.query_targets):
            assert (targets[0, :each].sum(1) > 0).all()
            assert (targets[0, each:] == 0).all()
            assert targets.sum() == pytest.approx(8), "a mean over K is the mean over what there is"


def test_a_rater_with_a_single_rating_has_it_as_support_and_query():
    data = EpisodicDataset({"a": table(1)}, shots=4, combined_set=False, seed=1, first_step=1, steps=1)
    assert data[0].support_rows.tolist() == data[0].query_rows.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(("combined_set", "waves"), [(True, 2 * 3), (False, 2 * 2 * 3)])
def test_waveforms_are_those_of_the_support_and_without_csmt_of_the_query_too(combined_set, waves):
    tables = {"a": table(20), "b": table(30)}
    data = EpisodicDataset(
        tables, shots=3, combined_set=combined_set, seed=1, first_step=1, steps=1, audio=lambda utterance: utterance
    )
    batch = data[0]
    rows = [*batch.support_rows.flatten().tolist(), *([] if combined_set else batch.query_rows.flatten().tolist())]
    assert [2 * int(name[1:]) for name in batch.wavs] == rows
    assert len(batch.wavs) == waves


def test_the_pool_of_an_episode_list_does_not_depend_on_the_order_of_its_utterances():
    assert pool_hash(["b", "a", "c"]) == pool_hash(["a", "b", "c"]) != pool_hash(["a", "b"])


def test_ticks_are_counted_by_utterance():
    ticks = np.zeros((2, 9), dtype=int)
    ticks[0, 3], ticks[1, 0], ticks[1, 4] = 2, 1, 1
    assert [np.flatnonzero(row).tolist() for row in ticked(ticks)] == [[3], [0, 4]]
