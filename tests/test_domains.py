"""Domain generalisation: who trains, who is tested, what leaks, and a cell from its options to its result."""

import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch
from domain_fixtures import FIVE, nats, options, run, several, vectors

from s3prl_metaperser.corpora.contents import Contents
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.generalise.standardising import standardized
from s3prl_metaperser.protocol.domains import domains_of, held_apart, make_domain_split, refuse_domain_leaks, scenarios
from s3prl_metaperser.run.opened import Checkpoint
from s3prl_metaperser.run.settings import UpstreamOptions
from s3prl_metaperser.storage.checkpoints import read_checkpoint


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return several(tmp_path_factory.mktemp("several"))


@pytest.fixture(scope="module")
def file(corpus, tmp_path_factory):
    return vectors(corpus, tmp_path_factory.mktemp("vectors") / "vectors.npz")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path / "cache"))
    return tmp_path


# -- who trains and who is tested ----------------------------------------------------------------------------------


def test_the_seven_scenarios_are_those_that_the_weighted_means_of_table_three_identify():
    weights = {"iemocap": 3865, "ravdess": 960, "tess": 2000, "cafe": 720, "emodb": 375, "shemo": 1747, "aesdd": 604}
    rows = {
        "Deep-All": ([26.95, 43.40, 47.03, 43.16, 60.65, 31.54, 40.19], 36.70),
        "RSC": ([32.36, 44.78, 43.77, 39.97, 56.69, 40.70, 40.27], 39.17),
        "MLDG": ([27.61, 38.86, 46.29, 42.57, 60.45, 37.87, 34.51], 36.47),
        "DA-MLDG": ([31.35, 39.41, 46.80, 43.21, 62.26, 38.79, 37.11], 38.51),
    }
    targets = [scenarios()[f"scn{number}"].target for number in range(1, 8)]
    for accuracies, printed in rows.values():
        assert np.average(accuracies, weights=[weights[name] for name in targets]) == pytest.approx(printed, abs=0.015)
    targets[4] = scenarios()["scn5_printed"].target
    assert np.average(rows["DA-MLDG"][0], weights=[weights[name] for name in targets]) > 38.51 + 0.3
    assert all(each.target not in each.sources for each in scenarios().values())


def test_a_scenario_names_its_corpora_and_says_what_is_not_at_hand():
    known = ["a", "b", "c"]
    assert domains_of("rest:b", known).sources == ("a", "c")
    assert domains_of("pair:c:a", known) == domains_of("mine", known, ["c"], "a")
    for scenario, message in (
        ("rest:d", "needs the corpus 'd', which is not at hand: a, b, c are"),
        ("scn1", "needs the corpus 'ravdess'"),
        ("scn9", "Unknown scenario 'scn9'"),
        ("pair:a:a:b", "Unknown scenario"),
    ):
        with pytest.raises(UserError, match=message):
            domains_of(scenario, known)
    with pytest.raises(UserError, match="'a' is a source, too"):
        domains_of("mine", known, ["a", "b"], "a")


def test_own_sources_do_not_go_by_the_name_of_a_scenario_with_others(corpus):
    given = {"sources": ("gamma", "beta"), "target": "delta"}
    named = {name: make_domain_split(corpus, scenario=name, **given).scenario for name in ("scn4", "mine")}
    assert named == {"scn4": "gamma+beta:delta", "mine": "mine"}
    given["sources"] = ("alpha", "gamma", "beta")
    assert make_domain_split(corpus, scenario="rest:delta", **given).scenario == "rest:delta"


