"""The demo's crowd: hundreds of raters whose perception is known."""

import json
from collections import Counter

import numpy as np
import pytest

from s3prl_metaperser.cli import main
from s3prl_metaperser.demo import crowd, reader
from s3prl_metaperser.demo.crowd_card import ceilings
from s3prl_metaperser.demo.script import write_script


@pytest.fixture(scope="module", params=list(crowd.POPULATIONS))
def made(request):
    turns = write_script(crowd.intended_prior(), seed=0, utterances=900)
    raters = crowd.raters_of(request.param, len(turns), seed=0)
    return request.param, turns, raters, crowd.draw_answers(raters, turns, seed=0)


def test_raters_agree_as_the_variant_promises(made):
    variant, _, _, answers = made
    low, high = {"crowd": (0.24, 0.31), "crowd-strong": (0.14, 0.22), "crowd-identical": (0.59, 0.68)}[variant]
    assert low < crowd.alpha(answers) < high


def test_every_utterance_has_nine_raters_and_every_rater_about_forty_utterances(made):
    _, turns, raters, answers = made
    assert {len(given) for given in answers.values()} == {9}
    rated = Counter(name for given in answers.values() for name in given)
    assert set(rated) == set(raters)
    assert max(rated.values()) - min(rated.values()) <= 1
    assert 40 <= min(rated.values()) <= 41
    assert len(answers) == len(turns)


def test_ceilings_rise_with_k_where_raters_differ_and_stay_where_they_do_not(made):
    variant, turns, raters, answers = made
    scores = ceilings(crowd.POPULATIONS[variant], dict(list(raters.items())[:60]), turns, answers)["by_k"]
    nats = [scores[key]["surprisal"] for key in ("0", "4", "16", "32", "own")]
    if variant == "crowd-identical":
        assert np.ptp(nats) < 1e-9
    else:
        assert nats == sorted(nats, reverse=True)
        assert nats[0] - nats[3] > 0.1


def test_alpha_is_that_of_its_definition():
    answers = {"a": {"1": "sad", "2": "sad"}, "b": {"1": "sad", "2": "happy"}, "c": {"1": "happy", "2": "happy"}}
    # coincidences: 2 sad-sad, 1 sad-happy each way, 2 happy-happy; of 6 values 3 are sad: expected 2 * 3 * 3 / 5
    assert crowd.alpha({**answers, "alone": {"1": "fear"}}) == pytest.approx(1 - (2 / 6) / (2 * 3 * 3 / (6 * 5)))


def test_probabilities_are_those_of_the_formula():
    turns = write_script(crowd.intended_prior(), seed=0, utterances=10)
    rater = crowd.raters_of("crowd", 10, seed=0)["r0003"]
    a, v, d = turns[4].avd
    heard = np.array([a, v + rater.lean * (a - 3), d])
    centres = {"angry": [4.3, 1.7, 4.3], "disgust": [2.7, 1.5, 3.9], "fear": [3.9, 1.8, 1.6]}
    centres |= {"happy": [3.0, 4.4, 3.4], "neutral": [2.4, 3.2, 3.1], "sad": [1.8, 2.0, 1.9]}
    logits = [
        rater.bias[c] - rater.sharpness * float(rater.weights @ (np.array(centre) - heard) ** 2)
        for c, centre in enumerate(centres.values())
    ]
    expected = (1 - rater.lapse) * np.exp(logits) / np.exp(logits).sum() + rater.lapse * rater.habit
    np.testing.assert_allclose(crowd.probabilities([rater], np.array([turns[4].avd]))[0, 0], expected, rtol=1e-12)


def test_the_corpus_on_disk_is_read_as_its_labels_say(tmp_path, capsys):
    folder = tmp_path / "crowd"
    assert main(["demo-corpus", str(folder), "--raters", "crowd", "--utterances", "10"]) == 0
    assert f"--corpus ratings_csv --root {folder}" in capsys.readouterr().out
    options = {"raters": "crowd", "utterances": 10, "seed": 0}
    read, labels = reader.read(folder, **options), reader.labels_only(options)
    assert read.fingerprint() == labels.fingerprint()
    assert read.label_set == crowd.LABEL_SET
    assert [u.id for u in read.utterances] == [u.id for u in labels.utterances]
    assert {u.session for u in read.utterances} == {f"Ses0{n}" for n in range(1, 6)}
    card = json.loads((folder / "demo.json").read_text())
    assert {name: r["rated"] for name, r in card["raters"].items()} == Counter(r.rater for r in read.ratings)
    assert main(["validate", "--corpus", "ratings_csv", "--root", str(folder)]) == 0
