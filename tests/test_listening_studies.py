"""The listening page as an instrument: what is asked, how it is heard, when it is enough, what it leaves."""

import csv
import json
import re
import string
from types import SimpleNamespace

import numpy as np
import pytest
from listener_fixtures import random_model, write_clips
from scipy import stats
from test_listening_page import Visitor, rows, session_on

from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener import question
from s3prl_metaperser.listener.curve import gained
from s3prl_metaperser.listener.diary import Diary
from s3prl_metaperser.listener.labels import ListenerLabels
from s3prl_metaperser.listener.leave_out import leave_out
from s3prl_metaperser.listener.next_clip import design_gain
from s3prl_metaperser.listener.question import ENGLISH, read_question, shipped
from s3prl_metaperser.listener.session import ListeningSession

CLASSES = LABEL_SET.classes


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("study") / "model")


@pytest.fixture(scope="module")
def recognizer(model):
    return PersonalizedEmotionRecognizer.load(model)


@pytest.fixture
def folder(tmp_path):
    write_clips(tmp_path / "clips", 9)
    return tmp_path / "clips"


@pytest.fixture
def visit(recognizer, folder):
    """Visitors of sessions with the question of a YAML file, or a shipped one."""
    visitors = []

    def opened(text="", every=4, rater=None, name=ENGLISH, **options):
        if text:
            name = folder.parent / "question.yaml"
            name.write_text(text, encoding="utf-8")
        asked = read_question(name, recognizer.label_set)
        session = ListeningSession(recognizer, folder, rater=rater, every=every, asked=asked, **options)
        visitors.append(Visitor(session))
        return visitors[-1]

    yield opened
    for visitor in visitors:
        visitor.close()


def facts(path):
    """file -> its row."""
    with path.open(encoding="utf-8") as handle:
        return {row["file"]: row for row in csv.DictReader(handle)}


# -- hearing -----------------------------------------------------------------------------------------------------------


def test_a_clip_that_was_not_heard_to_its_end_takes_no_label_unless_the_question_allows_it(visit, folder):
    visitor = visit()
    answer, page = visitor.send("/clip/0", ("label", "happy"))
    assert (answer.status, "Not heard to its end yet" in page.decode()) == (400, True)
    visitor.send("/played/clip/0")
    assert visitor.send("/clip/0", ("label", "happy"))[0].status == 400
    assert not (folder / "ratings.csv").exists()
    visitor.send("/ended/clip/0")
    assert "heard ✓" in visitor.page("/clip/0")
    assert visitor.send("/clip/0", ("label", "happy"))[0].status == 303
    free = visit("whole: false\n", rater="ben")
    assert free.send("/clip/0", ("label", "happy"))[0].status == 303


def test_plays_times_and_skips_are_in_the_table_and_the_list_and_survive_a_restart(visit, folder):
    visitor = visit()
    names = visitor.session.clips
    visitor.page("/clip/0")
    for _ in range(2):
        visitor.send("/played/clip/0")
    visitor.tick(0, "happy", "sad")
    visitor.page("/clip/1")
    visitor.send("/played/clip/1")
    answer, _ = visitor.send("/skip/1")
    assert answer.headers["Location"] == "/clip/2"
    for event in ("played/clip/2", "ended/clip/2", "played/clip/3"):  # the last is broken off
        visitor.send(f"/{event}")
    table = facts(folder / "ratings.csv")
    assert (table[names[0]]["label"], table[names[0]]["plays"], table[names[0]]["status"]) == ("sad;happy", "3", "")
    assert 0 <= float(table[names[0]]["response_time"]) < 300
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", table[names[0]]["labelled_at"])
    assert (table[names[1]]["label"], table[names[1]]["plays"], table[names[1]]["status"]) == ("", "1", "skipped")
    marks = r'aria-label="Clip (\d), ([^"]+)"'
    wanted = [("1", "labelled"), ("2", "skipped"), ("3", "heard, not labelled"), ("4", "not heard")]
    assert re.findall(marks, visitor.page("/clip/3"))[:4] == wanted
    again = visit()
    assert again.session.view().skipped == {1}
    assert re.findall(marks, again.page("/clip/3"))[:2] == wanted[:2]
    assert again.send("/clip/1", ("label", "fear"))[0].status == 400, "one play that was broken off is not to the end"
    assert again.send("/clip/0", ("label", "angry"))[0].status == 303, "heard to its end before"
    again.tick(1, "fear")
    assert facts(folder / "ratings.csv")[names[1]]["status"] == ""
    assert again.session.view().skipped == frozenset()


