"""A model of the second task as the start of the first one's systems, down to a listener who is served from it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from domain_fixtures import options, run, several
from random_checkpoints import make_checkpoint
from small_demo import demo_root, stored, train_command

from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.cli import main
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora import load_corpus
from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.corpora.base import Rating
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.generalise.resnet18 import ResNet18
from s3prl_metaperser.methods import facts_of, systems
from s3prl_metaperser.run.scopes import identify
from s3prl_metaperser.run.settings import CellOptions, UpstreamOptions
from s3prl_metaperser.run.starting import refuse_heard, refuse_heard_upstream, start_of
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.s3prl_stack.hub import build_upstream
from s3prl_metaperser.storage.checkpoints import read_checkpoint, save_checkpoint
from s3prl_metaperser.upstream.logmel import LogMel

#: The demo raters' word for each emotion of the second task.
WORDS = {"happiness": "happy", "sadness": "sad", "anger": "angry", "fear": "fear", "disgust": "disgust"}
H = 16
SIZES = {"alpha": (2, 10), "beta": (2, 10), "delta": (2, 5)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return several(tmp_path_factory.mktemp("several"), SIZES)


@pytest.fixture(scope="module")
def pooled(corpus, tmp_path_factory):
    """An average of weights on stored features."""
    folder = tmp_path_factory.mktemp("pooled")
    upstream = UpstreamOptions("fbank_no_cmvn")
    result = run(corpus, None, folder, options(modelrc={"projector_dim": H}), "Deep-All+ema", upstream=upstream)
    return folder, result


def personal(folder, start, system, upstream="fbank_no_cmvn", more=(), *flags):
    """Train and evaluate a system of the first task from a start; its result."""
    changed = (f"downstream_expert.metarc.initialisation={start}", *more)
    given = train_command(folder, "-v", system, *flags, upstream=upstream, options=changed)
    assert launcher.main(given) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    return stored(folder / "result_test.json")


def clips():
    return load_corpus("iemocap", demo_root())


def says_the_same(result, logits_of):
    """Whether what is predicted of the classes that are carried is what the start says of the same audio."""
    rows = [result["classes"].index(word) for word in WORDS.values()]
    episode, corpus = result["episodes"][0], clips()
    for utterance, probabilities in list(zip(episode["query"], episode["probabilities"], strict=True))[:4]:
        wave = torch.from_numpy(load_audio(corpus.utterance(utterance).path))
        found = np.log(np.array(probabilities)[rows])
        expected = np.asarray(logits_of(wave), np.float64)
        np.testing.assert_allclose(found - found[0], expected - expected[0], atol=2e-4)
    return True


def by_hand(start, corpus):
    """Logits [5] of a wave by the sources' mean and deviation and the averaged head, in NumPy."""
    fbank, content = build_upstream("fbank_no_cmvn"), read_checkpoint(start / "dev-best.ckpt")

    def mean(wave):
        return fbank([wave])["hidden_states"][0][0].double().mean(0).numpy()

    learned = np.stack([mean(torch.from_numpy(load_audio(u.path))) for u in corpus.utterances if u.session != "delta"])
    head = {n: v.double().numpy() for n, v in content["Generaliser"].items()}
    head = {n.removeprefix("average.averaged.module."): v for n, v in head.items()}

    def logits(wave):
        z = (mean(wave) - learned.mean(0)) / learned.std(0)
        projected = head["projector.weight"] @ z + head["projector.bias"]
        return head["classifier.weight"] @ projected + head["classifier.bias"]

    return logits


def test_zero_shot_from_a_start_is_what_the_second_tasks_model_says(corpus, pooled, tmp_path, capsys):
    start, before = pooled
    result = personal(tmp_path / "zero", start, "Linear-Zero")
    assert says_the_same(result, by_hand(start, corpus))
    assert result["hashes"]["start"] == before.hashes.parameters
    said = capsys.readouterr().err
    assert "5 of 9 classes are its own: angry (anger), sad (sadness), disgust (disgust), fear (fear), happy" in said
    assert "4 start as drawn: frustrated, excited, neutral, surprise" in said
    assert "z-scores lie beyond 10" in said


def test_a_listener_is_served_from_a_start(corpus, pooled, tmp_path):
    start, result = pooled
    personal(tmp_path / "few", start, "Linear-Few")
    model = tmp_path / "model"
    assert main(["export", str(tmp_path / "few"), "--out", str(model)]) == 0
    card = json.loads((model / "card.json").read_text())
    assert card["training"]["start"] == result.hashes.parameters
    assert str(tmp_path.parent.parent) not in json.dumps(card)
    mine = clips()
    labels = tmp_path / "mine.csv"
    lines = [
        f"{clip.path.relative_to(mine.root)},{list(WORDS.values())[place % 5]}"
        for place, clip in enumerate(mine.utterances[:8])
    ]
    labels.write_text("\n".join(["file,label", *lines]) + "\n")
    command = ["adapt", str(model), "--ratings", str(labels), "--root", str(mine.root), "--system", "Linear-Few"]
    assert main([*command, "--out", str(tmp_path / "listener")]) == 0
    before, after = (PersonalizedEmotionRecognizer.load(tmp_path / name) for name in ("model", "listener"))
    path = mine.utterances[9].path
    one, other = (each.predict_proba([path])[0] for each in (before, after))
    logits = by_hand(start, corpus)(torch.from_numpy(load_audio(path)))
    found = np.log([one[before.classes.index(word)] for word in WORDS.values()])
    np.testing.assert_allclose(found - found[0], logits - logits[0], atol=2e-4)
    assert np.abs(one - other).max() > 1e-3


