"""Label sets: what raters may answer, how it is read, counted and decided."""

from __future__ import annotations

import doctest
import importlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from corpora_fixtures import write_wav
from label_set_fixtures import LABELS, RATERS, write_corpus

from s3prl_metaperser.corpora import LABEL_SETS, LabelSet, load_corpus
from s3prl_metaperser.corpora.iemocap import CLASSES, LABEL_SET
from s3prl_metaperser.corpora.label_set import LabelError
from s3prl_metaperser.corpora.label_sets import set_of
from s3prl_metaperser.corpora.validate import format_report, validation_report
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.protocol.loss import class_balanced_weights

SIX = LabelSet("six", "single", ("anger", "disgust", "fear", "happy", "neutral", "sad"))
TEN = LabelSet("ten", "ordinal", levels=tuple(float(level) for level in range(1, 11)))
SHARES = LabelSet("shares", "soft", ("calm", "tense", "cheerful"))


def corpus_of(folder: Path, own: str, *rows: str, header: str = "file,rater,label", **options):
    write_wav(folder / "a.wav")
    write_wav(folder / "b.wav")
    (folder / "ratings.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    if own:
        (folder / "labels.yaml").write_text(own, encoding="utf-8")
    return load_corpus("ratings_csv", folder, **options)


# -- answers to targets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [1, 2, 3])
def test_iemocaps_targets_are_ticks_over_their_number_smoothed_and_decided_above_one_over_c(several):
    for ticks in itertools.combinations(CLASSES, several):
        shares = np.array([float(name in ticks) for name in CLASSES]) / several
        target = LABEL_SET.target(LABEL_SET.counts(ticks), 0.05)
        np.testing.assert_allclose(target, 0.95 * shares + 0.05 * (1 - shares) / 8, rtol=1e-15)
        assert LABEL_SET.decide(target).tolist() == (shares > 0).tolist()


def test_a_number_becomes_the_two_levels_beside_it_whose_mean_it_is():
    assert TEN.counts(3.25).tolist() == [0, 0, 0.75, 0.25, 0, 0, 0, 0, 0, 0]
    numbers = np.random.default_rng(0).uniform(1, 10, 200)
    counts = np.stack([TEN.counts(float(number)) for number in (*numbers, 1.0, 10.0)])
    np.testing.assert_allclose(TEN.value(counts), [*numbers, 1, 10], rtol=1e-12)


def test_smoothing_is_taken_back_from_a_predicted_number():
    numbers = np.linspace(1, 10, 37)
    smoothed = TEN.target(np.stack([TEN.counts(float(number)) for number in numbers]), 0.05)
    np.testing.assert_allclose(TEN.value(smoothed, 0.05), numbers, rtol=1e-12)
    assert abs(TEN.value(smoothed)[0] - 1) > 0.1, "otherwise this test would show nothing"


def test_smoothing_that_leaves_nothing_of_an_answer_is_refused():
    scale = LabelSet("two", "ordinal", levels=(0.0, 1.0))
    assert scale.value(scale.target(scale.counts(1.0), 0.49), 0.49) == pytest.approx(1)
    with pytest.raises(UserError, match=r"Bad value 0\.5 for smoothing, expected below 0\.5 with two's classes"):
        scale.target(scale.counts(1.0), 0.5)


def test_decisions_by_kind():
    p = np.array([[0.25, 0.25, 0.2, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.2, 0.4]])
    assert SIX.decide(p).nonzero()[1].tolist() == [0, 5], "single: the first of the most probable"
    shares = np.array([[0.34, 0.33, 0.33], [1 / 3, 1 / 3, 1 / 3]])
    assert SHARES.decide(shares).tolist() == [[True, False, False], [False, False, False]]
    assert TEN.decide(TEN.counts(6.4)).nonzero()[0].tolist() == [5]
    assert TEN.decide(np.stack([TEN.counts(6.6)])).nonzero()[1].tolist() == [6]
    assert TEN.answered(3 * TEN.counts(6.6)).nonzero()[0].tolist() == [6]


def test_a_perfect_prediction_is_decided_as_the_raters_answer_for_every_registered_set():
    for name in LABEL_SETS.names():
        label_set = LABEL_SETS.get(name)
        assert label_set.name == name
        for index, one in enumerate(label_set.classes):
            answer = label_set.levels[index] if label_set.kind == "ordinal" else (one,)
            target = label_set.target(label_set.counts(answer), 0.05)
            assert label_set.decide(target, 0.05).nonzero()[0].tolist() == [index]


def test_a_scale_has_no_class_weights():
    targets = TEN.target(np.stack([TEN.counts(2.5), TEN.counts(9.0)]), 0.05)
    assert class_balanced_weights(targets, TEN).tolist() == [1.0] * 10


# -- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LABELS)
def test_labels_yaml_beside_ratings_csv_is_the_corpus_label_set(tmp_path, kind):
    corpus = load_corpus("ratings_csv", write_corpus(tmp_path, kind, clips=4, seconds=0.05))
    assert corpus.label_set.kind == kind
    assert corpus.raters() == sorted(RATERS)
    assert len(corpus.ratings) == 20
    for rating in corpus.ratings:
        counts = corpus.label_set.counts(rating.answer)
        assert counts.sum() == pytest.approx(max(1, len(rating.ticks) if kind == "multi" else 1))
    assert not corpus.problems


def test_a_registered_set_or_a_file_by_name(tmp_path):
    corpus = corpus_of(tmp_path, "", "a.wav,x,C", "a.wav,y,Other-odd", "b.wav,x,happy", labels="msp_podcast")
    assert [rating.ticks for rating in corpus.ratings] == [("contempt",), ("happy",)]
    assert corpus.dropped["ticks: other"] == 1
    (tmp_path / "mine.yaml").write_text("{name: mine, kind: single, classes: [contempt, happy], unknown: drop}")
    (tmp_path / "ratings.csv").write_text("file,rater,label\na.wav,x,contempt\nb.wav,x,odd\n")
    mine = load_corpus("ratings_csv", tmp_path, labels="mine.yaml")
    assert mine.classes == ("contempt", "happy")
    assert mine.dropped == {"ratings: no class left": 1, "ticks: unknown label": 1, "utterances: no rating left": 1}
    with pytest.raises(UserError, match=r"Unknown label set 'msp_podcst'\. Did you mean 'msp_podcast'\?.*No such file"):
        load_corpus("ratings_csv", tmp_path, labels="msp_podcst")


def test_merged_labels_are_counted_and_left_out_ones_too(tmp_path):
    own = "name: m\nkind: multi\nclasses: [happy, sad]\nmerges: {excited: happy}\nspellings: {bored: '-', joy: excited}"
    corpus = corpus_of(tmp_path, own, "a.wav,x,excited;sad", "a.wav,y,joy", "b.wav,x,bored", "b.wav,y,bored;sad")
    assert [rating.ticks for rating in corpus.ratings] == [("happy", "sad"), ("happy",), ("sad",)]
    assert corpus.merged == {"excited -> happy": 2}
    assert corpus.dropped == {"ratings: no class left": 1, "ticks: left out by the label set": 2}
    text = format_report(corpus, validation_report(corpus, decode_audio=False))
    for line in (
        f"label set {corpus.label_set}",
        "Merged\n  2  excited -> happy",
        "  2  ticks: left out by the label set",
    ):
        assert line in text


def test_a_number_column_or_a_label_column_holds_the_numbers(tmp_path):
    scale = LABELS["ordinal"]
    for name in ("label", "value"):
        corpus = corpus_of(tmp_path, scale, "a.wav,x,3.5", "b.wav,x,10", header=f"file,rater,{name}")
        assert [(rating.value, rating.ticks) for rating in corpus.ratings] == [(3.5, ("3",)), (10.0, ("10",))]


@pytest.mark.parametrize(
    ("kind", "cell", "message"),
    [
        ("ordinal", "11", r"ratings\.csv:2: '11' is not on the scale \(rater 'x'\)\. Expected one number from 1 to 10"),
        ("ordinal", "0.99", "not on the scale"),
        ("ordinal", "inf", "not on the scale"),
        ("ordinal", "happy", "not on the scale"),
        ("ordinal", "3;4", "not on the scale"),
        ("single", "happy;sad", r"ratings\.csv:2: 2 labels in 'happy;sad' \(rater 'x'\)\..* one label for each rating"),
        ("single", "hapy", r"csv:2: unknown label 'hapy' \(rater 'x'\)\. Did you mean 'happy'\?.*anger, disgust"),
        ("soft", "calm:0.7;tense:0.4", r"ratings\.csv:2: the shares .* sum to 1\.1"),
        ("soft", "calm:-1;tense:2", r"ratings\.csv:2: bad share in 'calm:-1'"),
        ("soft", "calm:x", "bad share"),
        ("soft", "calm;tense", "sum to 2"),
    ],
)
def test_what_is_no_answer_of_the_kind_names_file_and_line(tmp_path, kind, cell, message):
    with pytest.raises(UserError, match=message):
        corpus_of(tmp_path, LABELS[kind], f"a.wav,x,{cell}")


def test_an_unknown_label_without_a_set_says_how_to_bring_one(tmp_path):
    with pytest.raises(UserError, match=r"unknown label 'contempt'.*datarc\.labels.*labels\.yaml beside the table"):
        corpus_of(tmp_path, "", "a.wav,x,contempt")


def test_rows_that_repeat_unite_only_where_several_labels_may_be_ticked(tmp_path):
    with pytest.raises(UserError, match=r"'six' takes one answer for each rating \(kind single\)"):
        corpus_of(tmp_path, LABELS["single"], "a.wav,x,happy", "a.wav,x,sad", duplicates="union")
    assert len(corpus_of(tmp_path, LABELS["single"], "a.wav,x,sad", "a.wav,x,fear", duplicates="first").ratings) == 1


def test_shares_of_what_is_left_out_go_to_the_others(tmp_path):
    cell = SHARES.parse("calm:0.5;other:0.2;tense:0.3")
    assert cell.ticks == ("calm", "tense")
    assert cell.shares == pytest.approx((0.625, 0.375))
    assert SHARES.parse("tense").shares == (1.0,)


def test_a_share_of_zero_is_no_tick_but_its_label_must_be_known(tmp_path):
    cell = SHARES.parse("calm:0;tense:1")
    assert (cell.ticks, cell.shares) == (("tense",), (1.0,))
    assert SHARES.parse("clam:0;tense:1").unknown == ("clam",)


NAMED = """\
name: quality
kind: ordinal
classes: [bad, fair, good]
levels: [-1, 0, 1]
spellings: {poor: bad, 99: "-", n/a: "-"}
merges: {excellent: good}
"""


def test_a_level_may_be_given_by_its_name_or_spelling_and_a_code_for_no_answer_is_left_out(tmp_path):
    rows = (
        "a.wav,v,-1",
        "a.wav,w,Fair",
        "a.wav,x,poor",
        "a.wav,y,excellent",
        "a.wav,z,99",
        "b.wav,x,n/a",
        "b.wav,y,.5",
    )
    corpus = corpus_of(tmp_path, NAMED, *rows)
    assert [(r.ticks, r.value) for r in corpus.ratings] == [
        *((("bad",), -1.0), (("fair",), 0.0), (("bad",), -1.0), (("good",), 1.0)),
        (("fair",), 0.5),
    ]
    assert corpus.merged == {"excellent -> good": 1}
    assert corpus.dropped["ticks: left out by the label set"] == 2
    with pytest.raises(
        UserError, match=r"'awful' is not on the scale \(rater 'x'\)\. Expected one number from -1 to 1"
    ):
        corpus_of(tmp_path, NAMED, "a.wav,x,awful")
    dropping = corpus_of(tmp_path, NAMED + "unknown: drop\n", "a.wav,x,awful", "a.wav,y,0")
    assert dropping.dropped["ticks: unknown label"] == 1
    with pytest.raises(UserError, match="'98' is not on the scale"):
        corpus_of(tmp_path, NAMED + "unknown: drop\n", "a.wav,x,98")


# -- definitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nkind: singel\nclasses: [a, b]", r"labels\.yaml:2: Bad value 'singel' for kind\. Did you"),
        ("name: x\nkind: single\nclasses: [a]", "at least two names"),
        ("name: x\nkind: single\nclasses: [a, a]", "the class 'a' appears twice"),
        ("name: x\nkind: single\nclasses: [a, b]\nspellings: {c: d}", "spellings: 'd' is not a class"),
        ("name: x\nkind: single\nclasses: [happy, sad]\nmerges: {joy: hapy}", "not a class. Did you mean 'happy'"),
        ("name: x\nkind: single\nclasses: [a, b]\nmerges: {a: b}", "so take it out of classes"),
        ("name: x\nkind: ordinal\nlevels: [1, 3, 2]", "ascending"),
        ("name: x\nkind: ordinal\nclasses: [low, high]", "needs levels"),
        ("name: x\nkind: single\nclasses: [a, b]\nlevels: [1, 2]", "levels belong to kind ordinal"),
        ("name: x\nkind: single\nclasses: [a, other]", "go together"),
        ("name: x\nkind: single\nclasses: [a, b]\ncolour: red", r"Unknown key colour"),
        ("kind: single\nclasses: [a, b]", "The key name is missing"),
        ("name: x\nkind: multi\nclasses: [a, 'b;c']", "cannot be the name of a class"),
        ("name: x\nkind: soft\nclasses: [a, 'b:c']", "cannot be the name of a class"),
        ("name: x\nkind: single\nclasses: [a, b]\nspellings: {a: b}", "'a' .* means 'a' and 'b'"),
        ("name: x\nkind: single\nclasses: [a b, A-B]", "'A-B' .* means 'a b' and 'A-B'"),
        ("name: x\nkind: single\nclasses: [a, b]\nmerges: {B: a}", "'B' .* means 'b' and 'B'"),
        ("name: x\nkind: single\nclasses: [a, Other]", "'other' .* means 'Other' and 'other'"),
        ("name: x\nkind: ordinal\nlevels: [1]", "at least two, ascending"),
    ],
)
def test_a_bad_definition_names_the_key(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        corpus_of(tmp_path, text, "a.wav,x,a")


def test_other_may_be_a_class_or_an_error(tmp_path):
    kept = LabelSet("k", "single", ("a", "other"), other="class")
    assert kept.checked("Other-thing").ticks == ("other",)
    refused = LabelSet("r", "single", ("a", "b"), other="error")
    with pytest.raises(LabelError, match="the label 'other'"):
        refused.checked("other")


def test_a_set_survives_storage_and_a_0_1_0_card_means_iemocaps():
    for name in LABEL_SETS.names():
        label_set = LABEL_SETS.get(name)
        assert set_of({"label_set": label_set.as_dict()}) == label_set
    assert set_of({"classes": list(CLASSES)}) is LABEL_SET
    assert set_of({"classes": ["a", "b"]}).kind == "multi"


def test_kind_levels_and_merges_are_part_of_a_corpus_identity(tmp_path):
    rows = ("a.wav,x,happy", "b.wav,x,sad")
    sets = ("kind: multi", "kind: single", "kind: single\nmerges: {joy: happy}")
    found = [corpus_of(tmp_path, f"name: m\nclasses: [happy, sad]\n{more}", *rows).fingerprint() for more in sets]
    assert len(set(found)) == 3
    assert LABEL_SET.identity == {}


@pytest.mark.parametrize(
    "module", ["agreement", "emotions", "label_cells", "label_set", "people", "replicates", "segments"]
)
def test_the_examples_in_the_docstrings_of_the_corpora_hold(module):
    found = doctest.testmod(importlib.import_module(f"s3prl_metaperser.corpora.{module}"))
    assert (found.attempted > 0, found.failed) == (True, 0)
