"""The demo corpus: its bytes, its truth, its layout, its sound."""

from __future__ import annotations

import hashlib
import json
import re
import wave
from pathlib import Path

import numpy as np
import pytest

from s3prl_metaperser.corpora.iemocap import CLASSES, LABEL_SET
from s3prl_metaperser.demo import VARIANTS, ceilings, layout, raters, rendering, script, voice, write
from s3prl_metaperser.demo import reader as demo
from s3prl_metaperser.demo.write import write_demo_corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import episode_scores

pytest.importorskip("parselmouth", reason="the demo corpus needs the extra 'demo'")

UTTERANCES = 40
NAME = re.compile(r"^Ses(0[1-5])([FM])_(impro0[1-8][ab]?|script0[1-3]_[1-3]b?)_([FM])(\d{3})$")


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory) -> Path:
    return write_demo_corpus(tmp_path_factory.mktemp("demo") / "a", utterances=UTTERANCES, progress=False)


@pytest.fixture(scope="module")
def truth():
    """The turns and ratings of ``corpus_folder``, drawn again."""
    turns = script.write_script(raters.intended_prior("paper"), seed=0, utterances=UTTERANCES)
    return turns, raters.draw_ratings(raters.rater_models("paper"), turns, seed=0)


@pytest.fixture
def no_sound(monkeypatch):
    """Everything but the synthesiser: each file is 0.1 s of silence."""

    def render_speakers(plans, folder, *, workers, done):
        samples = {}
        for delivery in (d for plan in plans for d in plan):
            voice.write_wav(folder / delivery.path, np.zeros(1600, dtype="<i2"))
            samples[delivery.path] = 1600
            done(1)
        return samples

    monkeypatch.setattr(write, "render_speakers", render_speakers)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def samples_of(path: Path) -> np.ndarray:
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 32768


# --- bytes ----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers_and_another_others(tmp_path):
    one, again, other = (
        digests(write_demo_corpus(tmp_path / name, utterances=10, progress=False, seed=seed, workers=workers))
        for name, seed, workers in (("one", 0, 2), ("again", 0, 1), ("other", 1, 2))
    )
    assert again == one
    assert other.keys() == one.keys()
    assert all(other[name] != one[name] for name in one), "ratings and sound"


# --- layout ---------------------------------------------------------------------------------------------


def test_the_iemocap_reader_finds_exactly_the_ratings_that_were_drawn(corpus_folder, truth):
    turns, drawn = truth
    corpus = demo.read(corpus_folder, utterances=UTTERANCES)
    found: dict[str, dict[str, set[str]]] = {}
    for rating in corpus.ratings:
        found.setdefault(rating.utterance, {})[rating.rater] = set(rating.ticks)
    assert found == {u: {r: set(ticks) for r, ticks in chosen.items()} for u, chosen in drawn.items()}
    assert {u.id: u.speaker for u in corpus.utterances} == {t.utterance: t.speaker for t in turns}
    assert corpus.name == "demo"
    assert not corpus.problems
    assert not sum(corpus.dropped.values())


def test_the_card_counts_what_the_reader_finds(corpus_folder):
    card = json.loads((corpus_folder / "demo.json").read_text())
    summary = demo.read(corpus_folder, utterances=UTTERANCES).rater_summary()
    assert {r: s["ticks"] for r, s in summary.items()} == {r: c["ticks"] for r, c in card["raters"].items()}
    assert {r: s["utterances"] for r, s in summary.items()} == {r: c["rated"] for r, c in card["raters"].items()}
    assert card["settings"] == {"recipe": 1, "seed": 0, "utterances": UTTERANCES, "raters": "paper"}
    assert set(card["intended"]) == {path.stem for path in corpus_folder.rglob("*.wav")}