def test_a_reload_does_not_start_the_clock_anew_but_another_clip_and_an_answer_do(monkeypatch):
    diary, now = Diary(), [100.0]
    monkeypatch.setattr("s3prl_metaperser.listener.diary.time", SimpleNamespace(monotonic=lambda: now[0]))

    def seconds(*shown):
        diary.played("clip/0")
        for where in shown:
            now[0] += 3
            diary.opened(where)
        diary.played("clip/0")
        now[0] += 2
        return float(diary.facts("clip/0")["response_time"])

    diary.opened("clip/0")
    assert seconds("clip/0", "clip/0") == 8
    diary.opened("clip/0")
    assert seconds("clip/1", "clip/0") == 2
    diary.opened("clip/0")
    assert seconds() == 2


def test_back_leads_to_the_clip_before_and_what_was_skipped_does_not_come_by_itself(visit):
    visitor = visit("next: random\n")
    visitor.tick(4, "happy")
    visitor.send("/skip/5")
    assert 'id="back" href="/clip/5"' in visitor.page("/clip/6")
    assert 'id="back" href="/clip/4"' in visitor.page("/clip/5")
    for index in (6, 7, 8, 0, 1, 2):
        visitor.tick(index, "sad")
    answer, _ = visitor.tick(3, "sad")
    assert answer.headers["Location"] == "/end"
    assert "8 of 9 clips are labelled" in visitor.page("/end")
    assert visitor.ask("GET", "/")[0].headers["Location"] == "/end"


# -- what is asked -----------------------------------------------------------------------------------------------------


def test_every_language_has_every_word_and_fills_in_the_same(recognizer):
    english = question._shipped(ENGLISH)
    fields = {name: {f for _, f, _, _ in string.Formatter().parse(text) if f} for name, text in english.words.items()}
    assert list(shipped()) == ["english", "german", "mandarin"]
    for language, path in shipped().items():
        found = question._shipped(language)
        assert found.words.keys() == fields.keys(), language
        for name, text in found.words.items():
            assert question.placeholders(text, path, name) == fields[name], (language, name)
        asked = read_question(language, recognizer.label_set)
        assert asked.code == {"english": "en", "german": "de", "mandarin": "zh-Hans"}[language]
        assert len({text for _, text in asked.choices}) == len(CLASSES), "no two classes look alike"


@pytest.mark.parametrize("language", ["german", "mandarin"])
def test_the_page_is_in_the_listeners_language_and_the_table_in_the_models(visit, folder, language):
    visitor = visit(name=language, every=2, rater="eva")
    words = visitor.session.asked
    visitor.settle()
    for index in range(4):
        visitor.tick(index, "angry")
    visitor.settle()
    page = visitor.page("/clip/5?last=3")
    assert f'<html lang="{words.code}">' in page
    for shown in (words.shown["angry"], words.words["save"], words.words["differ"], words.words["curve_you"]):
        assert shown in page
    text = re.sub(r"<[^>]*>|&#?\w+;", " ", page)
    text = text.replace(str(folder / "ratings.csv"), "")
    assert not re.search(r"\b(labels?|clips?|average|listener|predict\w*|heard)\b", text)
    assert {row[2] for row in rows(folder / "ratings.csv")[1:]} == {"angry"}


OWN = """
language: german
title: Stimmen
question: Wie klingt <das>?
labels: {joy: heiter, sad: trüb & grau}
words: {save: Fertig}
autoplay: true
"""


