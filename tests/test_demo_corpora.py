"""The ten demo corpora: layouts that the real readers read, a voice that is kept, and truths that the card states."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.stats import multivariate_normal

from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import acted_corpus, labels_without_audio, load_corpus, stored_corpus
from s3prl_metaperser.corpora.emotions import COMMON
from s3prl_metaperser.demo import channel, domain_ceilings, domain_script, domains, voice, write_domains
from s3prl_metaperser.demo.script import SPREAD, Turn
from s3prl_metaperser.demo.write_domains import roots, write_demo_corpora
from s3prl_metaperser.errors import UserError

pytest.importorskip("parselmouth", reason="the demo corpora need the extra 'demo'")

UTTERANCES = 20
BY_NAME = {variant: {domain.name: domain for domain in found} for variant, (_, found) in domains.VARIANTS.items()}


@pytest.fixture
def no_voice(monkeypatch):
    """Everything but the synthesiser, which says noise of its own for each file; returns how many it was asked for."""
    asked = []

    def render_speakers(plans, folder, *, workers, done, finished):
        for number, plan in enumerate(plans):
            for delivery in plan:
                noise = np.random.default_rng(delivery.noise_seed).normal(0, 3000, 900)
                voice.write_wav(folder / delivery.path, noise.astype("<i2"))
                asked.append(delivery.path)
            finished(number)

    monkeypatch.setattr(write_domains, "render_speakers", render_speakers)
    return asked


@pytest.fixture
def written(no_voice, tmp_path):
    """variant -> the folder of its corpora, with a cache of this test's own."""
    return lambda variant, name="", **more: write_demo_corpora(
        tmp_path / (name or variant), variant, utterances=UTTERANCES, progress=False, cache=tmp_path / "cache", **more
    )


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "demo.json")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("variant", domains.VARIANTS)
def test_the_readers_of_the_real_corpora_find_the_emotions_that_were_drawn(variant, written):
    folder = written(variant)
    card = json.loads((folder / "demo.json").read_text())
    assert len(roots(folder)) == 10
    for name, root in roots(folder).items():
        corpus = acted_corpus(name, root)
        found = {
            str(u.path.relative_to(root)): r.ticks[0] for u, r in zip(corpus.utterances, corpus.ratings, strict=True)
        }
        meant = {path: emotion for path, emotion in card["corpora"][name]["intended"].items() if emotion in COMMON}
        assert found == meant
        assert {utterance.speaker for utterance in corpus.utterances} <= set(BY_NAME[variant][name].speakers)
        assert not [problem for problem in corpus.problems if problem.serious]
        assert len(card["corpora"][name]["intended"]) == UTTERANCES


def test_as_one_corpus_each_is_a_domain_and_without_audio_the_labels_are_the_same(written):
    options = {"variant": "shifted", "seed": 0, "utterances": UTTERANCES}
    whole = load_corpus("demo_corpora", written("shifted"), **options)
    labels = labels_without_audio("demo_corpora", options)
    assert labels is not None
    assert labels.fingerprint() == whole.fingerprint()
    assert whole.raters() == sorted(BY_NAME["shifted"])
    assert stored_corpus("demo_corpora", whole.root).fingerprint() == whole.fingerprint()


def test_the_layouts_have_the_quirks_of_the_real_ones(written):
    folder = written("shifted")
    assert (folder / "tess" / "OAF_neutral" / "OA_bite_neutral.wav").is_file()
    assert soundfile.info(folder / "tess" / "OAF_fear" / "OAF_food_fear.wav").samplerate == 96_000
    assert (folder / "cafe" / unicodedata.normalize("NFD", "Colère") / "Faible").is_dir()
    assert list(folder.glob("aesdd/*/* (01).wav"))
    assert [soundfile.info(path).channels for path in folder.glob("emovo/*/*.wav")].count(2) == 1
    assert acted_corpus("ravdess", folder / "ravdess").dropped["files: the same file in another folder"] == 1
    assert acted_corpus("iemocap", folder / "iemocap").dropped["utterances: frustrated, none of the five emotions"]
    rates = {soundfile.info(path).samplerate for path in folder.rglob("*.wav") if not path.name.startswith(".")}
    assert rates == {16000, 24414, 44100, 48000, 96000}