def test_blocks_are_written_as_in_the_release(corpus_folder):
    head = re.compile(r"^\[\d+\.\d{4} - \d+\.\d{4}\]\t(Ses0[1-5][FM]_\S+)\t[a-z]{3}\t\[(\d\.\d{4}, ){2}\d\.\d{4}\]$")
    rating = re.compile(r"^C-(E[12456]|[FM][1-5]):\t([A-Z][a-z]+;)( [A-Z][a-z]+;)?\t\(\)$")
    attribute = re.compile(r"^A-(E[12456]|[FM][1-5]):\tval [1-5]; act [1-5]; dom  [1-5];\t\(\)$")
    files = sorted(corpus_folder.glob("Session?/dialog/EmoEvaluation/*.txt"))
    assert {file.parts[-4] for file in files} == {f"Session{n}" for n in range(1, 6)}
    for file in files:
        header, *blocks = file.read_text().rstrip("\n").split("\n\n")
        assert header == "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
        for block in blocks:
            first, *rest = block.split("\n")
            utterance = head.match(first).group(1)
            assert NAME.match(utterance)
            assert (file.parents[2] / "sentences" / "wav" / file.stem / f"{utterance}.wav").is_file()
            assert all(rating.match(line) or attribute.match(line) for line in rest)
            assert sum(line.startswith("C-") for line in rest) >= 3


def test_the_emotion_code_is_the_majority_of_the_external_raters():
    assert layout.majority_code({"C-E1": ("angry",), "C-E2": ("angry",), "C-E4": ("sad",)}) == "ang"
    assert layout.majority_code({"C-E1": ("angry",), "C-E2": ("fear",), "C-E4": ("sad",)}) == "xxx"
    assert layout.majority_code({"C-E1": ("happy",), "C-E2": ("sad",), "C-F1": ("sad",)}) == "xxx"
    assert layout.majority_code({"C-E1": ("happy", "excited"), "C-E2": ("happy", "excited")}) == "xxx"


# --- raters ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_draw():
    """3000 utterances without sound, variant ``paper``."""
    turns = script.write_script(raters.intended_prior("paper"), seed=3, utterances=3000)
    return turns, raters.draw_ratings(raters.rater_models("paper"), turns, seed=3)


def test_external_raters_follow_table_a1_within_sampling_error(large_draw):
    _, ratings = large_draw
    for rater, (marginals, rate) in raters.table_a1().items():
        mine = [chosen[rater] for chosen in ratings.values() if rater in chosen]
        ticks = np.array([sum(name in ticks for ticks in mine) for name in CLASSES])
        error = np.sqrt(marginals * (1 - marginals) / ticks.sum())
        assert np.all(np.abs(ticks / ticks.sum() - marginals) < 4 * error + 1e-3), rater
        assert ticks.sum() / len(mine) == pytest.approx(rate, abs=4 * np.sqrt((rate - 1) / len(mine)))


def test_expected_tick_marginals_are_table_a1s():
    prior = raters.intended_prior("paper")
    for model in raters.rater_models("paper")[:5]:
        share = raters.tick_share(model.table, model.tick_rate, prior)
        assert np.abs(share - raters.table_a1()[model.id][0]).max() < 1e-6


def test_tick_share_agrees_with_a_brute_force_sum():
    rng = np.random.default_rng(0)
    table, prior = rng.dirichlet(np.ones(4), 4), rng.dirichlet(np.ones(4))
    expected = np.zeros(4)
    for e in range(4):
        for a in range(4):
            expected[a] += prior[e] * table[e, a]
            for b in set(range(4)) - {a}:
                expected[b] += 0.3 * prior[e] * table[e, a] * table[e, b] / (1 - table[e, a])
    assert raters.tick_share(table, 1.3, prior) == pytest.approx(expected / 1.3)


def test_every_utterance_has_three_ratings_and_only_the_own_speaker_rates_itself(large_draw):
    turns, ratings = large_draw
    assert min(len(ratings[turn.utterance]) for turn in turns) >= 3
    for turn in turns:
        own = f"C-{turn.speaker[-1]}{turn.session}"
        selves = {rater for rater in ratings[turn.utterance] if not rater.startswith("C-E")}
        assert selves == ({own} & set(raters.SELVES))
    assert not any("C-E3" in chosen for chosen in ratings.values())


def test_coverage_is_high_for_three_externals_and_lower_for_two(large_draw):
    _, ratings = large_draw
    share = {r: np.mean([r in chosen for chosen in ratings.values()]) for r in raters.EXTERNALS}
    assert all(0.9 < share[rater] < 0.97 for rater in ("C-E1", "C-E2", "C-E4"))
    assert all(0.7 < share[rater] < 0.82 for rater in ("C-E5", "C-E6"))