def test_a_fine_tuned_start_carries_its_upstream(corpus, tmp_path):
    weights = make_checkpoint("wavlm", tmp_path / "tiny.pt")
    upstream = UpstreamOptions("wavlm_local", checkpoint=str(weights), finetuned=True)
    chosen = options(modelrc={"projector_dim": H}, runner={"total_steps": 3})
    run(corpus, None, tmp_path / "dg", chosen, upstream=upstream)
    result = personal(tmp_path / "zero", tmp_path / "dg", "Entire-Zero", "wavlm_local", (), "-k", str(weights), "-f")
    content = read_checkpoint(tmp_path / "dg" / "dev-best.ckpt")["Downstream"]
    built = build_upstream("wavlm_local", str(weights)).eval()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    tuned = {n.removeprefix("model.upstream."): v for n, v in content.items() if n.startswith("model.upstream.")}
    built.load_state_dict(tuned)
    assert any(not torch.equal(value, before[name]) for name, value in tuned.items())
    head = {n.removeprefix("model.head."): v for n, v in content.items() if n.startswith("model.head.")}

    def logits(wave):
        with torch.no_grad():
            layers = torch.stack([state[0].mean(0) for state in built([wave])["hidden_states"]])
            projected = head["projector.weight"] @ (head["weights"].softmax(0) @ layers) + head["projector.bias"]
            return head["classifier.weight"] @ projected + head["classifier.bias"]

    assert says_the_same(result, logits)


def test_a_resnet18s_trunk_is_an_upstream_and_its_classifier_follows(corpus, tmp_path):
    chosen = options(
        modelrc={"network": "resnet18", "channels": 2, "bn_momentum": 0.5},
        augmentrc={"crop_seconds": 0.2},
        runner={"total_steps": 3},
    )
    run(corpus, None, tmp_path / "dg", chosen, upstream=UpstreamOptions("logmel"))
    best = tmp_path / "dg" / "dev-best.ckpt"
    more = ("downstream_expert.evalrc.trajectory=[]",)
    result = personal(tmp_path / "zero", tmp_path / "dg", "Meta-PerSER", "logmel_resnet18", more, "-k", str(best))
    assert result["selected_step"] > 0, "it is meta-trained from there"
    zero = personal(tmp_path / "none", tmp_path / "dg", "Linear-Zero", "logmel_resnet18", (), "-k", str(best))
    network = ResNet18(1, 5, torch.Generator(), channels=2)
    network.load_state_dict(read_checkpoint(best)["Downstream"])
    network.eval()

    def logits(wave):
        with torch.no_grad():
            return network(LogMel().frames(wave)[None, None])[0]

    assert says_the_same(zero, logits)


def test_a_start_is_part_of_a_cell_whose_system_begins_with_it_and_of_no_other():
    option = "downstream_expert.metarc.initialisation"
    config = Options.from_config({"downstream_expert": {"metarc": {"initialisation": "dg"}}}).as_config()
    shared = Options().as_config()
    for name in ("Linear-Zero", "Linear-Few", "Meta-PerSER", "FOMAML", "Ridge-MAP", "Linear-Zero+bias"):
        facts = facts_of(name)
        assert facts.start(config) == "dg"
        assert facts.matters(option, "frozen", config)
        assert facts.shares_initialisation(shared)
        assert not facts.shares_initialisation(config)
        in_force = systems(False).get(name).options_in_force(Options.from_config(config))
        assert in_force.downstream_expert.metarc.initialisation == "dg"
    for name in ("Random", "Multi-Few", "Meta-PerSER:none"):
        assert facts_of(name).start(config) is None
        assert not facts_of(name).matters(option, "frozen", config)


