"""What a corpus's ratings say before training, against published figures and brute force."""

import json
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from corpora_fixtures import write_ratings_csv
from label_set_fixtures import write_corpus
from scipy.optimize import minimize

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import Corpus, LabelSet, Rating, Utterance, load_corpus
from s3prl_metaperser.corpora.agreement import (
    krippendorff_alpha,
    others_mean,
    places,
    split_half,
    told,
    variance,
)
from s3prl_metaperser.corpora.alike import Answers
from s3prl_metaperser.demo import crowd, reader
from s3prl_metaperser.evaluation.before_training import QUERIES, SPREADS, fitted_bias, personal
from s3prl_metaperser.evaluation.corpus_card import corpus_card
from s3prl_metaperser.report.corpus_card import card_page, card_text, first_lines
from s3prl_metaperser.seeding import numpy_generator

MISSING = 0
#: Krippendorff, Computing Krippendorff's alpha-reliability (2011), section C and on: four observers, twelve units.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]
#: Shrout and Fleiss, Intraclass correlations (1979), table 2: six targets, four judges.
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def rows(table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(clip, rater, value) of a table [raters][clips] with missing entries."""
    found = [(u, r, x) for r, line in enumerate(table) for u, x in enumerate(line) if x != MISSING]
    clip, rater, value = np.array(sorted(found)).T
    return clip, rater, value


def incomplete(kind: str, clips=30, raters=8, classes=4, seed=0):
    """Answers with holes: (clip, rater, vectors)."""
    draw = np.random.default_rng(seed)
    clip, rater = np.nonzero(draw.random((clips, raters)) < 0.6)
    if kind == "numbers":
        return clip, rater, draw.normal(size=(len(clip), 1)) + clip[:, None] / 10 + rater[:, None] / 4
    if kind == "ticks":
        ticks = (draw.random((len(clip), classes)) < 0.3).astype(float)
        ticks[np.arange(len(clip)), (clip + (draw.random(len(clip)) < 0.3)) % classes] = 1
        return clip, rater, ticks
    return clip, rater, np.eye(classes)[(clip + (draw.random(len(clip)) < 0.4)) % classes]


def corpus_of(clip, rater, answers, label_set, numbers=False) -> Corpus:
    ratings = [
        Rating(f"u{u:05}", f"r{r:04}", (label_set.classes[0],), float(a))
        if numbers
        else Rating(f"u{u:05}", f"r{r:04}", a)
        for u, r, a in zip(clip, rater, answers, strict=True)
    ]
    names = sorted({rating.utterance for rating in ratings})
    utterances = tuple(Utterance(name, Path(name), "s", "", 1.0) for name in names)
    ratings.sort(key=lambda each: (each.utterance, each.rater))
    return Corpus("made", Path("made"), label_set, utterances, tuple(ratings))


# -- agreement --------------------------------------------------------------------------------------------------------


def test_alpha_is_the_published_one():
    clip, _, value = rows(OBSERVERS)
    assert krippendorff_alpha(clip, np.eye(6)[value]) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(clip, value[:, None].astype(float)) == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize("kind", ["single", "ticks", "numbers"])
def test_alpha_is_one_minus_observed_over_expected_disagreement(kind):
    clip, _, values = incomplete(kind)
    several = [np.flatnonzero(clip == u) for u in set(clip) if (clip == u).sum() > 1]
    apart = {
        "single": lambda i, j: float((values[i] != values[j]).any()),
        "ticks": lambda i, j: len(set(np.flatnonzero(values[i])) ^ set(np.flatnonzero(values[j]))),
        "numbers": lambda i, j: (values[i, 0] - values[j, 0]) ** 2,
    }[kind]
    everyone = [i for unit in several for i in unit]
    observed = sum(sum(apart(i, j) for i, j in permutations(unit, 2)) / (len(unit) - 1) for unit in several)
    expected = sum(apart(i, j) for i, j in permutations(everyone, 2)) / (len(everyone) - 1)
    assert krippendorff_alpha(clip, values) == pytest.approx(1 - observed / expected)


def test_the_clips_share_is_the_published_intraclass_correlation():
    clip, rater, value = rows(np.array(JUDGES).T)
    parts = variance(clip, rater, value[:, None].astype(float))
    assert parts.shares["clip"] == pytest.approx(0.29, abs=5e-3)
    table = np.array(JUDGES, dtype=float)
    n, k = table.shape
    total, left = (
        ((table - table.mean()) ** 2).sum(),
        table - table.mean(1, keepdims=True) - table.mean(0) + table.mean(),
    )
    of_clip, of_rater = k * table.mean(1).var(ddof=1), n * table.mean(0).var(ddof=1)
    error = (left**2).sum() / ((n - 1) * (k - 1))
    assert total == pytest.approx(of_clip * (n - 1) + of_rater * (k - 1) + error * (n - 1) * (k - 1))
    assert vars(parts) == pytest.approx({"clip": (of_clip - error) / k, "rater": (of_rater - error) / n, "rest": error})


@pytest.mark.parametrize("kind", ["ticks", "numbers"])
def test_what_answers_vary_with_where_ratings_are_missing(kind):
    clip, rater, values = incomplete(kind)
    halves = {"same clip": [], "same rater": [], "neither": []}
    for i, j in combinations(range(len(clip)), 2):
        name = "same clip" if clip[i] == clip[j] else "same rater" if rater[i] == rater[j] else "neither"
        halves[name].append(((values[i] - values[j]) ** 2).sum() / 2)
    a, b, c = (np.mean(found) for found in halves.values())
    assert vars(variance(clip, rater, values)) == pytest.approx({"clip": c - a, "rater": c - b, "rest": a + b - c})


def test_halves_of_a_raters_ratings_agree_as_by_brute_force():
    draw = np.random.default_rng(1)
    clip, rater = (each.ravel() for each in np.indices((60, 12)))
    habit = draw.normal(size=12)
    values = (habit[rater] * 0.4 + draw.normal(size=len(clip)))[:, None]
    found = []
    for _ in range(80):
        means = [[], []]
        for r in range(12):
            mine = [
                values[i, 0] - values[(clip == clip[i]) & (rater != r), 0].mean() for i in np.flatnonzero(rater == r)
            ]
            order = draw.permutation(60)
            for side in (0, 1):
                means[side].append(np.mean([mine[i] for i in order[side::2]]))
        found.append(np.corrcoef(*means)[0, 1])
    halves = np.mean(found)
    reliability, raters = split_half(clip, rater, values, splits=80)
    assert (reliability, raters) == (pytest.approx(2 * halves / (1 + halves), abs=0.05), 12)


def test_what_a_rater_tells_is_measured_against_shuffled_answers():
    clip, rater, values = incomplete("ticks", clips=40)
    own = values / values.sum(1, keepdims=True)
    others = others_mean(clip, own)
    found = told(clip, rater, values)
    draw = np.random.default_rng(0)
    for r in range(3):
        mine = np.flatnonzero((rater == r) & np.isfinite(others).all(1))
        agree = (own[mine] * others[mine]).sum()
        shuffled = [(own[draw.permutation(mine)] * others[mine]).sum() for _ in range(10_000)]
        assert found.known[r] == len(mine)
        assert found.score[r] == pytest.approx((agree - np.mean(shuffled)) / np.std(shuffled), rel=0.03)
        chance = np.mean(shuffled) / len(mine)
        assert found.agreement[r] == pytest.approx((agree / len(mine) - chance) / (1 - chance), rel=0.03)


def test_on_a_scale_a_rater_tells_by_the_correlation_with_the_others():
    clip, rater, values = incomplete("numbers", clips=40)
    others = others_mean(clip, values)[:, 0]
    mine = np.flatnonzero((rater == 2) & np.isfinite(others))
    found = told(clip, rater, values, numbers=True)
    correlation = np.corrcoef(values[mine, 0], others[mine])[0, 1]
    assert found.agreement[2] == pytest.approx(correlation)
    assert found.score[2] == pytest.approx(correlation * np.sqrt(len(mine) - 1))


# -- before training ---------------------------------------------------------------------------------------------------


def test_a_bias_is_the_most_probable_one():
    draw = np.random.default_rng(0)
    logs = np.log(draw.dirichlet(np.ones(4), (3, 6)))
    given = np.eye(4)[draw.integers(4, size=(3, 6))]
    given[0, 0] = (0.5, 0.5, 0, 0)
    for spread in (0.25, 2.0):

        def energy(bias, r, spread=spread):
            p = np.exp(logs[r] + bias)
            return -(given[r] * np.log(p / p.sum(1, keepdims=True))).sum() + (bias**2).sum() / (2 * spread**2)

        best = [minimize(energy, np.zeros(4), args=(r,), tol=1e-10).x for r in range(3)]
        np.testing.assert_allclose(fitted_bias(logs, given, spread), best, atol=1e-4)


def test_what_answers_on_a_scale_are_worth_by_brute_force():
    clip, rater, values = incomplete("numbers", clips=40, raters=5)
    levels = np.arange(-4.0, 12.0)
    counts = np.stack([np.interp(np.arange(16), np.arange(16), np.eye(16)[0]) for _ in values])
    for row, x in zip(counts, values[:, 0], strict=True):
        low = int(np.floor(x)) + 4
        row[:] = 0
        row[low], row[low + 1] = 1 - (x + 4 - low), x + 4 - low
    answers = Answers(tuple("abcde"), clip, rater, np.arange(len(clip)), counts, levels)
    (found,) = personal(answers, shots=(4,), draws=2)
    others = others_mean(clip, values)[:, 0]
    known = np.flatnonzero(np.isfinite(others))
    slope, start = np.polyfit(others[known], values[known, 0], 1)
    left = values[:, 0] - (start + slope * others)
    deviation = left[known].std()
    able = [r for r in range(5) if (rater[known] == r).sum() >= 4 + QUERIES]
    kept = known[np.isin(rater[known], able)]
    errors = np.zeros((len(SPREADS), len(able)))
    without = np.zeros(len(able))
    for draw in range(2):
        place = places(np.searchsorted(able, rater[kept]), numpy_generator("card", "answers", draw))
        for at, r in enumerate(able):
            mine = rater[kept] == r
            given, asked = left[kept[mine & (place < 4)]], left[kept[mine & (place >= 4)]]
            without[at] += np.abs(asked).mean() / 2
            for s, spread in enumerate(SPREADS):
                offset = given.sum() / (4 + (deviation / (spread * deviation)) ** 2)
                errors[s, at] += np.abs(asked - offset).mean() / 2
    best = [min(range(len(SPREADS)), key=lambda s, r=r: np.delete(errors[s], r).sum()) for r in range(len(able))]
    chosen = [errors[s, at] for at, s in enumerate(best)]
    distance = found.measures[0]
    assert (found.raters, distance.name) == (len(able), "distance")
    assert distance.without.mean == pytest.approx(without.mean())
    assert distance.gain.mean == pytest.approx((without - chosen).mean())


@pytest.fixture(scope="module")
def crowds():
    options = {"seed": 0, "utterances": 900}
    return {name: corpus_card(reader.labels_only({**options, "raters": name})) for name in ("crowd", "crowd-identical")}


def test_the_card_finds_the_truth_of_the_crowds(crowds):
    differ, identical = crowds["crowd"], crowds["crowd-identical"]
    gains = [each.measures[0].gain for each in differ.personal]
    assert [each.shots for each in differ.personal] == [4, 8, 16, 32]
    assert all(gain.low > 0 for gain in gains)
    assert gains == sorted(gains, key=lambda gain: gain.mean)
    assert not any(each.measures[0].gain.low > 0 for each in identical.personal)
    assert differ.lasting > 0.6 > 0.2 > identical.lasting
    assert differ.varies_with["rater"] > 0.03 > 0.003 > abs(identical.varies_with["rater"])
    truth = {name for name, rater in crowd.raters_of("crowd", 900, seed=0).items() if rater.type < 0}
    assert truth
    assert truth <= set(differ.tell_nothing)
    assert len(set(differ.tell_nothing) - truth) <= 4
    assert differ.alpha == pytest.approx(0.27, abs=0.03)


def test_ten_lines_say_what_was_found(crowds):
    differ, identical = (first_lines(crowds[name]) for name in ("crowd", "crowd-identical"))
    assert len(differ) == len(identical) == 10
    assert "8,100 ratings of 900 clips by 200 raters; label set demo-crowd (single, 6 classes)" in differ[0]
    assert "worth of 32 own answers: there is something to personalise: +0." in differ[8]
    assert "no gain is told from zero" in identical[8]
    assert "do habits last? raters differ in a lasting way" in differ[7]
    assert "do habits last? they do not" in identical[7]
    assert "agree no more than if their answers were shuffled: r0" in differ[9]


def test_no_sentence_contradicts_its_interval_or_adds_up_to_more_than_all(crowds):
    card = crowds["crowd-identical"]
    last, parts = card.personal[-1], {"clip": -0.05, "rater": 0.01, "rest": 1.04}
    right = replace(last.measures[1], gain=replace(last.measures[1].gain, mean=0.06, low=0.01, high=0.11))
    few = replace(last, measures=(last.measures[0], right))
    said = "\n".join(first_lines(replace(card, personal=(few,), varies_with=parts)))
    assert "no gain is told from zero, though more answers are right: " in said
    assert "the clip to 0%, with the rater's habit on any clip to 1.0%; the rest, 99%, is" in said


def test_the_page_shows_names_as_text_and_nothing_runs_in_it(crowds):
    labels = LabelSet("<b>", "single", ("a", "b"))
    clip, rater, values = incomplete("single", classes=2)
    card = corpus_card(corpus_of(clip, rater, [("ab"[k],) for k in values.argmax(1)], labels))
    text = card_page(card)
    assert "<b>" not in text.replace("&lt;b&gt;", "")
    assert text.count("<script") == 1, "the page's own, which its policy names by hash"
    assert "Own answers that are known" in card_page(crowds["crowd"])
    assert "The first 20 of 200; --json has all." in card_text(crowds["crowd"])


def test_what_is_published_of_raters_is_a_table_of_kinds():
    labels = LabelSet("ab", "single", ("a", "b"))
    clip, rater, values = incomplete("single", raters=12, classes=2)
    corpus = corpus_of(clip, rater, [("ab"[k],) for k in values.argmax(1)], labels)
    traits = {name: {"gender": "fm"[at % 2], "age": str(at)} for at, name in enumerate(corpus.raters())}
    card = corpus_card(replace(corpus, traits=traits))
    means = [np.mean([card.by_rater[name]["agreement"] for name in corpus.raters()[at::2]]) for at in (0, 1)]
    assert card.by_trait == {
        "gender": {v: {"raters": 6, "agreement": pytest.approx(m, abs=1e-5)} for v, m in zip("fm", means, strict=True)}
    }
    assert "Kinds of raters" in card_page(card)


# -- any corpus --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["single", "multi", "soft", "ordinal"])
def test_every_kind_of_label_has_a_card(tmp_path, kind, capsys):
    write_corpus(tmp_path, kind)
    command = ["card", "--corpus", "ratings_csv", "--root", str(tmp_path)]
    assert main([*command, "--html", str(tmp_path / "card.html")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main([*command, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["kind"], card["clips"], card["raters"], card["ratings"]) == (kind, 24, 5, 120)
    assert 0 < card["alpha"] < 1
    assert [each["shots"] for each in card["personal"]] == [4, 8, 16]
    assert sum(card["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert main(["validate", "--corpus", "ratings_csv", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-10:] == lines[:10]
    assert (tmp_path / "card.html").read_text().startswith("<!DOCTYPE html>")


def test_the_demo_has_a_card_without_a_folder(capsys):
    command = ["card", "--corpus", "demo", "--option", "utterances=40", "--option"]
    assert main([*command, "answer=valence"]) == 0
    assert "of 40 clips by 11 raters; label set demo-valence" in capsys.readouterr().out
    assert main([*command, "raters=crowds"]) == 2
    assert "crowd" in capsys.readouterr().err
    assert main(["card", "--corpus", "ratings_csv"]) == 2
    assert "Corpus 'ratings_csv' needs its folder. Name it: --root DIR." in capsys.readouterr().err


def test_the_options_of_reading_are_those_of_validate(tmp_path, capsys):
    write_ratings_csv(tmp_path, "file,rater,label\n1.wav,anna,happy\n1.wav,anna,sad\n1.wav,ben,glum\n")
    command = ["card", "ratings_csv", "--root", str(tmp_path)]
    assert main(command) == 2
    assert "--duplicates union or first" in capsys.readouterr().err
    assert main([*command, "--duplicates", "union", "--unknown-labels", "drop"]) == 0
    assert "1 ratings of 1 clips by 1 raters" in capsys.readouterr().out


@pytest.mark.parametrize(
    "table",
    [
        "1.wav,anna,happy\n",
        "1.wav,anna,happy\n2.wav,ben,sad\n3.wav,cat,happy\n",
        "1.wav,anna,happy\n1.wav,ben,happy\n1.wav,cat,happy\n2.wav,anna,happy\n2.wav,ben,happy\n",
    ],
)
def test_what_cannot_be_said_is_said_so(tmp_path, table):
    corpus = load_corpus("ratings_csv", write_ratings_csv(tmp_path, f"file,rater,label\n{table}"))
    card = corpus_card(corpus)
    assert (card.alpha, card.lasting, card.personal, card.tell_nothing) == (None, None, (), ())
    assert " ".join(first_lines(card)).count("cannot be said") >= 2
    json.dumps(card.as_json(), allow_nan=False)
    card_page(card)