def test_all_speakers_train_unless_some_choose_a_step_and_then_whole_ones_do(corpus):
    whole = make_domain_split(corpus, scenario="rest:delta")
    assert {name: len(own) for name, own in whole.train.items()} == {"alpha": 50, "beta": 40, "gamma": 40}
    assert not any(whole.validation.values())
    assert len(whole.test) == 60
    held = [make_domain_split(corpus, scenario="rest:delta", validation=0.2, trial=trial) for trial in range(1, 6)]
    speaker = {utterance.id: utterance.speaker for utterance in corpus.utterances}
    for split in held:
        for name in ("alpha", "beta", "gamma"):
            train, out = ({speaker[r.utterance] for r in part[name]} for part in (split.train, split.validation))
            assert not train & out
            assert len(out) == {"alpha": 1, "beta": 0, "gamma": 1}[name]
        assert any("beta has too few speakers" in note for note in split.notes)
    assert len({tuple(split.validation["alpha"]) for split in held}) > 1


def test_one_corpus_alone_is_taken_apart_by_speakers_or_at_random(corpus):
    speaker = {utterance.id: utterance.speaker for utterance in corpus.utterances}
    apart = make_domain_split(corpus, scenario="single:alpha")
    train, test = ({speaker[r.utterance] for r in part} for part in (apart.train["alpha"], apart.test))
    assert (len(train), len(test), train & test) == (4, 1, set())
    two = make_domain_split(corpus, scenario="single:beta")
    assert (len(two.train["beta"]), len(two.test)) == (20, 20)
    mixed = make_domain_split(corpus, scenario="single:alpha", by="random")
    assert len(mixed.test) == 10
    assert {speaker[r.utterance] for r in mixed.test} & {speaker[r.utterance] for r in mixed.train["alpha"]}


def test_held_out_speakers_come_as_near_to_the_share_as_whole_ones_can_and_somebody_stays(corpus):
    ratings = corpus.all_of("delta")
    speaker = {utterance.id: utterance.speaker for utterance in corpus.utterances}
    for share, count in ((0.0, 0), (0.2, 10), (0.3, 20), (0.5, 30), (0.99, 50)):
        stay, out = held_apart(ratings, speaker, share, (1,))
        assert (len(stay), len(out)) == (60 - count, count)


# -- leaks ------------------------------------------------------------------------------------------------------------


def test_a_recording_of_the_target_in_a_source_is_refused_and_named(tmp_path, corpus):
    root = tmp_path / "copied"
    shutil.copytree(corpus.root, root)
    moved = tuple(
        dataclasses.replace(each, path=root / each.path.relative_to(corpus.root)) for each in corpus.utterances
    )
    copied = dataclasses.replace(corpus, root=root, utterances=moved)
    split = make_domain_split(copied, scenario="rest:delta")
    refuse_domain_leaks(split, copied, Contents(copied, tmp_path / "cache").sounds)
    shutil.copy(root / "delta" / "004.wav", root / "beta" / "011.wav")
    sounds = Contents(copied, tmp_path / "cache").sounds
    with pytest.raises(UserError, match=r"1 recording would be learned from and tested.*beta/011 = delta/004"):
        refuse_domain_leaks(split, copied, sounds)
    refuse_domain_leaks(split, copied, sounds, allow=True)
    refuse_domain_leaks(make_domain_split(copied, scenario="rest:alpha"), copied, sounds)  # both are sources there


def test_a_speaker_or_an_utterance_on_both_sides_is_refused(corpus):
    split = make_domain_split(corpus, scenario="single:alpha", by="random")
    with pytest.raises(UserError, match="speakers would be learned from and tested: alpha/"):
        refuse_domain_leaks(split, corpus, {})
    refuse_domain_leaks(split, corpus, {}, by_speaker=False)
    twice = dataclasses.replace(split, test=split.train["alpha"][:1])
    with pytest.raises(UserError, match="1 utterances would be learned from and tested"):
        refuse_domain_leaks(twice, corpus, {}, by_speaker=False)


