import dataclasses

import pytest
from synthetic import EXTERNAL, synthetic_corpus

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.base import Rating, Suggestions
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.protocol.loader import LabelTable
from s3prl_metaperser.protocol.splits import check_leakage, make_split
from s3prl_metaperser.run.workspace import Workspace

FOLDS = [f"fold{number}" for number in range(1, 6)]


@pytest.fixture(scope="module")
def corpus():
    return synthetic_corpus()


@pytest.mark.parametrize("scenario", ["seen", "unseen"])
@pytest.mark.parametrize("fold", FOLDS)
def test_consensus_never_contains_the_test_or_validation_raters_ticks(corpus, scenario, fold):
    split = make_split(corpus, scenario=scenario, fold=fold)
    held_out = {*split.test_raters, *split.validation_raters}
    blind = dataclasses.replace(corpus, ratings=tuple(r for r in corpus.ratings if r.rater not in held_out))
    allowed = {}
    for rating in blind.ratings:
        if scenario == "seen" or not rating.utterance.startswith("Ses05"):
            allowed.setdefault(rating.utterance, []).extend(rating.ticks)
    pooled = LabelTable.from_ratings(split.train, dict.fromkeys(allowed, 0), corpus.label_set, 0.05)
    assert pooled.utterances == tuple(sorted(allowed))
    counted = [[allowed[utterance].count(name) for name in corpus.classes] for utterance in pooled.utterances]
    assert pooled.counts.tolist() == counted


def test_test_raters_and_cyclic_validation_raters_are_the_papers(corpus):
    splits = [make_split(corpus, scenario="seen", fold=fold) for fold in FOLDS]
    assert tuple(r for s in splits for r in s.test_raters) == EXTERNAL
    assert tuple(r for s in splits for r in s.validation_raters) == (*EXTERNAL[1:], EXTERNAL[0])
    assert all(len(s.train_raters) == 9 for s in splits)


def test_unseen_touches_nothing_of_session_five_before_meta_testing(corpus):
    split = make_split(corpus, scenario="unseen", fold="fold1")
    assert all(not r.utterance.startswith("Ses05") for r in (*split.train, *split.validation))
    assert all(r.utterance.startswith("Ses05") for r in split.test)
    assert "C-M5" not in split.train_raters
    assert any("C-M5" in note for note in split.notes), "a rater that drops out is named"


def test_seen_shares_utterances_but_not_raters(corpus):
    split = make_split(corpus, scenario="seen", fold="fold1")
    assert {r.utterance for r in split.test} <= {r.utterance for r in split.train}
    assert len(split.test) == len(corpus.ratings_of("C-E1"))


def test_the_sixth_observer_takes_no_part_and_is_counted():
    corpus = synthetic_corpus(with_e3=True)
    split = make_split(corpus, scenario="seen", fold="fold1")
    assert "C-E3" not in split.train_raters
    assert len(split.train_raters) == 9
    assert f"{len(corpus.ratings_of('C-E3'))} ratings left out" in " ".join(split.notes)


@pytest.mark.parametrize(
    "leak",
    [
        lambda s: {"train": (*s.train, s.test[0])},
        lambda s: {"train": (*s.train, s.validation[0])},
        lambda s: {"train": (*s.train[:-1], dataclasses.replace(s.train[-1], ticks=("fear", "sad", "happy")))},
        lambda s: {"validation_raters": s.test_raters},
        lambda s: {"train": (*s.train, Rating(s.test[0].utterance, s.train_raters[0], ("sad",)))},
        lambda s: {"train_raters": s.train_raters[1:]},
    ],
)
def test_leakage_check_finds_every_kind_of_leak(corpus, leak):
    split = make_split(corpus, scenario="unseen", fold="fold2")
    check_leakage(corpus, split)
    with pytest.raises(AssertionError):
        check_leakage(corpus, dataclasses.replace(split, **leak(split)))


@pytest.mark.parametrize(("named", "session"), [("auto", "Ses04"), ("Ses02", "Ses02")])
def test_a_session_held_out_for_validation_is_not_trained_on_and_nothing_else_validates(corpus, named, session):
    shared = make_split(corpus, scenario="unseen", fold="fold2")
    split = make_split(corpus, scenario="unseen", fold="fold2", validation_session=named)
    assert {r.utterance[:5] for r in split.validation} == {session}
    assert not [r for r in split.train if r.utterance.startswith(session)]
    assert split.train == tuple(r for r in shared.train if not r.utterance.startswith(session))
    assert split.test == shared.test
    for leak in ({"train": shared.train, "train_raters": shared.train_raters}, {"validation": shared.validation}):
        with pytest.raises(AssertionError, match="validation"):
            check_leakage(corpus, dataclasses.replace(split, **leak))


