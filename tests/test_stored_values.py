"""What is stored and read back is what was written, and was made by the code that runs."""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from listener_fixtures import random_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.folder import CHECKSUM, card_checksum
from s3prl_metaperser.methods import initialisation
from s3prl_metaperser.storage import checkpoints, sources
from s3prl_metaperser.storage.checkpoints import read_checkpoint, save_checkpoint
from s3prl_metaperser.storage.hashing import content_hash
from s3prl_metaperser.storage.tensor_files import read_tensors, write_tensors
from s3prl_metaperser.upstream import store

# ------------------------------------------------------------------ safetensors


def written(path):
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    write_tensors(path, {"features": values, "step": torch.tensor(3)}, {"audio": json.dumps(["a", "b", "c", "d"])})
    return values


def changed(path, change) -> None:
    """Write the file again with other tensors or metadata, by another program's means."""
    with safe_open(path, framework="pt") as file:
        said = file.metadata()
    tensors = load_file(path)
    change(tensors, said)
    save_file(tensors, path, metadata=said)


CHANGES = {
    "two rows exchanged": lambda t, said: t.update(features=t["features"][[1, 0, 2, 3]].clone()),
    "two labels exchanged": lambda t, said: said.update(audio=json.dumps(["b", "a", "c", "d"])),
    "a value": lambda t, said: t["features"][2].mul_(1.0000001),
    "a number": lambda t, said: t["step"].neg_(),
    "a name": lambda t, said: t.update(other=t.pop("step")),
    "a shape": lambda t, said: t.update(features=t["features"].reshape(3, 4)),
    "a type": lambda t, said: t.update(step=t["step"].int()),
    "one more": lambda t, said: t.update(more=torch.zeros(1)),
    "no checksum": lambda t, said: said.pop("checksum"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_values_exchanged_or_changed_are_noticed(tmp_path, change):
    path = tmp_path / "shard.safetensors"
    values = written(path)
    assert torch.equal(read_tensors(path, "")["features"], values)
    changed(path, change)
    with pytest.raises(UserError, match=r"shard\.safetensors does not hold what was written.* Delete it"):
        read_tensors(path, "Delete it to make it again.")


def test_every_flipped_bit_of_the_values_is_noticed(tmp_path):
    path = tmp_path / "shard.safetensors"
    written(path)
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(40):
        content, at = bytearray(whole), draw.randrange(len(whole))
        content[at] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"Delete it"):
            read_tensors(path, "Delete it.")


# ------------------------------------------------------------------ checkpoints


def content() -> dict:
    parameters = {"classifier.weight": torch.randn(2, 3, generator=torch.Generator().manual_seed(1))}
    return {
        "Args": argparse.Namespace(seed=1, lr=0.1, layer=None),
        "Config": {"a": [1, 2.5, {"b": None}], "best": float("inf")},
        "Step": 7,
        "Downstream": parameters,
        "Optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
    }


EDITS = {
    "a tensor": lambda c: c["Downstream"]["classifier.weight"].mul_(1.0001),
    "the optimiser": lambda c: c["Optimizer"]["state"][0]["step"].add_(1),
    "the step": lambda c: c.update(Step=8),
    "an argument": lambda c: setattr(c["Args"], "seed", 2),
    "an option": lambda c: c["Config"]["a"].append(3),
    "one entry more": lambda c: c.update(System="x"),
    "one entry less": lambda c: c.pop("Optimizer"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_checkpoint_is_refused(tmp_path, edit):
    path = tmp_path / "dev-best.ckpt"
    save_checkpoint(path, content())
    stored = torch.load(path, weights_only=True)
    edit(stored)
    torch.save(stored, path)
    with pytest.raises(UserError, match=r"dev-best\.ckpt .*its checksum is not that of its content: it was edited"):
        read_checkpoint(path)


def test_a_checkpoint_saved_again_is_right_and_one_without_a_checksum_is_read_and_said_once(tmp_path, capsys):
    path = tmp_path / "dev-best.ckpt"
    save_checkpoint(path, content())
    first = read_checkpoint(path)
    save_checkpoint(path, {**first, "Step": 8})
    assert read_checkpoint(path)["Step"] == 8
    assert capsys.readouterr().err == ""
    torch.save(content(), path)
    for _ in range(2):
        assert content_hash(read_checkpoint(path)) == content_hash(content())
    assert capsys.readouterr().err.count("has no checksum, as version 0.1.0 wrote none") == 1
    assert checkpoints.CHECKSUM not in first


# ------------------------------------------------------------------ cards


CARD_EDITS = {
    "class order": lambda c: c["classes"].reverse(),
    "class order in both places": lambda c: [part.reverse() for part in (c["classes"], c["label_set"]["classes"])],
    "equal names": lambda c: c.update(classes=["happy"] * 9),
    "fewer names": lambda c: c["classes"].pop(),
    "weights of NaN": lambda c: c["adaptation"].update(class_weights=[float("nan")] * 9),
    "weights too many": lambda c: c["adaptation"]["class_weights"].append(1.0),
    "weights exchanged": lambda c: c["adaptation"]["class_weights"].__setitem__(slice(0, 2), [7.0, 8.0]),
    "K of -1": lambda c: [part.update(shots=-1) for part in (c["adaptation"], c["options"]["evalrc"])],
    "K of 1e9": lambda c: [part.update(shots=10**9) for part in (c["adaptation"], c["options"]["evalrc"])],
    "steps of 1e9": lambda c: [part.update(steps=10**9) for part in (c["adaptation"], c["options"]["evalrc"])],
    "1e9 layers": lambda c: c["upstream"].update(layers=10**9),
    "99,999 features": lambda c: c["upstream"].update(features=99_999),
    "1e9 training raters": lambda c: c["training"].update(train_raters=10**9),
    "a projector of 1e9": lambda c: c["options"]["modelrc"].update(projector_dim=10**9),
    "another step": lambda c: c["training"].update(selected_step=3),
    "no checksum": lambda c: c.pop(CHECKSUM),
}
#: What only a checksum notices.
SEEN_BY_CHECKSUM = ("class order in both places", "weights exchanged", "another step", "no checksum")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("model") / "model")


def loaded_with(folder, copy, edit, seal: bool) -> None:
    shutil.copytree(folder, copy)
    card = json.loads((copy / "card.json").read_text())
    edit(card)
    if seal:
        card[CHECKSUM] = card_checksum(card)
    (copy / "card.json").write_text(json.dumps(card))
    PersonalizedEmotionRecognizer.load(copy)


@pytest.mark.parametrize("name", CARD_EDITS)
def test_an_edited_card_is_refused(model, tmp_path, name):
    with pytest.raises(UserError, match=r"card\.json.* It was edited"):
        loaded_with(model, tmp_path / "edited", CARD_EDITS[name], seal=False)
    if name not in SEEN_BY_CHECKSUM:
        with pytest.raises(UserError, match=r"card\.json.* It was edited"):
            loaded_with(model, tmp_path / "sealed", CARD_EDITS[name], seal=True)


def test_an_edited_card_of_0_1_0_is_refused_where_it_contradicts_itself_and_said_to_be_unchecked(tmp_path, capsys):
    old = Path(__file__).parent / "fixtures" / "listener-0.1.0" / "model"
    loaded_with(old, tmp_path / "healthy", lambda card: None, seal=False)
    assert "healthy/card.json has no checksum, as version 0.1.0 wrote none" in capsys.readouterr().err
    known = [name for name in CARD_EDITS if name not in SEEN_BY_CHECKSUM]
    for number, name in enumerate(known):
        with pytest.raises(UserError, match=r"card\.json.* It was edited"):
            loaded_with(old, tmp_path / str(number), CARD_EDITS[name], seal=False)


def test_licences_may_be_worded_otherwise(model, tmp_path):
    loaded_with(model, tmp_path / "copy", lambda card: card["licences"].update(model="CC0"), seal=False)


# ------------------------------------------------------------------ code


@pytest.fixture
def code(tmp_path, monkeypatch):
    """Other sources in the place of the package's: ``code(path=(old, new))`` is an edit of one file."""
    real = sources.sources()

    def edited(**changes: tuple[bytes, bytes]) -> None:
        files = dict(real)
        for name, (old, new) in changes.items():
            path = f"{name.replace('__', '/')}.py"
            assert old in files[path]
            files[path] = files[path].replace(old, new)
        monkeypatch.setattr(sources, "sources", lambda: files)
        sources.code_of.cache_clear()

    yield edited
    sources.code_of.cache_clear()


def keys(folder) -> tuple[str, str]:
    """Names of the feature store, and the code in an initialisation's key."""
    features = store.PooledStore(folder, store.FeatureIdentity("x", "0" * 64)).folder.name
    within = (*initialisation.WITHIN, *initialisation.FEATURES_WITHIN)
    return features, sources.code_of((*initialisation.CODE, *initialisation.FEATURES), within)


@pytest.mark.parametrize(
    ("edit", "other_features", "other_initialisation"),
    [
        ({"upstream__pooling": (b".mean(dim=1)", b".amax(dim=1)")}, True, True),
        ({"upstream__batching": (b"def hidden_states(", b"def hidden_states(_x=1, *")}, True, True),
        ({"corpora__audio__base": (b"RATE = 16000", b"RATE = 8000")}, True, True),
        ({"meta__model": (b"def ", b"def un")}, False, True),
        ({"methods__initialisation": (b"math.inf", b"1.0")}, False, True),
        ({"upstream__pooling": (b'"""From waveforms', b'"""Away from waveforms')}, False, False),
        ({"upstream__pooling": (b"= device_of(upstream)\n", b"= device_of(upstream)  # x\n\n")}, False, False),
        ({"report__figures": (b"def ", b"def un")}, False, False),
    ],
    ids=[
        "pooling by maximum",
        "batching",
        "audio",
        "the head",
        "the training",
        "a docstring",
        "a comment",
        "the report",
    ],
)
def test_features_and_initialisations_of_other_code_are_others(
    tmp_path, code, edit, other_features, other_initialisation
):
    before = keys(tmp_path)
    code(**edit)
    after = keys(tmp_path)
    assert (before[0] != after[0], before[1] != after[1]) == (other_features, other_initialisation)


def test_a_result_names_the_code_that_was_there_when_its_run_began(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(sources, "PACKAGE", tmp_path)
    for cached in (sources.sources, sources.code_hash):
        cached.cache_clear()
    try:
        began = sources.code_hash()
        assert sources.code_that_ran() == began
        assert capsys.readouterr().err == ""
        (tmp_path / "a.py").write_text("x = 2\n")
        (tmp_path / "b.py").write_text("")
        assert sources.code_that_ran() == began
        assert "a.py, b.py changed while this ran" in capsys.readouterr().err
    finally:
        for cached in (sources.sources, sources.code_hash):
            cached.cache_clear()
