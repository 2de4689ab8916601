"""Clips unlike the speech that a model was trained on: counted, and said wherever clips go in."""

import json

import numpy as np
import pytest
import soundfile
import torch
from listener_fixtures import LABELS, random_model, write_clips
from test_listening_page import Visitor, session_on

from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.cli import main
from s3prl_metaperser.listener.folder import HEARD, read_folder, write_folder
from s3prl_metaperser.upstream.heard import Heard

SAID = "Unlike the speech that this model was trained on: 3 of 6 clips"


@pytest.fixture
def model(tmp_path):
    """A model that was trained on noise: clips of noise are in ``own``, three of them and three tones in ``mixed``."""
    plain = random_model(tmp_path / "plain")
    own = write_clips(tmp_path / "own", 40)
    for number, path in enumerate(own):
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.05, 16000), 16000)
    folder, items = read_folder(plain), PersonalizedEmotionRecognizer.load(plain).items(own)
    heard = {f"{HEARD}{name}": value for name, value in Heard.of(torch.stack(items), range(40)).as_tensors().items()}
    for path, tone in zip(own[10:13], write_clips(tmp_path / "mixed", 3), strict=True):
        path.rename(tone.with_stem(f"own-{path.stem}"))
    return write_folder(tmp_path / "model", folder.card, folder.tensors | heard)


def test_a_clips_distance_is_the_root_mean_square_of_its_z_scores_and_one_training_clip_in_a_hundred_is_beyond():
    draw = np.random.default_rng(0)
    values = draw.normal(3, 2, (1100, 2, 5)) * [1, 2, 3, 4, 5]
    values[:, 0, 0] = 7.0  # a feature that never varies
    heard = Heard.of(torch.from_numpy(values).float(), range(1000))
    known = values[:1000].astype(np.float32).astype(np.float64)
    z = (values - known.mean(0)) / np.where(known.std(0) < 1e-8, 1, known.std(0))
    wanted = np.sqrt((z.reshape(1100, -1) ** 2).mean(1))
    np.testing.assert_allclose(heard.distances(torch.from_numpy(values).float()), wanted, rtol=1e-4)
    assert heard.unlike(torch.from_numpy(values[:1000]).float()).sum() == 10


def test_predict_and_adapt_warn_once_and_count_and_nothing_is_said_of_clips_like_the_trainings(model, tmp_path, capsys):
    assert main(["predict", str(model), str(tmp_path / "mixed"), "--json"]) == 0
    said = capsys.readouterr()
    marked = {row["file"]: row["unlike_training"] for row in json.loads(said.out)["predictions"]}
    assert (said.err.count(SAID), len(marked)) == (1, 6)
    assert all(unlike == ("own" not in file.rpartition("/")[2]) for file, unlike in marked.items())
    names = sorted(path.name for path in (tmp_path / "mixed").iterdir())
    rows = "".join(f"{name},{label}\n" for name, label in zip(names, LABELS, strict=False))
    (tmp_path / "mixed" / "r.csv").write_text("file,label\n" + rows)
    adapt = ["adapt", str(model), "--ratings", str(tmp_path / "mixed" / "r.csv"), "--out", str(tmp_path / "mine")]
    assert main([*adapt, "--all-one"]) == 0
    assert capsys.readouterr().err.count(SAID) == 1
    mine = PersonalizedEmotionRecognizer.load(tmp_path / "mine")
    assert mine.listener["warnings"][0].startswith(SAID)
    assert mine.unlike_training([tmp_path / "mixed" / name for name in names]).tolist() == [True] * 3 + [False] * 3
    own = sorted((tmp_path / "own").iterdir())
    assert main(["predict", str(tmp_path / "mine"), *map(str, own)]) == 0
    assert "Unlike" not in capsys.readouterr().err


def test_the_listening_page_says_so_too(model, tmp_path):
    visitor = Visitor(session_on(PersonalizedEmotionRecognizer.load(model), tmp_path / "mixed"))
    try:
        visitor.settle()
        assert SAID in visitor.page("/news")
    finally:
        visitor.close()


def test_a_model_of_an_earlier_version_says_nothing_and_a_damaged_one_is_refused(model, tmp_path, capsys):
    assert main(["predict", str(tmp_path / "plain"), str(tmp_path / "mixed")]) == 0
    assert "Unlike" not in capsys.readouterr().err
    folder = read_folder(model)
    folder.tensors[f"{HEARD}mean"] = torch.zeros(2, 3)
    write_folder(tmp_path / "odd", folder.card, folder.tensors)
    assert main(["predict", str(tmp_path / "odd"), str(tmp_path / "mixed")]) == 2
    assert "heard.mean has shape [2, 3]" in capsys.readouterr().err
