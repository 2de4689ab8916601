import json

import numpy as np
import pytest
import torch
from synthetic import synthetic_corpus

from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.protocol.episodes import frozen_episodes, make_episodes, shrink_notes
from s3prl_metaperser.protocol.loader import (
    EpisodicDataset,
    FrozenEpisodeDataset,
    LabelTable,
    episodic_loader,
    steps_per_epoch,
)
from s3prl_metaperser.protocol.splits import make_split

REQUEST = {"corpus": "abc", "scenario": "seen", "fold": "fold1", "shots": 32, "queries": 128, "seeds": range(10)}


@pytest.fixture(scope="module")
def split():
    return make_split(synthetic_corpus(), scenario="seen", fold="fold1")


@pytest.fixture(scope="module")
def tables(split):
    rows = {u.id: n for n, u in enumerate(synthetic_corpus().utterances)}
    return {
        rater: LabelTable.from_ratings(split.ratings_of("train")[rater], rows, LABEL_SET, 0.05)
        for rater in split.train_raters
    }


def test_episodes_have_k_and_q_utterances_without_overlap(split):
    rated = {r.utterance for r in split.test}
    for episode in make_episodes(split.test, **REQUEST).episodes:
        assert len(episode.support) == len(set(episode.support)) == 32
        assert len(episode.query) == len(set(episode.query)) == 128
        assert not set(episode.support) & set(episode.query)
        assert set(episode.support) | set(episode.query) <= rated


def test_the_same_request_gives_the_same_episodes_and_another_seed_others(split):
    made = make_episodes(split.test, **REQUEST)
    assert made == make_episodes(split.test[::-1], **REQUEST)
    assert len({episode.support for episode in made.episodes}) == 10
    assert made.key != make_episodes(split.test, **{**REQUEST, "shots": 16}).key


def test_a_rater_with_fewer_than_k_plus_q_keeps_k_and_shrinks_q(split):
    made = make_episodes(split.test[:80], **REQUEST)
    assert {len(e.support) for e in made.episodes} == {32}
    assert {len(e.query) for e in made.episodes} == {48}
    (note,) = shrink_notes([made])
    assert "has 80 rated utterances in seen/fold1, fewer than K + Q = 160: K stays 32, Q shrinks to 48" in note
    assert make_episodes(split.test[:33], **REQUEST).queries_used == 1


def test_a_rater_with_only_k_ratings_is_an_error(split):
    with pytest.raises(UserError, match=r"has 32 rated utterance\(s\).*K=32"):
        make_episodes(split.test[:32], **REQUEST)


def test_lists_are_files_that_are_shared(split, tmp_path):
    made = frozen_episodes(tmp_path, split.test, **REQUEST)
    assert len(list(tmp_path.iterdir())) == 1
    assert frozen_episodes(tmp_path, split.test, **REQUEST) == made


def second(**changes):
    """A change of the second of the episodes in a list's file."""
    return lambda content: {"episodes": [content["episodes"][0], {**content["episodes"][1], **changes}]}


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda content: {"shots": 5}, r"shots 5 instead of 32\): it was edited"),
        (lambda content: {"episodes": content["episodes"][:9]}, "9 episodes instead of 10"),
        (second(query=["u1"]), "seed 1: "),
        (lambda content: second(support=content["episodes"][1]["support"][::-1])(content), "seed 1: the order"),
        (
            lambda content: second(support=["another", *content["episodes"][1]["support"][1:]])(content),
            "seed 1: 2 utterances",
        ),
        (lambda content: dict.fromkeys(content), "not an episode list"),
    ],
)
def test_an_edited_list_is_refused_with_the_difference(split, tmp_path, edit, told):
    frozen_episodes(tmp_path, split.test, **REQUEST)
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **edit(content)}))
    with pytest.raises(UserError, match=told):
        frozen_episodes(tmp_path, split.test, **REQUEST)


def loader(tables, *, skip=0, workers=0, combined=True, audio=None, shots=32):
    steps = 6
    dataset = EpisodicDataset(
        tables, shots=shots, combined_set=combined, seed=7, first_step=1 + skip, steps=steps - skip, audio=audio
    )
    return list(episodic_loader(dataset, workers))


def same(one, other):
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(one[1:], other[1:], strict=True)
    )


def test_resuming_inside_an_epoch_gives_the_batches_that_were_left(tables):
    whole, rest = loader(tables), loader(tables, skip=4)
    assert all(same(a, b) for a, b in zip(whole[4:], rest, strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes:UserWarning")  # where one core is
def test_workers_change_nothing_and_global_random_state_is_left_alone(tables):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    plain = loader(tables)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert all(same(a, b) for a, b in zip(plain, loader(tables, workers=2), strict=True))


def test_every_rater_has_an_episode_of_its_own_labels(tables):
    batch = loader(tables)[0]
    assert batch.raters == list(tables)
    for a, rater in enumerate(batch.raters):
        table = tables[rater]
        place = {row: n for n, row in enumerate(table.rows)}
        for row, target in zip(batch.support_rows[a].tolist(), batch.support_targets[a], strict=True):
            if target.sum() > 0:
                scale = target.sum()
                np.testing.assert_allclose((target / scale).numpy(), table.targets[place[row]], rtol=1e-6)


def test_combined_set_tests_on_the_support_samples(tables):
    batch = loader(tables)[0]
    assert batch.query_rows is batch.support_rows


def test_short_episodes_average_over_the_samples_they_have(tables):
    batch = loader(tables, shots=64)[0]
    for a, rater in enumerate(batch.raters):
        present = batch.support_targets[a].sum(-1) > 0
        assert present.sum() == min(64, len(tables[rater].utterances))
        assert batch.support_targets[a].sum().item() == pytest.approx(64, rel=1e-5)


def test_with_audio_the_first_field_is_s3prls_list_of_waveforms(tables):
    names = {row: u for t in tables.values() for u, row in zip(t.utterances, t.rows, strict=True)}
    batch = loader(tables, audio=lambda u: np.array([float(u[-3:])], dtype=np.float32))[0]
    rows = [
        r for a in range(9) for r, t in zip(batch.support_rows[a], batch.support_targets[a], strict=True) if t.sum()
    ]
    assert [float(w[0]) for w in batch.wavs] == [float(names[int(r)][-3:]) for r in rows]


def test_frozen_episodes_are_loaded_as_one_batch_each(split):
    rows = {u.id: n for n, u in enumerate(synthetic_corpus().utterances)}
    labels = {split.test_raters[0]: LabelTable.from_ratings(split.test, rows, LABEL_SET, 0.05)}
    episodes = make_episodes(split.test, **REQUEST)
    found = list(episodic_loader(FrozenEpisodeDataset([episodes], labels)))
    assert len(found) == 10
    assert found[3].support_rows.tolist() == [[rows[u] for u in episodes.episodes[3].support]]
    assert found[3].query_targets.shape == (1, 128, 9)


def test_an_epoch_draws_each_rating_once_on_average(tables):
    largest = max(len(t.utterances) for t in tables.values())
    assert steps_per_epoch(tables, 32) == -(-largest // 32)
