"""Clips to hear: in the card of a corpus, and in the report of a listener."""

import base64
import html
import io
import re

import numpy as np
import pytest
import soundfile
from corpora_fixtures import write_ratings_csv
from listener_fixtures import LABELS, random_model, write_clips

from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.cli import main
from s3prl_metaperser.corpora import load_corpus, reader_of
from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.listener.labels import ListenerLabels
from s3prl_metaperser.listener.leave_out import leave_out
from s3prl_metaperser.listener.report import _headline
from s3prl_metaperser.report.sounds import clips_to_hear, sound_of

TABLE = """file,rater,label
1.wav,anna,happy
1.wav,ben,happy
1.wav,cat,happy
2.wav,anna,sad
2.wav,ben,sad
2.wav,cat,happy
3.wav,anna,happy
3.wav,ben,sad
3.wav,cat,fear
4.wav,anna,happy
"""


@pytest.fixture
def corpus(tmp_path):
    write_ratings_csv(tmp_path / "corpus", TABLE)
    return tmp_path / "corpus"


def test_a_corpus_is_heard_by_what_raters_agree_on_then_by_what_divides_them(corpus):
    found = clips_to_hear(load_corpus("ratings_csv", corpus), 3, embed=False).clips
    assert [clip.name for clip in found] == ["1", "2", "3"], "4 has one rater"
    assert found[0].facts[0] == ("3 raters", "happy 100 %")
    assert found[1].facts[0] == ("3 raters", "sad 67 %, happy 33 %")
    assert [clip.address for clip in found] == [(corpus / f"{n}.wav").resolve().as_uri() for n in (1, 2, 3)]
    (corpus / "1.wav").unlink()
    assert [clip.name for clip in clips_to_hear(load_corpus("ratings_csv", corpus), 3, embed=True).clips] == ["2", "3"]


def test_an_embedded_clip_is_what_the_model_hears(tmp_path):
    path = write_clips(tmp_path, 1)[0]
    kind, _, text = sound_of(path).partition(";base64,")
    assert kind == "data:audio/flac"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(text)), dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(samples, load_audio(path), atol=1 / 32000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    assert sound_of(tmp_path / "broken.wav") is None


def test_the_card_plays_its_clips_and_embeds_those_alone_that_may_be_passed_on(corpus, tmp_path, capsys, monkeypatch):
    out, line = tmp_path / "card.html", ["card", "--corpus", "ratings_csv", "--root", str(corpus)]
    assert main([*line, "--html", str(out)]) == 0
    page = out.read_text()
    assert page.count("<audio controls") == 3
    assert "media-src data: file:" in page
    assert "data:audio" not in page, "whose recordings they are is not known"
    assert main([*line, "--html", str(out), "--sounds", "0"]) == 0
    assert "<audio" not in out.read_text()
    assert reader_of("demo").redistributable
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path / "cache"))
    demo = ["card", "--corpus", "demo", "--option", "utterances=40", "--html", str(out)]
    assert main(demo) == 0
    assert "no clip to hear" in capsys.readouterr().err
    assert "<audio" not in out.read_text()


def test_the_report_of_a_listener_says_what_differs_and_plays_where(tmp_path, capsys):
    model = random_model(tmp_path / "model")
    clips = write_clips(tmp_path / "clips", 8)
    hostile = clips[0].rename(clips[0].with_name("<b>&.wav"))
    clips = [hostile, *clips[1:]]
    rows = [f"{clip.name},{label}" for clip, label in zip(clips, LABELS, strict=True)]
    (tmp_path / "clips" / "ratings.csv").write_text("\n".join(["file,label", *rows, ""]))
    line = [
        "adapt",
        str(model),
        "--ratings",
        str(tmp_path / "clips/ratings.csv"),
        "--all-one",
        "--system",
        "Meta-PerSER",
    ]
    assert main([*line, "--out", str(tmp_path / "l"), "--report", str(tmp_path / "report.html")]) == 0
    assert f"report: {(tmp_path / 'report.html').as_uri()}" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:audio/flac") == 8
    assert "<b>" not in page
    assert re.search(r"<h1>This listener hears .*more", page)
    recognizer = PersonalizedEmotionRecognizer.load(model)
    order = sorted(clips)
    labels = ListenerLabels.read([dict(zip(clips, LABELS, strict=True))[clip] for clip in order], recognizer.label_set)
    fit = leave_out(recognizer.model, recognizer.items(order), labels)
    apart = np.abs(fit.probabilities - recognizer.predict_proba(order)).sum(1)
    first = re.findall(r'<figure class="sound"><figcaption><strong>([^<]*)</strong>', page)
    assert [html.unescape(name) for name in first] == [order[place].name for place in np.argsort(-apart)]
    (mean,) = re.findall(r'<th scope="row">happy</th>\s*<td[^>]*>([\d.]+)', page)
    shares = labels.counts / labels.counts.sum(1, keepdims=True)
    assert float(mean) == pytest.approx(100 * shares[:, 8].mean(), abs=0.051)
    again = [*line, "--out", str(tmp_path / "m"), "--report", str(tmp_path)]
    assert main(again) == 2
    assert "is a folder. Name a file" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_on_a_scale_the_average_listener_answers_without_the_smoothing_of_training(tmp_path):
    """Who answers at the scale's end what the model says of everybody is not told to rate higher."""
    levels = tuple(map(float, range(11)))
    scale = LabelSet("percent", "ordinal", tuple(map(str, range(11))), levels=levels)
    base = PersonalizedEmotionRecognizer.load(random_model(tmp_path / "model", label_set=scale))
    answers = (10.0, 9.0, 9.5)
    labels = ListenerLabels(scale, answers)
    before = np.stack([scale.target(scale.counts(answer), base.card["adaptation"]["smoothing"]) for answer in answers])
    assert _headline(base, "anna", labels, before).startswith("anna rates 0.0 ")