@pytest.mark.parametrize("role", ["train", "validation"])
def test_a_test_session_utterance_that_the_test_rater_did_not_rate_is_a_leak_too(corpus, role):
    split = make_split(corpus, scenario="unseen", fold="fold2")
    rater = split.train_raters[0] if role == "train" else split.validation_raters[0]
    leaked = next(u for u in corpus.ratings_of(rater) if u.startswith("Ses05"))
    rating = Rating(leaked, rater, corpus.ratings_of(rater)[leaked])
    test = tuple(r for r in split.test if r.utterance != leaked)
    check_leakage(corpus, dataclasses.replace(split, test=test))
    with pytest.raises(AssertionError, match="Ses05"):
        check_leakage(corpus, dataclasses.replace(split, test=test, **{role: (*getattr(split, role), rating)}))


def test_corpora_with_other_raters_test_the_five_that_rated_most():
    corpus = synthetic_corpus(raters=("C-E1", "C-E2", "C-E4", "C-F1"))
    split = make_split(corpus, scenario="seen", fold="fold4")
    assert split.test_raters == ("C-F1",)
    assert split.validation_raters == ("C-E1",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": "fold6"}, "Unknown fold 'fold6'"),
        ({"scenario": "sen"}, "Did you mean 'seen'"),
        ({"test_raters": ["C-E1", "C-E9"]}, "Unknown rater 'C-E9'"),
        ({"test_raters": ["C-E1", "C-E2"], "exclude_raters": ["C-E2"]}, "both test_raters and exclude_raters"),
        ({"scenario": "unseen", "test_sessions": ["Ses06"]}, "Unknown session 'Ses06'"),
        ({"validation_session": "auto"}, "is for the unseen scenario"),
        ({"scenario": "unseen", "validation_session": "Ses05"}, "Unknown session to hold out for validation 'Ses05'"),
        (
            {"scenario": "unseen", "test_sessions": [f"Ses0{n}" for n in range(2, 6)], "validation_session": "auto"},
            "leaves no session to train on",
        ),
    ],
)
def test_wrong_requests_name_what_is_wrong(corpus, options, message):
    with pytest.raises(UserError, match=message):
        make_split(corpus, **{"scenario": "seen", "fold": "fold1", **options})


@pytest.mark.parametrize("raters", [("C-E1",), ("C-E1", "C-E2")])
def test_too_few_raters_is_one_clear_error(raters):
    with pytest.raises(UserError, match="needs at least 3 raters"):
        make_split(synthetic_corpus(raters=raters), scenario="seen", fold="fold1")


def test_a_corpus_that_suggests_no_test_sessions_is_asked_for_them():
    corpus = dataclasses.replace(synthetic_corpus(), suggested=Suggestions())
    with pytest.raises(UserError, match=r"suggests no test sessions.* Set datarc\.test_sessions to some of: Ses01"):
        make_split(corpus, scenario="unseen", fold="fold1", exclude_raters=())


def test_what_a_corpus_suggests_is_tested_on_and_stands_in_the_options_of_the_run(tmp_path):
    corpus = dataclasses.replace(synthetic_corpus(), suggested=Suggestions(test_sessions=("Ses02",)))
    options = Options.from_config({"downstream_expert": {"datarc": {"scenario": "unseen", "cache_dir": str(tmp_path)}}})
    workspace = Workspace(options, corpus)
    assert {corpus.utterance(r.utterance).session for r in workspace.split.test} == {"Ses02"}
    assert workspace.options.downstream_expert.datarc.test_sessions == ("Ses02",)


def test_unseen_without_sessions_says_what_to_add():
    corpus = synthetic_corpus()
    flat = dataclasses.replace(corpus, utterances=tuple(dataclasses.replace(u, session="") for u in corpus.utterances))
    with pytest.raises(UserError, match=r"files\.csv"):
        make_split(flat, scenario="unseen", fold="fold1")