def test_raters_hear_differently_and_not_only_use_words_differently():
    """Odds ratios do not depend on marginals: with one perception for all they would be equal."""
    tables = {model.id: model.table for model in raters.rater_models("paper")}
    angry, excited = CLASSES.index("angry"), CLASSES.index("excited")

    def log_odds_ratio(table):
        return np.log(table[angry, angry] * table[excited, excited] / (table[angry, excited] * table[excited, angry]))

    ratios = [log_odds_ratio(tables[rater]) for rater in raters.EXTERNALS]
    assert max(ratios) - min(ratios) > 1.0


def test_identical_raters_share_one_table_and_one_tick_rate():
    models = raters.rater_models("identical")
    assert all(np.array_equal(model.table, models[0].table) for model in models)
    assert len({model.tick_rate for model in models}) == 1


def test_opposed_tables_are_permutations_of_the_others():
    models = {model.id: model for model in raters.rater_models("opposed")}
    shared = models["C-E1"].table
    permuted = {rater for rater, model in models.items() if model.permutation is not None}
    assert 2 <= len(permuted & set(raters.EXTERNALS)) <= 3
    assert 2 <= len(permuted & set(raters.SELVES)) <= 4
    for rater, model in models.items():
        if rater in permuted:
            assert sorted(model.permutation) == list(range(9))
            assert sum(c != k for k, c in enumerate(model.permutation)) >= 8
            assert np.array_equal(model.table, shared[:, list(model.permutation)])
        else:
            assert np.array_equal(model.table, shared)


def test_no_table_describes_a_misspecified_rater_and_its_own_is_the_mean_over_turns():
    """By brute force: the rows of thousands of drawn turns, averaged for each intended emotion."""
    models = raters.rater_models("misspecified")[:2]
    turns = script.write_script(np.ones(9) / 9, seed=0, utterances=4000)
    intended = np.array([turn.intended for turn in turns])
    for model in models:
        rows = np.array([model.row(turn, seed=0) for turn in turns])
        np.testing.assert_allclose(rows.sum(1), 1)
        means = np.array([rows[intended == emotion].mean(0) for emotion in range(9)])
        assert np.abs(means - model.table).max() < 0.1  # ten speakers have habits of their own
        level = np.array([voice.deliver(turn, "", seed=0).level for turn in turns])
        usual = np.array([np.median(level[intended == emotion]) for emotion in range(9)])[intended]
        for halves in (level > usual, np.array([turn.speaker == "Ses03M" for turn in turns])):
            one, other = (
                np.array([rows[(intended == emotion) & half].mean(0) for emotion in range(9)])
                for half in (halves, ~halves)
            )
            assert np.abs(one - other).max() > 0.1
    assert all(model.hearing is None for variant in ("paper", "opposed") for model in raters.rater_models(variant))


# --- ceilings -------------------------------------------------------------------------------------------


def test_scores_agree_with_the_evaluation_package():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(9, 0.5), 50)
    targets = (rng.random((50, 9)) < 0.15) | np.eye(9, dtype=bool)[rng.integers(9, size=50)]
    found = episode_scores(probabilities, targets.astype(float), LABEL_SET)
    assert ceilings.scores(probabilities, targets) == pytest.approx(
        {name: found[name] for name in ("macro_f1", "micro_f1", "unweighted_accuracy")}
    )


def draw_ceilings(variant: str) -> dict:
    models = raters.rater_models(variant)
    turns = script.write_script(raters.intended_prior(variant), seed=0, utterances=600)
    return ceilings.ceilings(models, turns, raters.draw_ratings(models, turns, seed=0), seed=0)


def test_the_own_table_beats_the_consensus_where_raters_differ_and_only_there():
    paper, identical, opposed = (draw_ceilings(variant) for variant in ("paper", "identical", "opposed"))
    for rater in raters.EXTERNALS:
        assert paper["raters"][rater]["own"]["macro_f1"] > paper["raters"][rater]["consensus"]["macro_f1"] + 0.05
    assert identical["mean"]["own"] == pytest.approx(identical["mean"]["consensus"])
    for rater in ("C-E2", "C-E5"):
        scored = opposed["raters"][rater]
        assert scored["own"]["macro_f1"] > scored["consensus"]["macro_f1"] + 0.5


def test_the_card_says_how_much_is_beyond_any_table_where_tables_are_wrong():
    wrong, right = draw_ceilings("misspecified"), draw_ceilings("paper")
    scored = {name: numbers["macro_f1"] for name, numbers in wrong["mean_external"].items()}
    assert scored["consensus"] + 0.05 < scored["own"] < scored["turn"] - 0.1
    assert "very turn" in wrong["note"]
    assert "turn" not in right["mean"]