REFUSED = [
    ({"system": "Multi-Few"}, {}, {}, "Multi-Few begins without one"),
    ({}, {"modelrc": {"projector_dim": 8}}, {}, rf"has embeddings of {H} numbers. Set modelrc.projector_dim={H}"),
    ({}, {"modelrc": {"standardize": True}}, {}, "Leave it at auto"),
    ({"upstream": UpstreamOptions("fbank")}, {}, {}, "was trained on -u fbank_no_cmvn, whose weights and settings"),
    ({"upstream": UpstreamOptions("fbank_no_cmvn", layer=0)}, {}, {}, "was trained with -l None, not 0"),
    ({}, {"modelrc": {"pooling": "statistics"}}, {}, "was trained with modelrc.pooling mean, not statistics"),
    ({}, {}, {"network": "mlp"}, "has the network mlp, whose ReLU no head has here"),
    ({}, {}, {"statistics": "speaker"}, "goes by each speaker's own statistics"),
    ({}, {}, {"system": "Majority"}, "is of Majority, which learns nothing"),
    ({}, {}, {"network": "resnet18"}, "is a ResNet18 on -u fbank_no_cmvn"),
    ({}, {}, {"downstream": "emotion"}, "is of -d emotion; a start is an experiment with -d domain_generalized"),
    ({}, {"metarc": {"initialisation": "nowhere"}}, {}, "nowhere: no such experiment folder. Expected true, false, or"),
]


@pytest.mark.parametrize(("cell", "chosen", "stored_as", "message"), REFUSED)
def test_a_start_that_does_not_fit_is_refused_before_work_is_spent(pooled, tmp_path, cell, chosen, stored_as, message):
    content = read_checkpoint(pooled[0] / "dev-best.ckpt")
    content["System"] = stored_as.pop("system", content["System"])
    content["Args"] = argparse.Namespace(**{**vars(content["Args"]), **_among(stored_as, "downstream")})
    content["Config"]["downstream_expert"]["modelrc"].update(stored_as)
    save_checkpoint(tmp_path / "dev-best.ckpt", content)
    sections = {"modelrc": {"projector_dim": H}, "metarc": {"initialisation": str(tmp_path)}}
    sections = {name: {**section, **chosen.get(name, {})} for name, section in sections.items()}
    given = {"upstream": UpstreamOptions("fbank_no_cmvn"), "system": "Linear-Zero", **cell}
    opened = CellOptions(folder=tmp_path, options=Options.from_config({"downstream_expert": sections}), **given)
    with pytest.raises(UserError, match=message):
        start_of(opened, opened.options, identify(opened, opened.options)[0])


def test_a_start_of_each_corpuss_own_statistics_goes_by_the_training_splits(pooled, tmp_path):
    content = read_checkpoint(pooled[0] / "dev-best.ckpt")
    content["Config"]["downstream_expert"]["modelrc"]["statistics"] = "corpus"
    save_checkpoint(tmp_path / "dev-best.ckpt", content)
    sections = {"modelrc": {"projector_dim": H}, "metarc": {"initialisation": str(tmp_path)}}
    cell = CellOptions(UpstreamOptions("fbank_no_cmvn"), tmp_path, Options.from_config({"downstream_expert": sections}))
    start = start_of(cell, cell.options, identify(cell, cell.options)[0])
    assert (start.statistics, start.mean) == ("own", None)


def test_a_start_that_has_heard_what_is_tested_is_refused(pooled):
    """Also where others' answers to the same recording are trained on: its label holds those of the tested one."""
    split = SimpleNamespace(
        scenario="seen",
        test=[Rating("mine", "me", ("sad",)), Rating("ours", "me", ("sad",))],
        train=[Rating("ours", "you", ("sad",)), Rating("yours", "you", ("sad",))],
    )
    hashes = {"mine": "a" * 64, "ours": "b" * 64, "yours": "c" * 64}

    def heard(*of, equal_audio="error"):
        chosen = Options.from_config({"downstream_expert": {"datarc": {"equal_audio": equal_audio}}})
        workspace = SimpleNamespace(split=split, options=chosen, audio_hashes=hashes)
        refuse_heard(Path("dg.ckpt"), {each * 16 for each in of}, workspace)

    heard("c")
    heard("a", "b", equal_audio="allow")
    with pytest.raises(
        UserError, match=r"has learned from 2 recording\(s\) that the scenario seen tests \(mine, ours\)"
    ):
        heard("a", "b", "c")


def test_a_trunk_that_has_heard_what_is_tested_is_refused_as_an_upstream(tmp_path):
    """Without being a start, too; and by the second task as well as by the first."""
    split = SimpleNamespace(scenario="unseen", test=[Rating("mine", "me", ("sad",))], train=[])
    workspace = SimpleNamespace(split=split, options=Options(), audio_hashes={"mine": "a" * 64})
    best = tmp_path / "dev-best.ckpt"
    save_checkpoint(best, {"Args": argparse.Namespace(), "Config": {}, "MadeFrom": {"audio": {"x": "a" * 16}}})
    refuse_heard_upstream(UpstreamOptions("whisper_local", str(best)), workspace)
    with pytest.raises(UserError, match=r"dev-best\.ckpt has learned from 1 recording\(s\)"):
        refuse_heard_upstream(UpstreamOptions("logmel_resnet18", str(best)), workspace)


def _among(values, *names):
    """What ``values`` has of these names, which are taken out."""
    return {name: values.pop(name) for name in names if name in values}