def test_the_same_seed_gives_the_same_bytes_and_the_voice_speaks_once(written, no_voice):
    first = digests(written("identical"))
    spoken = len(no_voice)
    assert spoken == 10 * UTTERANCES
    assert digests(written("identical", "again")) == first
    spurious = digests(written("spurious"))
    assert len(no_voice) == spoken, "the voice of the first was kept"
    assert spurious.keys() == first.keys()
    labels = {path for path in first if path.endswith((".txt",)) or "/._" in path}
    assert {path for path in first if spurious[path] == first[path]} == labels, "the tone is in every utterance"
    assert digests(written("identical", "other", seed=1)) != first


def test_an_interrupted_run_leaves_no_folder_and_goes_on_behind_the_corpora_that_it_has_spoken(
    written, no_voice, monkeypatch, tmp_path
):
    whole = write_domains.render_speakers

    def interrupted(plans, folder, **more):
        whole(plans[:4], folder, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(write_domains, "render_speakers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            written("shifted")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"] or not (tmp_path / "shifted").exists()
    assert len(no_voice) == 4 * UTTERANCES
    written("shifted")
    assert len(no_voice) == 10 * UTTERANCES


def test_cues_follow_emotions_as_in_the_first_demo_corpus():
    def spoken(avd):
        turn = Turn("Ses01F_impro01_F000", "Ses01F_impro01", "Ses01F", 1, 0, "x", avd)
        got = voice.deliver(turn, "x.wav", seed=0)
        level = [got.level, got.tilt, got.smile, got.chest]
        return np.array([12 * np.log2(got.pitch), got.pitch_range, got.words_per_minute, *level])

    base = (3.0, 3.0, 3.0)
    for axis in range(3):
        moved = tuple(value + 0.5 * (place == axis) for place, value in enumerate(base))
        difference = (spoken(moved) - spoken(base)) / 0.5
        assert difference == pytest.approx(domains.WEIGHTS[:, axis], abs=1e-9, rel=1e-9)


def test_identical_has_one_generator_and_shifted_the_shares_of_shemo():
    facts = ("language", "sentences", "offset", "gain", "room", "tilt", "band", "rate", "agreement", "turned")
    identical = BY_NAME["identical"].values()
    assert len({tuple(getattr(domain, fact) for fact in facts) for domain in identical}) == 1
    assert len({domain.language for domain in BY_NAME["shifted"].values()}) == 10
    shemo = BY_NAME["shifted"]["shemo"].counts(150)
    assert "disgust" not in shemo
    assert shemo["anger"] / sum(shemo[name] for name in COMMON if name in shemo) == pytest.approx(0.61, abs=0.01)
    for variant in BY_NAME.values():
        assert [sum(domain.counts(150).values()) for domain in variant.values()] == [150] * 10


def test_the_tone_agrees_with_the_emotion_as_often_as_the_card_says_and_is_turned_in_two_targets():
    for domain in BY_NAME["spurious"].values():
        plans = [script for seed in range(3) for script in domain_script.script(domain, seed=seed, utterances=200)]
        five = [(COMMON.index(each.emotion), each.hum) for each in plans if each.emotion in COMMON]
        shift = Counter((hum - emotion) % 5 for emotion, hum in five)
        assert shift[int(domain.turned)] / len(five) == pytest.approx(domain.agreement, abs=0.06)
        assert all(shift[other] for other in range(5)), "the rest is any other emotion's"
    assert [name for name, domain in BY_NAME["spurious"].items() if domain.turned] == ["cafe", "iemocap"]


def test_a_channel_that_does_nothing_gives_the_bytes_back_and_the_tone_is_all_that_spurious_adds():
    speech = np.random.default_rng(0).normal(0, 3000, 16000).astype("<i2")
    plain = BY_NAME["identical"]["emodb"]
    silent = channel.through(speech, plain, None, np.random.default_rng(1))
    assert np.array_equal(silent, speech)
    heard = channel.through(speech, plain, 3, np.random.default_rng(1)).astype(float) - speech
    spectrum = np.abs(np.fft.rfft(heard / 32767))
    assert spectrum.argmax() == round(channel.TONES[3])
    assert 20 * np.log10(np.std(heard / 32767)) == pytest.approx(channel.TONE_LEVEL, abs=0.1)
    other = BY_NAME["shifted"]["shemo"]
    radio = channel.through(speech, other, None, np.random.default_rng(1)).astype(float)
    power = np.abs(np.fft.rfft(radio)) ** 2
    hertz = np.fft.rfftfreq(len(radio), 1 / other.rate)
    assert len(radio) == pytest.approx(44100, abs=1)
    assert power[(hertz > 7000) & (hertz < 8000)].mean() < 1e-2 * power[(hertz > 3000) & (hertz < 4000)].mean()


def test_the_ceiling_is_bayes_rule_of_how_cues_are_drawn():
    domain = BY_NAME["shifted"]["shemo"]
    rng, gain = np.random.default_rng(0), np.array(domain.gain)
    cues = []
    for emotion in range(5):  # by the drawing itself, many times
        avd = domain_script.CENTRES[emotion] + SPREAD * rng.standard_normal((40000, 3))
        drawn = domains.MIDDLE + domain.offset + gain * ((avd - 3) @ domains.WEIGHTS.T)
        people, chance = rng.standard_normal((2, 40000, 7))
        cues.append(drawn + domains.HABIT * people + domains.NOISE * chance)
    asked = np.concatenate([each[:20] for each in cues])
    prior = np.array([domain.prior.get(name, 0.0) for name in COMMON])
    likelihood = np.stack([multivariate_normal(each.mean(0), np.cov(each.T)).pdf(asked) for each in cues], axis=1)
    expected = likelihood * prior / (likelihood * prior).sum(1, keepdims=True)
    assert domain_ceilings.posteriors(domain, asked) == pytest.approx(expected, abs=0.03)


def test_a_rule_of_other_corpora_costs_much_in_shifted_and_nothing_in_identical():
    targets = ("iemocap", "ravdess", "cafe", "emodb", "shemo")
    cost = {}
    for variant in ("shifted", "identical"):
        planned = {d: domain_script.script(d, seed=0, utterances=150) for d in BY_NAME[variant].values()}
        found = domain_ceilings.ceilings(planned)
        away = {t: [found["transfer"][s][t] for s in BY_NAME[variant] if s != t] for t in targets}
        cost[variant] = [found["home"][t]["correct"] - np.mean(away[t]) for t in targets]
    assert min(cost["shifted"]) > 0.1
    assert np.abs(cost["identical"]).max() < 0.03


def test_who_speaks_another_language_sounds_otherwise():
    def said(name):
        (first, *_) = domain_script.script(BY_NAME["shifted"][name], seed=0, utterances=20)
        return voice.shape(voice.speak(first.delivery), first.delivery)

    greek, german = said("aesdd"), said("emodb")
    assert min(len(greek), len(german)) > 8000
    assert len(greek) != len(german)


def test_wrong_arguments_are_one_error(tmp_path, no_voice, capsys):
    with pytest.raises(UserError, match=r"Unknown variant of the demo corpora 'shiftd'\. Did you mean 'shifted'"):
        write_demo_corpora(tmp_path / "a", "shiftd")
    with pytest.raises(UserError, match=r"Bad utterances 301 .* from 20 to 300"):
        write_demo_corpora(tmp_path / "a", utterances=301)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert main(["demo-corpora", str(tmp_path / "full")]) == 2
    assert "contains no demo corpus" in capsys.readouterr().err
    assert main(["demo-corpora", str(tmp_path / "new"), "--utterances", "20", "--variant", "identical"]) == 0
    assert main(["demo-corpora", str(tmp_path / "new"), "--utterances", "20", "--variant", "spurious"]) == 2
    assert "variant: stored 'identical', requested 'spurious'" in capsys.readouterr().err