# --- sound ----------------------------------------------------------------------------------------------


def test_sound_is_16_khz_mono_neither_silent_nor_clipped_and_one_to_four_seconds(corpus_folder):
    paths = sorted(corpus_folder.rglob("*.wav"))
    assert len(paths) == UTTERANCES
    for path in paths:
        samples = samples_of(path)
        assert 0.8 * 16000 < len(samples) < 4 * 16000
        assert 0.003 < np.sqrt(np.mean(samples**2)) < 0.3
        assert np.abs(samples).max() < 0.999


def test_loudness_and_pitch_rise_with_arousal_within_a_speaker(corpus_folder, truth):
    import parselmouth

    turns, _ = truth
    paths = {path.stem: path for path in corpus_folder.rglob("*.wav")}
    rows = []
    for turn in turns:
        samples = samples_of(paths[turn.utterance])
        pitch = parselmouth.Sound(samples, 16000).to_pitch(0.01, 60, 500).selected_array["frequency"]
        rows.append([turn.avd[0], 10 * np.log10(np.mean(samples**2)), np.log2(np.median(pitch[pitch > 0]))])
    rows = np.array(rows)
    for speaker in script.SPEAKERS:
        mine = [turn.speaker == speaker for turn in turns]
        rows[mine] -= rows[mine].mean(axis=0)
    _, loudness, pitch = np.corrcoef(rows.T)[0]
    assert loudness > 0.6
    assert pitch > 0.6


# --- the folder -----------------------------------------------------------------------------------------


def test_a_complete_corpus_of_the_same_settings_is_returned_untouched(corpus_folder, monkeypatch):
    monkeypatch.setattr(write, "_write", lambda *a, **k: pytest.fail("written again"))
    before = (corpus_folder / "demo.json").stat().st_mtime_ns
    assert write_demo_corpus(corpus_folder, utterances=UTTERANCES, progress=False) == corpus_folder
    assert (corpus_folder / "demo.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"seed": 1}, "seed: stored 0, requested 1"),
        ({"raters": "opposed"}, "raters: stored 'paper', requested 'opposed'"),
    ],
)
def test_a_corpus_of_other_settings_is_refused(corpus_folder, other, words):
    with pytest.raises(UserError, match=words):
        write_demo_corpus(corpus_folder, **{"utterances": UTTERANCES, "progress": False, **other})


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        write_demo_corpus(tmp_path, utterances=UTTERANCES, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    class Bar(write.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(write, "tqdm", Bar)
    with pytest.raises(KeyboardInterrupt):
        write_demo_corpus(tmp_path / "demo", utterances=UTTERANCES, progress=False)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled_and_a_variant_names_its_permuted_raters(tmp_path, no_sound):
    (tmp_path / "demo").mkdir()
    folder = write_demo_corpus(tmp_path / "demo", utterances=UTTERANCES, raters="opposed", progress=False)
    card = json.loads((folder / "demo.json").read_text())
    assert card["permuted"] == [r for r, c in card["raters"].items() if c["permutation"] is not None]
    assert card["classes"] == list(CLASSES)


# --- mistakes -------------------------------------------------------------------------------------------


def test_an_unknown_variant_names_the_nearest_and_all(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'opposed'") as error:
        write_demo_corpus(tmp_path / "demo", raters="oposed")
    assert all(variant in str(error.value) for variant in VARIANTS)


@pytest.mark.parametrize(
    "bad", [{"utterances": 3}, {"utterances": 10**6}, {"utterances": 12.5}, {"seed": -1}, {"seed": True}]
)
def test_a_bad_number_is_refused_with_the_range(tmp_path, bad):
    with pytest.raises(UserError, match="expected a whole number from"):
        write_demo_corpus(tmp_path / "demo", **bad)
    assert not list(tmp_path.iterdir())


def test_a_missing_synthesiser_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(rendering.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("pip install 's3prl-metaperser[demo]'")):
        write_demo_corpus(tmp_path / "demo", utterances=UTTERANCES)
    assert not list(tmp_path.iterdir())


def test_a_synthesiser_that_stops_is_reported_with_its_own_words(tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "_CODE", "import sys; sys.exit('out of breath')")
    with pytest.raises(UserError, match="out of breath"):
        write_demo_corpus(tmp_path / "demo", utterances=UTTERANCES, progress=False)
    assert not list(tmp_path.iterdir())
