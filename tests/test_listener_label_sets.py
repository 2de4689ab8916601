"""A listener of a model with other labels than IEMOCAP's: train, export, adapt, predict and listen, by label set."""

import csv
import json

import numpy as np
import pytest
from headless import CHROMIUM, browser
from label_set_fixtures import LABELS, write_corpus
from listener_fixtures import random_model, write_clips
from random_checkpoints import make_checkpoint
from small_demo import train_command
from test_listening_page import Visitor, rows, session_on

from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.folder import read_card
from s3prl_metaperser.listener.labels import ListenerLabels, answer_text
from s3prl_metaperser.listener.leave_out import leave_out
from s3prl_metaperser.listener.session import ListeningSession
from s3prl_metaperser.s3prl_plugin import launcher

KINDS = tuple(LABELS)
SIX = LabelSet("six", "single", ("anger", "disgust", "fear", "happy", "neutral", "sad"), {"joy": "happy"})
SCALE = LabelSet("ten-points", "ordinal", tuple(map(str, range(1, 11))), levels=tuple(map(float, range(1, 11))))
SHARES = LabelSet("shares", "soft", ("calm", "tense", "cheerful"))
#: Kind -> eight labels of a listener, as text.
GIVEN = {
    "single": ["anger", "sad", "joy", "neutral", "fear", "disgust", "happy", "sad"],
    "ordinal": ["1", "3.5", "10", "7", "6.25", "2", "9", "5"],
    "multi": ["contempt", "sad", "angry;contempt", "excited", "neutral", "fear", "happy", "sad"],
    "soft": ["calm:0.7;tense:0.3", "cheerful", "calm:0.5;cheerful:0.5", "tense", "calm", "tense", "calm", "cheerful"],
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Kind -> a corpus of ratings.csv, files.csv and labels.yaml."""
    return {kind: write_corpus(tmp_path_factory.mktemp("corpora") / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def models(corpora, tmp_path_factory):
    """Kind -> the exported model of an experiment on that corpus."""
    folder = tmp_path_factory.mktemp("models")
    for kind, root in corpora.items():
        few = ("downstream_expert.datarc.corpus=ratings_csv", f"downstream_expert.datarc.root={root}")
        few += ("downstream_expert.evalrc.shots=6", "downstream_expert.metarc.shots=6")
        few += ("downstream_expert.evalrc.queries=8", "downstream_expert.initrc.total_steps=4", "runner.total_steps=4")
        assert launcher.main(train_command(folder / f"exp-{kind}", options=few)) == 0
        assert main(["export", str(folder / f"exp-{kind}"), "--out", str(folder / kind)]) == 0
    return {kind: folder / kind for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_carries_the_label_set_of_the_corpus(models, corpora, kind):
    card = json.loads((models[kind] / "card.json").read_text())
    label_set = load_corpus("ratings_csv", corpora[kind]).label_set
    assert card["label_set"] == json.loads(json.dumps(label_set.as_dict()))
    assert card["classes"] == list(label_set.classes)
    assert read_card(models[kind]).label_set == label_set
    assert PersonalizedEmotionRecognizer.load(models[kind]).label_set.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_listener_adapts_and_predicts_in_the_models_own_labels(models, corpora, tmp_path, capsys, kind):
    clips = sorted(corpora[kind].glob("audio/*.wav"))[:8]
    lines = [f"{clip.name},{label}" for clip, label in zip(clips, GIVEN[kind], strict=True)]
    (tmp_path / "mine.csv").write_text("\n".join(["file,label", *lines]) + "\n")
    command = ["adapt", str(models[kind]), "--ratings", str(tmp_path / "mine.csv"), "--root", str(clips[0].parent)]
    system = read_card(models[kind]).system
    assert main([*command, "--out", str(tmp_path / "listener"), "--system", system]) == 0
    assert "cross-validation on the 8 clips (one at a time)" in capsys.readouterr().out
    model, mine = (PersonalizedEmotionRecognizer.load(p) for p in (models[kind], tmp_path / "listener"))
    wanted = model.adapt(clips, GIVEN[kind]).predict_proba(clips)
    np.testing.assert_array_equal(mine.predict_proba(clips), wanted)
    assert not np.array_equal(model.predict_proba(clips), wanted)

    assert main(["predict", str(tmp_path / "listener"), *map(str, clips), "--csv"]) == 0
    (header, *table) = csv.reader(capsys.readouterr().out.splitlines())
    answer = {"multi": "ticked", "single": "label", "soft": "label", "ordinal": "value"}[kind]
    assert header == ["file", *mine.classes, answer]
    shares = np.array([row[1:-1] for row in table], dtype=np.float32)
    np.testing.assert_array_equal(shares, wanted)
    for row, said in zip(shares.astype(np.float64), [row[-1] for row in table], strict=True):
        if kind == "ordinal":
            smoothing, levels = 0.05, np.arange(1, 11)
            kept, added = 1 - smoothing - smoothing / 9, smoothing / 9 * levels.sum()
            assert float(said) == pytest.approx(np.clip((row @ levels - added) / kept, 1, 10))
        elif kind == "single":
            assert said == mine.classes[int(row.argmax())]
        else:
            assert set(said.split(";")) == {
                name for name, share in zip(mine.classes, row, strict=True) if share > 1 / len(row)
            }

    frame = mine.predict(clips)
    assert list(frame.columns) == [*mine.classes, answer]
    if kind == "ordinal":
        np.testing.assert_allclose(frame[answer], [float(row[-1]) for row in table], atol=5e-3)
    else:
        assert [str(value) for value in frame[answer]] == [row[-1] for row in table]
    assert main(["predict", str(tmp_path / "listener"), str(clips[0]), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    assert isinstance(found[answer], {"ordinal": float, "single": str}.get(kind, list))
    assert main(["predict", str(tmp_path / "listener"), str(clips[0])]) == 0
    assert capsys.readouterr().out.startswith(f"{clips[0]}  ")


OUTSIDE = {
    "single": ("surprise", "unknown label 'surprise'. Available: anger, disgust, fear, happy, neutral, sad, other."),
    "ordinal": ("11", "'11' is not on the scale. Expected one number from 1 to 10."),
    "multi": (
        "bored",
        "unknown label 'bored'. Available: angry, sad, happy, surprise, fear, disgust, contempt, neutral",
    ),
    "soft": ("calm:0.7;bored:0.3", "unknown label 'bored'. Available: calm, tense, cheerful, other."),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_outside_the_models_set_is_one_error_that_lists_its_classes(models, corpora, tmp_path, capsys, kind):
    """Also where the corpus's own reader drops unknown labels: a listener's are all meant."""
    clip = next(corpora[kind].glob("audio/*.wav"))
    label, message = OUTSIDE[kind]
    (tmp_path / "mine.csv").write_text(f"file,label\n{clip.name},{label}\n")
    command = ["adapt", str(models[kind]), "--ratings", str(tmp_path / "mine.csv"), "--root", str(clip.parent)]
    assert main([*command, "--out", str(tmp_path / "listener")]) == 2
    told = capsys.readouterr().err
    what, hint = message.split(". ", 1)
    assert f"mine.csv:2: {what} (rater 'listener'). {hint}" in told
    with pytest.raises(UserError) as caught:
        PersonalizedEmotionRecognizer.load(models[kind]).adapt([clip], [label])
    assert str(caught.value).startswith(f"labels[0]: {message}")


def test_a_class_of_the_models_own_wins_over_iemocaps_spelling(tmp_path):
    """CREMA-D's "anger" was looked up as IEMOCAP's "angry", which the model does not have: a traceback."""
    recognizer = PersonalizedEmotionRecognizer.load(random_model(tmp_path / "model", label_set=SIX))
    adapted = recognizer.adapt(write_clips(tmp_path / "clips", 3), ["anger", "ANGER", "joy"])
    assert adapted.listener["ticks"] == {"anger": 2, "disgust": 0, "fear": 0, "happy": 1, "neutral": 0, "sad": 0}


@pytest.mark.parametrize("label_set", [SIX, SCALE, SHARES], ids=lambda label_set: label_set.kind)
def test_a_finetuned_upstream_adapts_to_any_kind_of_label(tmp_path, label_set):
    weights = make_checkpoint("wavlm", tmp_path / "tiny.pt")
    folder = random_model(tmp_path / "model", "wavlm_local", weights, (3, 16), finetuned=True, label_set=label_set)
    recognizer = PersonalizedEmotionRecognizer.load(folder, upstream_ckpt=weights)
    clips, given = write_clips(tmp_path / "clips", 4), GIVEN[label_set.kind][:4]
    labels = ListenerLabels.read(given, label_set)
    fit = leave_out(recognizer.model, recognizer.items(clips), labels, folds=2)
    mine = recognizer.adapt(clips, given)
    after = mine.predict_proba(clips)
    assert after.shape == (4, len(label_set.classes))
    assert np.abs(after - recognizer.predict_proba(clips)).max() > 1e-3
    assert fit.folds == 2
    again = PersonalizedEmotionRecognizer.load(mine.save(tmp_path / "listener"), upstream_ckpt=weights)
    np.testing.assert_array_equal(again.predict_proba(clips), after)


def test_answers_are_counted_and_written_as_given():
    scale = ListenerLabels.read([3, "3.25", 10], SCALE)
    assert scale.answers == (3.0, 3.25, 10.0)
    np.testing.assert_allclose(scale.counts @ np.arange(1, 11), [3, 3.25, 10])
    assert scale.totals() == {**dict.fromkeys(map(str, range(1, 11)), 0), "3": 2, "10": 1}
    shares = ListenerLabels.read([{"calm": 0.75, "tense": 0.25}, ["calm", "cheerful"], "tense"], SHARES)
    np.testing.assert_allclose(shares.counts, [[0.75, 0.25, 0], [0.5, 0, 0.5], [0, 1, 0]])
    assert [answer_text(answer) for answer in (*scale.answers, *shares.answers)] == [
        *("3", "3.25", "10"),
        *("calm:0.75;tense:0.25", "calm:0.5;cheerful:0.5", "tense:1"),
    ]
    for kind, labels in GIVEN.items():
        label_set = {"single": SIX, "ordinal": SCALE, "soft": SHARES}.get(kind)
        if label_set is not None:
            once = ListenerLabels.read(labels, label_set)
            again = ListenerLabels.read(list(map(answer_text, once.answers)), label_set)
            np.testing.assert_allclose(again.counts, once.counts)


@pytest.mark.parametrize(
    ("label_set", "label", "message"),
    [
        (SIX, ["anger", "sad"], "2 labels in 'anger;sad'. This label set takes one label"),
        (SIX, True, "True is not a label. Expected one of anger, disgust"),
        (SIX, "", "'' names no class. Expected one of anger"),
        (SCALE, 0, "'0' is not on the scale. Expected one number from 1 to 10"),
        (SCALE, float("nan"), "nan names no class. Expected a number from 1 to 10"),
        (SCALE, None, "None is not a label. Expected a number from 1 to 10"),
        (SHARES, {"calm": 0.9, "tense": 0.9}, "sum to 1.8"),
        (SHARES, {}, "names no class. Expected shares of calm, tense, cheerful"),
    ],
)
def test_what_is_no_answer_of_the_kind_is_named(label_set, label, message):
    with pytest.raises(UserError, match=rf"labels\[1\]: .*{message}"):
        ListenerLabels.read([GIVEN[label_set.kind][0], label], label_set)


# -- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture
def visit(tmp_path):
    """Label set -> a browser, as far as HTTP goes, on the page of a model with it."""
    visitors = []

    def opened(label_set):
        model = random_model(tmp_path / "model", label_set=label_set)
        write_clips(tmp_path / "clips", 4)
        session = session_on(PersonalizedEmotionRecognizer.load(model), tmp_path / "clips", every=2)
        visitors.append(Visitor(session))
        return visitors[-1]

    yield opened
    for visitor in visitors:
        visitor.close()


def test_one_class_is_chosen_by_radio_buttons_of_the_models_own_classes(visit, tmp_path):
    visitor = visit(SIX)
    page = visitor.page("/clip/0")
    assert page.count('type="radio" name="label"') == 6
    assert 'value="anger"' in page
    assert "frustrated" not in page
    assert "predicted shares of 6 classes" in page
    assert "the largest is the prediction" in page
    for labels, message in (
        ((), "Choose a class"),
        (("anger", "sad"), "takes one label"),
        (("angry!",), "unknown label"),
    ):
        answer, text = visitor.tick(0, *labels)
        assert answer.status == 400
        assert message in text.decode()
    assert not (tmp_path / "clips" / "ratings.csv").exists()
    visitor.tick(0, "anger")
    assert "checked" in visitor.page("/clip/0").split('value="anger"')[1].split(">")[0]
    visitor.tick(1, "sad")
    assert visitor.settle().used == 2
    assert [row[2] for row in rows(tmp_path / "clips" / "ratings.csv")[1:]] == ["anger", "sad"]
    assert "Adapted to 2 of your labels, the model expects you to hear" in visitor.page()


def test_a_number_on_the_scale_is_given_and_predicted_as_a_number(visit, tmp_path):
    visitor = visit(SCALE)
    page = visitor.page("/clip/0")
    assert "Your rating of ten-points, from 1 to 10" in page
    assert 'type="number" name="label" min="1" max="10"' in page
    assert "checkbox" not in page
    assert "probabilities of the 10 levels" in page
    for label, message in (("", "Give a number"), ("11", "not on the scale"), ("much", "not on the scale")):
        answer, text = visitor.tick(0, *[label] * bool(label))
        assert answer.status == 400
        assert message in text.decode()
    visitor.tick(0, "2.5")
    visitor.tick(1, "9")
    view = visitor.settle()
    assert [row[2] for row in rows(tmp_path / "clips" / "ratings.csv")[1:]] == ["2.5", "9"]
    assert view.answers == {0: 2.5, 1: 9.0}
    page = visitor.page("/clip/0")
    assert 'value="2.5"' in page
    assert "You: 2.5." in page
    assert "the model expects your ratings to be" in page or "to rate as the average listener does" in page
    (value,) = visitor.session.recognizer.answers(view.average[0][None])
    assert f"The average listener: {value:.1f}." in page


def test_a_fine_scale_shows_its_many_levels_only_when_asked(visit):
    visitor = visit(LabelSet("percent", "ordinal", tuple(map(str, range(101))), levels=tuple(map(float, range(101)))))
    visitor.settle()
    visitor.tick(0, "62.5")
    assert "<details><summary>Predictions for this clip, in percent</summary>" in visitor.page("/clip/0")


def test_ticks_become_equal_shares_and_the_page_says_so(visit, tmp_path):
    visitor = visit(SHARES)
    assert "ticks share the label equally" in visitor.page("/clip/0")
    visitor.tick(0, "calm", "cheerful")
    assert visitor.session.view().answers[0] == {"calm": 0.5, "cheerful": 0.5}
    assert rows(tmp_path / "clips" / "ratings.csv")[1][2] == "calm:0.5;cheerful:0.5"
    visitor.settle()
    again = ListeningSession(visitor.session.recognizer, tmp_path / "clips", every=9)
    assert again.view().answers == visitor.session.view().answers
    assert "calm 50 %, cheerful 50 %" in visitor.page("/clip/0")


def test_a_session_continues_a_file_whose_numbers_stand_in_a_value_column(tmp_path):
    recognizer = PersonalizedEmotionRecognizer.load(random_model(tmp_path / "model", label_set=SCALE))
    write_clips(tmp_path / "clips", 2)
    (tmp_path / "clips" / "ratings.csv").write_text("file,rater,value\nclip0.wav,anna,4.5\n")
    session = session_on(recognizer, tmp_path / "clips")
    session.label(session.clips.index("clip1.wav"), "7")
    assert rows(tmp_path / "clips" / "ratings.csv") == [
        ["file", "rater", "value"],
        ["clip0.wav", "anna", "4.5"],
        ["clip1.wav", "anna", "7"],
    ]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_in_a_browser_a_rating_is_typed_or_slid_and_a_class_chosen_by_its_key(visit, tmp_path):
    visitor = visit(SCALE)
    visitor.settle()
    with browser() as page:
        page.open(visitor.server.urls[0])
        title = "document.querySelector('#clip-title').textContent"
        first = page.run(title)
        page.press("Enter", "Enter", 13, "\r")
        assert page.run("document.querySelector('#said').textContent") == "Give a number, or skip the clip."
        page.press("7", "Digit7", 55, "7")
        assert page.run("[document.querySelector('#number').value, document.querySelector('#slider').value]") == [
            "7",
            "7",
        ]
        page.press("Enter", "Enter", 13, "\r")
        page.until(f"document.readyState === 'complete' && {title} !== {first!r}")
        page.run("s = document.querySelector('#slider'); s.value = 3; s.dispatchEvent(new Event('input')); 1")
        assert page.run("document.querySelector('#number').value") == "3"
        second = page.run(title)
        page.press("Enter", "Enter", 13, "\r")
        page.until(f"document.readyState === 'complete' && {title} !== {second!r}")
        assert not page.console
    assert [row[2] for row in rows(tmp_path / "clips" / "ratings.csv")[1:]] == ["7", "3"]