def test_an_experimenters_own_question_offers_its_classes_in_its_words(visit, folder):
    visitor = visit(OWN)
    page = visitor.page("/clip/0")
    assert re.findall(r'name="label" value="(\w+)"', page) == ["happy", "sad"]
    for text in ("Stimmen", "Wie klingt &lt;das&gt;?", "trüb &amp; grau", "Fertig", "data-autoplay="):
        assert text in page
    visitor.tick(0, "happy")
    assert rows(folder / "ratings.csv")[1][2] == "happy"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: {hapy: x, sad: y}", r"question\.yaml: labels: Unknown class 'hapy'\. Did you mean 'happy'"),
        ("labels: {happy: x}", "at least two classes"),
        ("labels: {joy: x, happy: y}", "the same as an earlier one"),
        ("words: {sav: x}", r"words: Unknown word 'sav'\. Did you mean 'save'"),
        ("words: {clip: '{numbr}'}", r"words\.clip: \{numbr\} is filled in by nothing"),
        ("words: {clip: '{number'}", r"words\.clip: .*Write \{\{ for a brace"),
        ("words: {clip: '{number.real}'}", r"is no name"),
        ("language: dutch", r"Unknown language 'dutch'"),
        ("autoply: true", r"Unknown key autoply"),
        ("training: [{file: gone.wav}]", r"training: gone\.wav does not exist"),
        ("next: best", r"question\.yaml:1: Bad value 'best' for next"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_error(tmp_path, text, message):
    (tmp_path / "question.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_question(tmp_path / "question.yaml", LABEL_SET)
    with pytest.raises(UserError, match=r"Unknown question 'germn'\. Did you mean 'german'"):
        read_question("germn", LABEL_SET)


def test_who_does_not_agree_hears_nothing_and_consent_is_written_down_once(visit, folder):
    text = "introduction: Hello.\nconsent: I take part of my own will.\n"
    visitor = visit(text, rater="anna")
    assert "Hello.</p> <p>I take part of my own will." in visitor.page()
    for path in ("/clip/0", "/audio/0", "/labels.csv", "/end", "/news"):
        assert visitor.ask("GET", path)[0].headers["Location"] == "/"
    assert visitor.tick(0, "happy")[0].status == 403
    visitor.send("/agree")
    assert "Clip 1 of 9" in visitor.page(), "what was read above the consent is not shown again"
    (row,) = facts_of_consent(folder)
    assert row["rater"] == "anna"
    assert visit(text, rater="anna").session.agreed
    assert not visit(text, rater="ben").session.agreed
    assert not visit(text.replace("will", "choice"), rater="anna").session.agreed, "another text is another consent"


def facts_of_consent(folder):
    with (folder / "consent.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_practice_comes_first_says_what_most_people_hear_and_is_not_saved(visit, folder):
    write_clips(folder.parent / "practice", 2)
    first = "{file: practice/clip0.wav, answer: joy, say: Listen for the pitch.}"
    text = f"training:\n- {first}\n- {{file: practice/clip1.wav}}\n"
    visitor = visit(text)
    assert 'href="/training/0"' in visitor.page()
    assert "Practice 1 of 2" in visitor.page("/training/0")
    assert visitor.ask("GET", "/training-audio/0")[0].headers["Content-Type"] == "audio/wav"
    assert visitor.send("/training/0", ("label", "sad"))[0].status == 400, "not heard"
    page = visitor.tick(0, "sad", kind="training")[1].decode()
    assert "You heard sad; most people hear happy." in page
    assert "Listen for the pitch." in page
    page = visitor.tick(1, "sad", kind="training")[1].decode()
    assert "You heard sad." in page
    visitor.send("/begin")
    assert "Clip 1 of 9" in visitor.page()
    assert not (folder / "ratings.csv").exists()
    assert visitor.ask("GET", "/training/2")[0].status == 404


# -- breaks, and the same clip again -----------------------------------------------------------------------------------


def test_a_break_is_offered_after_every_few_labels(visit):
    visitor = visit("break_every: 2\n")
    assert visitor.tick(0, "happy")[0].headers["Location"] == "/clip/1?last=0"
    assert visitor.tick(1, "happy")[0].headers["Location"] == "/break"
    page = visitor.page("/break")
    assert "2 of 9 clips are labelled" in page
    assert 'href="/clip/2"' in page


def test_a_clip_comes_again_without_its_first_answer_and_agreement_is_krippendorffs(visit, folder, recognizer):
    visitor = visit("repeat_every: 3\n", every=50)
    given = ["happy", "sad", "happy", "fear", "happy", "angry", "sad", "happy"]
    second = {}
    for index, label in enumerate(given):
        where = visitor.tick(index, label)[0].headers["Location"]
        if where.startswith("/again/"):
            number = int(where.removeprefix("/again/"))
            assert number <= index - 4, "not one that was labelled just now"
            page = visitor.page(where)
            assert "checked" not in page
            assert visitor.session.clips[number] not in page
            second[number] = "sad" if second else given[number]
            visitor.tick(number, second[number], kind="again")
            assert len(second) > 1 or visitor.session.agreement() == (1, 1, None), "one pair has no alpha"
    assert len(second) == 2
    table = facts(folder / "ratings.csv")
    assert {name: row["again"] for name, row in table.items() if row["again"]} == {
        visitor.session.clips[number]: label for number, label in second.items()
    }
    assert all(row["again_plays"] == "1" for row in table.values() if row["again"])
    count, alike, alpha = visitor.session.agreement()
    pairs = [(given[number], label) for number, label in second.items()]
    assert (count, alike) == (2, sum(a == b for a, b in pairs))
    values = [label for pair in pairs for label in pair]
    apart = [(a != b) for a, b in pairs]
    expected = np.mean([a != b for i, a in enumerate(values) for j, b in enumerate(values) if i != j])
    assert alpha == pytest.approx(1 - np.mean(apart) / expected)
    assert visit("repeat_every: 3\n", every=50).session.agreement() == (count, alike, alpha)
    labels = session_on(recognizer, folder, every=50).view().answers
    assert labels == visitor.session.view().answers, "a second answer changes no label"


# -- several listeners -------------------------------------------------------------------------------------------------


def test_several_listeners_have_own_orders_own_keys_and_see_nothing_of_each_other(recognizer, folder):
    from s3prl_metaperser.listener.server import ListeningServer

    shared = {}
    anna, ben = (session_on(recognizer, folder, rater=name, shared=shared) for name in ("anna", "ben"))
    assert sorted(anna.clips) == sorted(ben.clips)
    assert anna.clips != ben.clips
    with ListeningServer(anna, ben) as server:
        keys = [url.partition("key=")[2] for url in server.urls]
        assert len(set(keys)) == 2
        mine, theirs = (server.routes[key] for key in keys)
        mine.post("/clip/0", {"label": ["happy"]})
        theirs.post("/clip/3", {"label": ["fear"]})
        assert anna.view().answers == {0: ("happy",)}
        assert ben.view().answers == {3: ("fear",)}
        assert mine.get("/labels.csv", {}).body.decode().count("anna") == 1
        for path in ("/", "/clip/0", "/news", "/labels.csv"):
            assert b"anna" not in theirs.get(path, {}).body.replace(str(folder).encode(), b"")
        assert mine.token != theirs.token
    assert sorted(row[1:] for row in rows(folder / "ratings.csv")[1:]) == [["anna", "happy"], ["ben", "fear"]]


# -- how far, and what it leaves ---------------------------------------------------------------------------------------


def test_the_curves_are_leave_out_and_movement_at_every_few_labels_and_are_made_again_after_a_restart(
    visit, recognizer, folder
):
    visitor = visit(every=2)
    visitor.settle()
    labels = ["happy", "sad", "fear", "angry", "happy", "sad"]
    for index, label in enumerate(labels):
        visitor.tick(index, label)
    view = visitor.settle()
    assert [point.labels for point in view.curve] == [2, 4, 6]
    paths = [folder / name for name in visitor.session.clips]
    items, given = recognizer.items(paths), ListenerLabels.read(labels, recognizer.label_set)
    own = [recognizer.classes.index(label) for label in labels]
    fit = leave_out(recognizer.model, items[:6], given)
    before = recognizer.predict_proba(paths[:6])
    gain = 100 * (fit.probabilities[np.arange(6), own] - before[np.arange(6), own])
    assert view.curve[-1].gain.mean == pytest.approx(gain.mean(), abs=1e-3)
    half = stats.t.ppf(1 - 0.05 / 4 / 2, 5) * gain.std(ddof=1) / 6**0.5  # four looks until there are K = 8 labels
    assert view.curve[-1].gain.high - gain.mean() == pytest.approx(half, rel=1e-4)
    four, six = (recognizer.adapt(paths[:n], labels[:n]).predict_proba(paths[6:]) for n in (4, 6))
    assert view.curve[-1].moved == pytest.approx(50 * np.abs(six - four).sum(1).mean(), abs=1e-3)
    again = visit(every=2)
    for one, other in zip(again.settle().curve, view.curve, strict=True):
        assert one.gain.mean == pytest.approx(other.gain.mean, abs=1e-6)
    page = visitor.page("/news")
    assert page.count('class="chart"') == 2
    assert page.count("<circle") == 3 + 2


def test_the_intervals_of_a_curve_hold_all_at_once_and_lie_within_what_is_possible():
    labels = ListenerLabels.read(["happy"] * 32, LABEL_SET)
    draw, share, wrong = np.random.default_rng(0), np.zeros((32, 9)), []
    for _ in range(400):  # a listener whom adaptation helps on no clip on average, looked at after every four labels
        after = share.copy()
        after[:, CLASSES.index("happy")] = draw.normal(0, 0.1, 32)
        points = [
            gained(ListenerLabels(LABEL_SET, labels.answers[:n]), after[:n], share[:n], 8) for n in range(4, 33, 4)
        ]
        wrong.append(any(point.low > 0 or point.high < 0 for point in points))
    assert np.mean(wrong) < 0.05, "one look of eight is wrong no more often than a single one"
    ends = gained(ListenerLabels(LABEL_SET, labels.answers[:2]), np.eye(9)[[8, 0]], np.eye(9)[[0, 8]], 8)
    assert (ends.low, ends.high) == (-100, 100)


def test_enough_is_said_at_k_and_my_listener_is_what_adapt_would_save(visit, model, folder, capsys):
    visitor = visit()
    visitor.settle()
    answer, page = visitor.send("/keep", ("name", "mine"))
    assert (answer.status, "Possible from 8 labels on; you have given 0" in page.decode()) == (400, True)
    for index in range(8):
        assert "Enough:" not in (news := visitor.page("/news"))
        assert 'disabled aria-describedby="keep-why">Save my listener</button><span id="keep-why"' in news
        visitor.tick(index, ("happy", "sad")[index % 2])
    visitor.settle()
    assert "Enough: you can save your listener" in visitor.page("/news"), "this model was trained for 8"
    for name in ("../x", ".x", "", "a/b"):
        assert visitor.send("/keep", ("name", name))[0].status == 400
    assert visitor.send("/keep", ("name", "mine"))[0].status == 303
    assert visitor.session.worker.wait(300)
    page = visitor.page("/news")
    assert "Saved: mine" in page
    assert f"predict {folder / 'mine'} more_clips/ --csv" in page
    assert main(["adapt", str(model), "--ratings", str(folder / "ratings.csv"), "--out", str(folder / "other")]) == 0
    cards = [json.loads((folder / name / "card.json").read_text())["listener"] for name in ("mine", "other")]
    assert cards[0] == cards[1]
    assert (folder / "mine/model.safetensors").read_bytes() == (folder / "other/model.safetensors").read_bytes()
    assert visitor.send("/keep", ("name", "mine"))[0].status == 400, "nothing is overwritten"
    capsys.readouterr()


def test_the_next_clip_may_be_the_one_that_tells_the_model_most(visit):
    visitor = visit("next: informative\n", every=50)
    visitor.settle()
    first = int(visitor.tick(0, "happy")[0].headers["Location"].split("/")[-1].partition("?")[0])
    session = visitor.session
    vectors = np.stack([session.worker.items[i].double().mean(0).numpy() for i in range(9)])
    vectors -= vectors.mean(0)
    noise = 0.1 * (vectors**2).sum() / 9

    def doubt(labelled):
        """Sum of the posterior variances of a Bayesian linear model at all clips, by its precision matrix."""
        chosen = vectors[labelled]
        precision = np.eye(vectors.shape[1]) + chosen.T @ chosen / noise
        return np.trace(vectors @ np.linalg.solve(precision, vectors.T))

    wanted = min(range(1, 9), key=lambda index: doubt([0, index]))
    assert first == wanted
    gains = design_gain(vectors, range(1, 9), [0])
    np.testing.assert_allclose(gains, [doubt([0]) - doubt([0, index]) for index in range(1, 9)], rtol=1e-6)


def test_a_scale_keeps_its_own_question_and_names_of_levels(tmp_path):
    scale = LabelSet("fluency", "ordinal", ("bad", "fair", "good"), levels=(1.0, 2.0, 3.0))
    (tmp_path / "question.yaml").write_text("question: How fluent?\nlabels: {bad: poor, fair: so so, good: fine}\n")
    asked = read_question(tmp_path / "question.yaml", scale)
    assert asked.choices == (("bad", "poor"), ("fair", "so so"), ("good", "fine"))
    (tmp_path / "question.yaml").write_text("labels: {bad: poor, good: fine}\n")
    with pytest.raises(UserError, match="of a scale all levels"):
        read_question(tmp_path / "question.yaml", scale)