def test_nothing_of_the_target_changes_a_bit_of_the_checkpoint(corpus, file, cache):
    run(corpus, file, cache / "one", options())
    turned = {name: FIVE.classes[(at + 2) % 5] for at, name in enumerate(FIVE.classes)}
    ratings = tuple(
        dataclasses.replace(r, ticks=(turned[r.ticks[0]],)) if r.rater == "delta" else r for r in corpus.ratings
    )
    other = several(cache / "other", seed=1)  # every file is another one
    kept = {u.id: u for u in corpus.utterances if u.session != "delta"}
    utterances = tuple(kept.get(u.id, u) for u in other.utterances)
    changed = dataclasses.replace(corpus, utterances=utterances, ratings=ratings)
    content = dict(np.load(file))
    target = np.array([name.startswith("delta") for name in content["names"]])
    content["values"][target] += 3.0
    np.savez(cache / "changed.npz", **content)
    run(changed, cache / "changed.npz", cache / "two", options())
    first, second = (read_checkpoint(cache / name / "states-30.ckpt") for name in ("one", "two"))
    for key in ("Downstream", "Generaliser"):
        assert first[key].keys() == second[key].keys()
        assert all(torch.equal(value, second[key][name]) for name, value in first[key].items())
    assert (first["Curves"], first["MadeFrom"]["audio"]) == (second["Curves"], second["MadeFrom"]["audio"])
    before, after = (Result.read(cache / name / "result_test.json") for name in ("one", "two"))
    assert before.episodes != after.episodes


# -- z-scores ---------------------------------------------------------------------------------------------------------


