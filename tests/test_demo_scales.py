"""The demo's judgements on a scale: arousal, valence and dominance of known truth, from synthesis to the page."""

import json
from itertools import pairwise

import numpy as np
import pytest
from corpora_fixtures import write_wav
from scipy.stats import norm

from s3prl_metaperser.cli import main
from s3prl_metaperser.demo import crowd, reader, scales
from s3prl_metaperser.demo.scale_card import ceilings
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.corpus_card import corpus_card
from s3prl_metaperser.listener.ratings import read_ratings

SETTINGS = {"seed": 0, "utterances": 200}


def labels(variant: str, answer: str, **changes):
    return reader.labels_only({**SETTINGS, "raters": variant, "answer": answer, **changes})


def test_a_level_is_as_probable_as_the_formula_says():
    judge = scales.Judge(0.5, offset=-1.0, stretch=0.7, noise=0.9, lapse=0.2, habit=np.full(7, 1 / 7))
    avd = np.array([[4.0, 2.0, 3.0], [1.5, 4.5, 5.0]])
    heard = scales.heard([judge], "valence", avd)
    assert heard[0] == pytest.approx([1 + 1.5 * (2.0 + 0.5 * 1.0 - 1), 1 + 1.5 * (4.5 - 0.5 * 1.5 - 1)])
    table = scales.probabilities([judge], heard)[0]
    for row, x in zip(table, heard[0], strict=True):
        place = norm(4 + 0.7 * (x - 4) - 1.0, 0.9)
        ends = [-np.inf, *np.arange(1.5, 7), np.inf]
        assert row == pytest.approx([0.8 * (place.cdf(b) - place.cdf(a)) + 0.2 / 7 for a, b in pairwise(ends)])


@pytest.mark.parametrize(
    ("variant", "answer"), [("paper", "valence"), ("crowd", "arousal"), ("misspecified", "dominance")]
)
def test_answers_are_drawn_with_these_probabilities(variant, answer):
    made = scales.scaled(answer, variant, utterances=200, seed=0)
    observed = expected = 0.0
    for at, (name, judge) in enumerate(made.judges.items()):
        turns = [turn for turn in made.turns if name in made.answers[turn.utterance]]
        if at < 20 and turns:
            avd = np.array([turn.avd for turn in turns])
            expected += scales.probabilities([judge], scales.heard([judge], answer, avd, turns))[0].sum(0)
            observed += np.bincount([made.answers[turn.utterance][name] for turn in turns], minlength=8)[1:]
    assert observed == pytest.approx(expected, abs=4 * np.sqrt(expected.sum()) / 2)
    assert sum(observed) == pytest.approx(sum(expected))


def test_the_same_people_rate_the_same_utterances_whatever_they_are_asked():
    by_word, by_level = labels("paper", "emotion"), labels("paper", "valence")
    assert [(r.rater) for r in by_word.ratings] == [r.rater for r in by_level.ratings]
    assert {r.value for r in by_level.ratings} <= set(map(float, scales.LEVELS))
    assert (by_level.label_set.name, by_level.label_set.kind) == ("demo-valence", "ordinal")
    people = crowd.raters_of("crowd", 200, seed=0)
    made = scales.scaled("arousal", "crowd", utterances=200, seed=0)
    assert {n: j.lean for n, j in made.judges.items()} == {n: r.lean for n, r in people.items()}
    other = scales.scaled("valence", "crowd", utterances=200, seed=0)
    assert {n: j.offset for n, j in made.judges.items()} == {n: j.offset for n, j in other.judges.items()}


def test_identical_raters_use_the_scale_alike_and_opposed_ones_upside_down():
    identical, differ = (corpus_card(labels(v, "valence", utterances=450)) for v in ("identical", "crowd"))
    assert abs(identical.varies_with["rater"]) < 0.01
    assert not any(each.measures[0].gain.low > 0 for each in identical.personal)
    assert differ.varies_with["rater"] > 0.1
    assert differ.personal[-1].measures[0].gain.low > 0
    made = scales.scaled("valence", "opposed", utterances=200, seed=0)
    for name, judge in made.judges.items():
        pairs = [(turn.avd[1], made.answers[turn.utterance].get(name)) for turn in made.turns]
        heard, answered = np.array([pair for pair in pairs if pair[1] is not None], dtype=float).T
        assert np.sign(np.corrcoef(heard, answered)[0, 1]) == np.sign(judge.stretch)
    assert {judge.stretch for judge in made.judges.values()} == {1.0, -1.0}


def test_more_answers_of_a_rater_are_worth_more_up_to_the_raters_own_use_of_the_scale(monkeypatch):
    monkeypatch.setattr("s3prl_metaperser.demo.asked.SAMPLE", 400)
    made = scales.scaled("valence", "crowd", utterances=200, seed=0)
    found = ceilings(made, "crowd", seed=0)["by_k"]
    surprisal = [found[key]["surprisal"] for key in ("0", "4", "16", "32", "own")]
    assert surprisal == sorted(surprisal, reverse=True)
    assert surprisal[0] - surprisal[2] > 0.1
    eleven = ceilings(scales.scaled("valence", "paper", utterances=200, seed=0), "paper", seed=0)["by_k"]
    assert eleven["own"]["error"] < 0.8 * eleven["others"]["error"]


def tones(plans, folder, *, workers, done) -> dict[str, int]:
    """In place of the synthesiser, which says the same whatever is asked about it."""
    return {write_wav(folder / each.path).relative_to(folder).as_posix(): 800 for plan in plans for each in plan}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("scales") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s3prl_metaperser.demo.write.render_speakers", tones)
        assert main(["demo-corpus", str(root), "--utterances", "10", "--answer", "arousal"]) == 0
    return root


def test_the_corpus_on_disk_is_what_its_labels_are_without_audio(folder, capsys):
    corpus, without = reader.stored(folder), labels("paper", "arousal", utterances=10)
    assert (corpus.ratings, corpus.label_set) == (without.ratings, without.label_set)
    assert [(u.id, u.speaker, u.session) for u in corpus.utterances] == [
        (u.id, u.speaker, u.session) for u in without.utterances
    ]
    card = json.loads((folder / "demo.json").read_text())
    assert (card["question"], card["settings"]["answer"]) == ("arousal", "arousal")
    assert set(card["ceilings"]["by_k"]) == {"others", "own"}
    assert main(["card", "--corpus", "ratings_csv", "--root", str(folder)]) == 0
    assert "label set demo-arousal (ordinal, 7 levels)" in capsys.readouterr().out


def test_another_question_is_another_corpus(folder):
    with pytest.raises(UserError, match=r"other settings \(answer: stored 'arousal', requested 'valence'\)"):
        reader.read(folder, utterances=10, answer="valence")
    with pytest.raises(UserError, match=r"other settings \(answer: stored 'arousal', requested None\)"):
        reader.read(folder, utterances=10)
    assert reader.home(folder, {**SETTINGS, "raters": "paper", "answer": "emotion"}).name == "paper-200-seed0"
    assert main(["demo-corpus", str(folder / "x"), "--answer", "valance"]) == 2


def test_one_listeners_judgements_of_the_demo_are_read_for_adapting(folder):
    given = read_ratings(folder / "ratings.csv", scales.LABEL_SETS["arousal"], rater="C-E1")
    assert len(given.clips) > 5
    assert all(isinstance(answer, float) for answer in given.labels.answers)