def test_z_scores_are_by_the_rows_that_are_said_and_a_nearly_dead_dimension_is_cut_off():
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 2.0, size=(40, 1, 5)).astype(np.float32)
    values[:30, 0, 4] = 1 + 1e-7 * np.arange(30)
    given = torch.from_numpy(values)
    found = standardized(given, {"": range(40)}, {"": range(20)}, 10.0, range(30, 40))
    expected = (values - values[:20].mean(0)) / values[:20].std(0)
    np.testing.assert_allclose(found.values[..., :4], expected[..., :4], rtol=2e-5, atol=1e-5)
    assert found.values.abs().max() == 10
    assert found.largest > 100
    own = standardized(given, {"a": range(15), "b": range(15, 40)}, {"a": range(15), "b": range(15, 40)}, 0, [39])
    for rows in (slice(15), slice(15, 40)):
        np.testing.assert_allclose(own.values[rows, 0, :4].mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(own.values[rows, 0, :4].std(0, unbiased=False), 1, rtol=1e-5)


def test_statistics_of_the_target_are_marked_and_need_several_emotions_of_each_speaker(corpus, file, cache, capsys):
    found = run(corpus, file, cache / "own", options(modelrc={"statistics": "corpus"}))
    assert found.cell.scenario == "rest:delta (z by corpus, transductive)"
    assert "transductive: the target is seen, unlabelled" in capsys.readouterr().err
    few = tuple(dataclasses.replace(r, ticks=("fear",)) if r.utterance < "alpha/010" else r for r in corpus.ratings)
    few = tuple(r for r in few if r.rater != "alpha" or r.ticks == ("fear",))
    lacking = dataclasses.replace(corpus, ratings=few)
    with pytest.raises(UserError, match=r"at least 3 emotions of each speaker.*5 of 17 have fewer \(alpha/0"):
        run(lacking, file, cache / "speaker", options(modelrc={"statistics": "speaker"}))


# -- a cell -----------------------------------------------------------------------------------------------------------


def test_a_result_says_what_was_predicted_and_its_intervals_are_for_further_speakers(corpus, file, cache):
    result = run(corpus, file, cache / "cell", options())
    (episode,) = result.episodes
    assert episode.query == tuple(sorted(u.id for u in corpus.utterances if u.session == "delta"))
    assert episode.clusters == tuple(f"delta/{number % 6}" for number in range(60))
    assert result.raters.train == ("alpha", "beta", "gamma")
    assert result.metrics["nats"].mean == pytest.approx(nats(result), rel=1e-6)
    losses = np.array([-math.log(p[t.index(1)]) for p, t in zip(episode.probabilities, episode.ticks, strict=True)])
    means = np.array([losses[speaker::6].mean() for speaker in range(6)])  # all of one size
    reach = 2.5706 * means.std(ddof=1) / math.sqrt(6)  # Student's t with five degrees of freedom
    assert result.metrics["nats"].high - result.metrics["nats"].mean == pytest.approx(reach, rel=1e-3)
    assert result.selected_step == 30
    assert [step for step, _ in result.curves["loss"]] == [5, 10, 15, 20, 25, 30]
    assert Result.read(cache / "cell" / "result_test.json") == result


def test_training_that_stops_and_resumes_ends_with_the_same_bits(corpus, file, cache):
    whole = run(corpus, file, cache / "whole", options())
    run(corpus, file, cache / "parts", options(runner={"total_steps": 20}))
    parts = run(corpus, file, cache / "parts", options())
    assert parts.hashes.parameters == whole.hashes.parameters
    assert parts.curves == whole.curves
    assert parts.episodes == whole.episodes


def test_the_tested_step_is_the_last_or_the_best_on_held_out_speakers_of_the_sources(corpus, file, cache):
    last = run(corpus, file, cache / "last", options(optimizer={"lr": 1.0}))
    chosen = options(optimizer={"lr": 1.0}, generalrc={"selection": "source_validation"})
    best = run(corpus, file, cache / "best", chosen)
    assert (last.selected_step, last.raters.validating) == (30, ())
    assert best.raters.validating == ("alpha", "gamma")
    log = (cache / "best" / "log.log").read_text()
    losses = {int(line.split()[4][:-1]): float(line.split()[5]) for line in log.splitlines() if line.startswith("dev")}
    assert set(losses) == {10, 20, 30}
    assert best.selected.loss == pytest.approx(min(losses.values()))
    assert losses[best.selected_step] == min(losses.values())
    nobody = options(generalrc={"selection": "source_validation"}, datarc={"validation": 0.0})
    with pytest.raises(UserError, match="need held-out speakers"):
        run(corpus, file, cache / "nobody", nobody)
    assert not (cache / "nobody" / "log.log").exists()  # before any step


def test_a_trial_that_diverges_counts_with_its_last_finite_step_and_says_what_bounds_it(corpus, file, cache, capsys):
    wild = options(optimizer={"lr": 1e30}, runner={"gradient_clipping": None})
    result = run(corpus, file, cache / "wild", wild)
    assert result.diverged.startswith("step ")
    assert "the loss is" in result.diverged
    assert 0 < result.selected_step < 30
    assert np.isfinite(np.array(result.episodes[0].probabilities)).all()
    said = capsys.readouterr().err
    assert "diverged" in said
    assert "runner.gradient_clipping bounds a step" in said
    again = run(corpus, file, cache / "wild", wild)
    assert again.diverged == result.diverged
    assert "diverged" not in run(corpus, file, cache / "tame", options()).as_json()


def test_seeds_of_weights_batches_and_trials_are_apart_and_null_rows_differ_by_what_they_say(corpus, file, cache):
    found = {name: run(corpus, file, cache / name, options(), name) for name in ("Deep-All", "Deep-All:again")}
    found["second"] = run(corpus, file, cache / "second", options(datarc={"trial": 2}))
    assert len({result.hashes.parameters for result in found.values()}) == 3
    slow = options(optimizer={"lr": 0.01})
    twice = run(corpus, file, cache / "twice", slow, "Deep-All:twice")
    assert (
        twice.hashes.parameters
        == run(corpus, file, cache / "by hand", options(optimizer={"lr": 0.02})).hashes.parameters
    )
    floor = run(corpus, file, cache / "floor", options(), "Majority")
    assert floor.selected_step == 0
    assert len(set(floor.episodes[0].probabilities)) == 1


def test_a_checkpoint_is_evaluated_as_what_it_is(corpus, file, cache):
    trained = run(corpus, file, cache / "cell", options())
    past = Checkpoint.read(cache / "cell" / "dev-best.ckpt")
    again = run(corpus, file, cache / "again", options(), trains=False, past=past)
    assert again.episodes == trained.episodes
    with pytest.raises(UserError, match=r"holds Deep-All, not Majority \(-v\)"):
        run(corpus, file, cache / "other", options(), "Majority", trains=False, past=past)
    with pytest.raises(UserError, match=r"was trained on other data: it was made from different inputs.*scenario"):
        run(corpus, file, cache / "third", options("pair:alpha:delta"), trains=False, past=past)


@pytest.mark.parametrize("system", ["DA-MLDG", "DANN", "Deep-All+swad"])
def test_what_a_system_keeps_from_step_to_step_resumes_with_it(corpus, file, cache, system):
    often = {"total_steps": 12, "eval_step": 2, "save_step": 4}
    general = {"anneal_steps": 3}  # a weight that rises over a share of training is another one in a shorter one
    whole = run(corpus, file, cache / "whole", options(runner=often, generalrc=general), system)
    run(corpus, file, cache / "parts", options(runner={**often, "total_steps": 8}, generalrc=general), system)
    parts = run(corpus, file, cache / "parts", options(runner=often, generalrc=general), system)
    assert parts.hashes.parameters == whole.hashes.parameters
    assert parts.episodes == whole.episodes
    assert ("margin" in whole.curves) == (system == "DA-MLDG")
    if system == "DA-MLDG":
        steps = [step for step, _ in whole.curves["margin"]]
        assert steps == [float(step) for step in range(1, len(steps) + 1)]
        for folder in ("whole", "parts"):
            lines = (cache / folder / "log.log").read_text().splitlines()
            logged = dict(
                line.split("train margin at step ")[1].split(": ") for line in lines if "train margin" in line
            )
            assert {int(step): float(value) for step, value in logged.items()} == dict(parts.curves["margin"])


def test_with_one_source_what_compares_sources_is_deep_all_or_refused(corpus, file, cache):
    one = options("pair:alpha:delta", runner={"total_steps": 5})
    plain = run(corpus, file, cache / "plain", one)
    for name in ("GroupDRO", "CORAL", "V-REx", "Fish", "Fishr", "DANN"):
        assert run(corpus, file, cache / name, one, name).episodes == plain.episodes
    for name in ("MLDG", "DA-MLDG", "MLDG:public"):
        with pytest.raises(UserError, match=r"leaves none to meta-train on. Name more sources"):
            run(corpus, file, cache / name, one, name)


def test_resnet18_learns_from_changed_crops_and_is_tested_on_whole_recordings(corpus, file, cache):
    chosen = options(
        runner={"total_steps": 4, "save_step": 2, "log_step": 2},
        modelrc={"network": "resnet18", "channels": 2},
        augmentrc={"crop_seconds": 0.2},
    )
    logmel = UpstreamOptions("logmel")
    whole = run(corpus, None, cache / "whole", chosen, "MLDG", upstream=logmel)
    half = dataclasses.replace(chosen, runner=dataclasses.replace(chosen.runner, total_steps=2))
    run(corpus, None, cache / "parts", half, "MLDG", upstream=logmel)
    parts = run(corpus, None, cache / "parts", chosen, "MLDG", upstream=logmel)
    assert parts.hashes.parameters == whole.hashes.parameters
    content = read_checkpoint(cache / "whole" / "dev-best.ckpt")["Downstream"]
    assert content["bn1.running_mean"].abs().sum() > 0
    for wrong, message in (
        ({"modelrc": {"network": "resnet18"}}, "takes a vector as a square image, and 6 is no square"),
        ({"augmentrc": {"shift": 0.2}}, "augmentrc changes recordings for modelrc.network: resnet18"),
    ):
        with pytest.raises(UserError, match=message):
            run(corpus, file, cache / "wrong", options(**wrong))
