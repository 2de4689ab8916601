"""The whole path through s3prl's command line, on a small demo corpus of real audio files."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from small_demo import demo_root, overrides, stored, train_command, trained_and_evaluated

from s3prl_metaperser import cli
from s3prl_metaperser.config.options import Options
from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import episode_scores
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.s3prl_plugin.upload import Upload
from s3prl_metaperser.storage.checkpoints import read_checkpoint, save_checkpoint
from s3prl_metaperser.storage.paths import steps_of
from s3prl_metaperser.storage.provenance import digest

REPOSITORY = Path(__file__).resolve().parents[1]
OURS = ["-d", "personalized_emotion", "-u", "fbank_no_cmvn"]
TRAIN = [*OURS, "-m", "train"]
VOLATILE = ("seconds", "adapt_seconds", "peak_memory_bytes")


@pytest.fixture(scope="module")
def trained(finished, tmp_path_factory):
    """A finished experiment; the demo corpus and its features are in the session's cache afterwards."""
    return finished("Meta-PerSER", tmp_path_factory.mktemp("experiment") / "exp")


def result(folder, split="test"):
    content = stored(folder / f"result_{split}.json")
    return {key: value for key, value in content.items() if key not in VOLATILE}


def test_the_experiment_folder_is_s3prls(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"log.log", "states-12.ckpt", "dev-best.ckpt", "result_test.json"} <= names
    for prefix in ("args_", "config_", "events.out.tfevents"):
        assert any(name.startswith(prefix) for name in names), prefix
    assert not any(name.endswith(".part") for name in names)
    log = (trained / "log.log").read_text()
    assert "train loss at step 4: " in log
    assert "New best on dev at step " in log


def test_checkpoints_have_s3prls_keys_and_hold_no_pickled_code(trained):
    content = read_checkpoint(trained / "states-12.ckpt")
    assert {"Optimizer", "Step", "Epoch", "Args", "Config", "Featurizer", "Downstream", "InnerRates"} <= set(content)
    assert content["Step"] == 12
    assert set(content["Downstream"]) == {f"{m}.{t}" for m in ("projector", "classifier") for t in ("weight", "bias")}
    assert content["InnerRates"]["values"].shape == (2, 5)


def test_the_selected_checkpoint_has_the_lowest_validation_loss(trained):
    lines = [line for line in (trained / "log.log").read_text().splitlines() if line.startswith("dev loss")]
    losses = {int(line.split()[4].rstrip(":")): float(line.split()[-1]) for line in lines}
    best, initial = read_checkpoint(trained / "dev-best.ckpt"), losses.pop(0)
    assert best["Step"] == min(losses, key=losses.get)
    assert best["Best"]["loss"] == min(losses.values())
    found = stored(trained / "result_test.json")["selected"]
    assert (found["loss"], found["initial_loss"]) == (best["Best"]["loss"], initial)
    assert 0 < found["rates_moved"] < 0.1


@pytest.mark.parametrize(("selection", "step"), [("best_from_0", 0), ("last", 12)])
def test_step_0_or_the_last_step_is_selected_where_that_is_asked_for(tmp_path, trained, selection, step, capsys):
    """At an outer rate that only does harm the initialisation is best; the default says so and takes another."""
    harm = ("optimizer.lr=0.5",)
    folder = tmp_path / selection
    assert launcher.main(train_command(folder, options=(*harm, f"downstream_expert.metarc.selection={selection}"))) == 0
    assert ("before the first outer step" in capsys.readouterr().err) == (step > 0)
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    found = stored(folder / "result_test.json")
    assert found["selected_step"] == step
    assert (found["selected"]["loss"] == found["selected"]["initial_loss"]) == (step == 0)


def test_the_result_file_holds_what_its_metrics_come_from(trained):
    content = stored(trained / "result_test.json")
    assert content["counts"] == {
        "shots_requested": 8, "shots_used": 8, "queries_requested": 24, "queries_used": 24, "episodes": 3,
    }  # fmt: skip
    again = []
    for episode in content["episodes"]:
        scores = episode_scores(np.array(episode["probabilities"]), np.array(episode["ticks"]), LABEL_SET)
        assert scores == episode["metrics"]
        assert not set(episode["support"]) & set(episode["query"])
        again.append(scores["macro_f1"])
    assert content["metrics"]["macro_f1"]["mean"] == pytest.approx(np.mean(again))
    assert content["raters"]["test"] not in content["raters"]["train"]
    assert content["selected_step"] == read_checkpoint(trained / "dev-best.ckpt")["Step"]


def test_evaluating_again_gives_the_same_file(trained, capsys):
    before = result(trained)
    assert launcher.main(["-m", "evaluate", "-e", str(trained)]) == 0
    assert result(trained) == before
    printed = capsys.readouterr().out
    assert "macro-F1" in printed
    assert "interval" in printed


def test_the_validation_rater_can_be_evaluated_too(trained):
    assert launcher.main(["-m", "evaluate", "-t", "dev", "-e", str(trained)]) == 0
    assert result(trained, "dev")["raters"]["test"] == result(trained)["raters"]["validation"]


def test_a_training_that_was_stopped_is_evaluated_and_that_is_said_and_recorded(trained, tmp_path, capsys):
    folder = tmp_path / "stopped"
    shutil.copytree(trained, folder)
    [(total, last)] = steps_of(folder)
    last.rename(folder / f"states-{total - 1}.ckpt")
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    doubt = f"the training had not ended: step {total - 1} of {total}"
    assert f"NOTE: {doubt}. To go on with it: " in "".join(capsys.readouterr())
    assert stored(folder / "result_test.json")["doubts"] == [doubt]
    assert "doubts" not in stored(trained / "result_test.json")


def test_a_moved_experiment_is_evaluated_where_it_is(trained, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    (moved / "result_test.json").unlink()
    assert launcher.main(["-m", "evaluate", "-e", str(moved)]) == 0
    assert result(moved) == result(trained)


def test_inference_prints_every_class_of_one_file(trained, capsys):
    wav = next(demo_root().rglob("*.wav"))
    assert launcher.main(["-m", "inference", "-t", str(wav), "-e", str(trained)]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 9
    assert sum(float(line.split()[1]) for line in lines) == pytest.approx(1, abs=0.01)


def test_the_end_of_training_says_where_everything_is_and_what_comes_next(tmp_path, trained, capsys):
    assert launcher.main(train_command(tmp_path / "exp", "-v", "Linear-Zero")) == 0
    said = capsys.readouterr().err
    assert f"-m evaluate -e {tmp_path / 'exp'}" in said
    assert "running on the CPU" in said or torch.cuda.is_available()
    assert "the upstream is not loaded" in said


def test_unseen_is_trained_without_session_five(tmp_path, trained, capsys):
    content = result(trained_and_evaluated(tmp_path / "exp", options=("downstream_expert.datarc.scenario=unseen",)))
    assert all(u.startswith("Ses05") for e in content["episodes"] for u in (*e["support"], *e["query"]))
    assert content["counts"]["queries_used"] < 24, "session 5 of the small corpus has fewer than K + Q"
    assert "Q shrinks to" in capsys.readouterr().err


def run(*arguments, cwd=None, **more):
    command = [sys.executable, str(REPOSITORY / "run_downstream.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def test_it_runs_from_any_directory_and_says_something_first(tmp_path, trained):
    process = run(*train_command(Path("here"), "-v", "Linear-Zero"), cwd=tmp_path)
    first = process.stderr.readline()
    assert first.startswith("[MetaPerSER] ")
    process.communicate()
    assert process.returncode == 0
    assert (tmp_path / "here" / "dev-best.ckpt").is_file()


def test_resuming_a_finished_run_changes_nothing(tmp_path, trained):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    before = (copy / "dev-best.ckpt").read_bytes()
    assert launcher.main([*train_command(copy), "-a"]) == 0
    assert (copy / "dev-best.ckpt").read_bytes() == before


def test_starting_anew_moves_the_old_experiment_aside(tmp_path, trained):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    old = (copy / "result_test.json").read_text()
    assert launcher.main(train_command(copy, "-v", "Linear-Zero")) == 0
    (aside,) = copy.glob("previous-*")
    assert (aside / "result_test.json").read_text() == old
    assert (aside / "states-12.ckpt").is_file()


def test_a_checkpoint_of_another_system_is_refused(trained, tmp_path, capsys):
    command = train_command(tmp_path / "exp", "-v", "Linear-Few", "-i", str(trained / "dev-best.ckpt"))
    assert launcher.main(command) == 2
    assert "holds Meta-PerSER, not Linear-Few" in capsys.readouterr().err


def test_a_checkpoint_that_says_nothing_of_pooling_as_those_of_0_1_0_is_evaluated_to_the_same_result(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "exp"))
    content = read_checkpoint(folder / "dev-best.ckpt")
    del content["MadeFrom"]["upstream"]["pooling"]
    content["Task"] = digest(content["MadeFrom"])
    save_checkpoint(folder / "dev-best.ckpt", content)
    before = result(folder)
    assert launcher.main(["-m", "evaluate", "-e", str(folder)]) == 0
    after = result(folder)
    assert after["hashes"].pop("task") == content["Task"] != before["hashes"].pop("task")
    assert after == before


def test_init_ckpt_starts_a_new_run_from_its_parameters(trained, tmp_path):
    start = trained / "dev-best.ckpt"
    assert launcher.main(train_command(tmp_path / "exp", "-i", str(start), options=("optimizer.lr=1e-9",))) == 0
    one, other = read_checkpoint(start), read_checkpoint(tmp_path / "exp" / "states-12.ckpt")
    assert other["Step"] == 12
    assert torch.allclose(one["Downstream"]["classifier.weight"], other["Downstream"]["classifier.weight"], atol=1e-6)


def test_steps_and_an_outer_rate_that_are_changed_on_resuming_take_effect(tmp_path, trained):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    still = "config.runner.total_steps=16,,config.optimizer.lr=1e-9,,config.optimizer.weight_decay=0.0"
    assert launcher.main(["-m", "train", "-e", str(copy), "-o", still]) == 0
    before, after = read_checkpoint(trained / "states-12.ckpt"), read_checkpoint(copy / "states-16.ckpt")
    assert after["Step"] == 16
    assert torch.allclose(
        before["Downstream"]["classifier.weight"], after["Downstream"]["classifier.weight"], atol=1e-7
    )


def test_a_configuration_file_is_used(tmp_path, trained):
    saved = yaml.safe_load(sorted(trained.glob("config_*.yaml"))[0].read_text())
    saved["runner"]["total_steps"] = 4
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(saved))
    assert launcher.main([*TRAIN, "-p", str(tmp_path / "exp"), "-c", str(tmp_path / "c.yaml")]) == 0
    assert read_checkpoint(tmp_path / "exp" / "states-4.ckpt")["Step"] == 4


@pytest.mark.parametrize("finetuned", [False, True])
def test_what_a_configuration_file_leaves_out_is_the_scopes(tmp_path, monkeypatch, finetuned):
    partial = "downstream_expert:\n  datarc: {fold: fold2}\n  fewrc:\n  evalrc: {trajectory: [3]}\n"
    (tmp_path / "c.yaml").write_text(partial)
    started = []
    monkeypatch.setattr(launcher, "start", lambda args, config: started.append(config))
    command = ["-d", "personalized_emotion", "-u", "wavlm_base", "-m", "train", "-p", str(tmp_path / "exp")]
    scope = ["-f"] if finetuned else []
    assert launcher.main([*command, *scope, "-c", str(tmp_path / "c.yaml")]) == 0
    assert launcher.main([*command, *scope]) == 0
    found, shipped = (Options.from_config(config) for config in started)
    assert found.downstream_expert.datarc.fold == "fold2"
    assert found.downstream_expert.evalrc.trajectory == (3,)
    assert shipped.downstream_expert.metarc.inner_lr == (1e-3 if finetuned else 0.05)
    sections = ("initrc", "metarc", "fewrc", "modelrc", "tunerc", "runner", "optimizer")
    assert found.digest(*sections) == shipped.digest(*sections)


def test_a_number_that_s3prl_reads_as_another_one_stops_its_own_launcher(tmp_path):
    """s3prl has read the file by YAML 1.1, in which rater 010 is 8."""
    from s3prl_metaperser.s3prl_plugin.registration import DOWNSTREAM, _handing_over

    path = tmp_path / "c.yaml"
    path.write_text("downstream_expert:\n  datarc: {exclude_raters: [010]}\n")
    args = argparse.Namespace(downstream=DOWNSTREAM, upstream_trainable=False, config=str(path))
    runner = Mock(args=args, config=yaml.safe_load(path.read_text()))
    with pytest.raises(UserError, match=r"c\.yaml:2: 010 is read as another number\. Put quotes around a name"):
        _handing_over("train", None)(runner)


def test_stock_launcher_hands_over_to_the_same_runner(tmp_path, trained, monkeypatch):
    """``python -m s3prl.run_downstream -d personalized_emotion``, on a stack where s3prl itself starts."""
    from s3prl import run_downstream

    from s3prl_metaperser.s3prl_plugin.registration import register

    register()
    config = yaml.safe_load(sorted(trained.glob("config_*.yaml"))[0].read_text())
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    folder = tmp_path / "stock"
    command = [*TRAIN, "-p", str(folder), "--device", "cpu", "-c", str(tmp_path / "c.yaml")]
    monkeypatch.setattr(sys, "argv", ["run_downstream.py", *command])
    monkeypatch.setattr(torch.multiprocessing, "set_sharing_strategy", lambda strategy: None)
    run_downstream.main()
    one, other = read_checkpoint(trained / "dev-best.ckpt"), read_checkpoint(folder / "dev-best.ckpt")
    assert one["Step"] == other["Step"]
    assert torch.equal(one["Downstream"]["classifier.weight"], other["Downstream"]["classifier.weight"])


WRONG = [
    (["-d", "personalised_emotion", "-u", "fbank_no_cmvn", "-m", "train"], "Did you mean 'personalized_emotion'"),
    (["-d", "personalized_emotion", "-u", "wavlm_bas", "-m", "train"], "Did you mean 'wavlm_base"),
    (["-d", "personalized_emotion", "-m", "train"], "No upstream given"),
    ([*TRAIN, "-v", "Meta-Perse"], "mean 'Meta-PerSER'"),
    ([*TRAIN, "-c", "none.yaml"], "no such configuration"),
    ([*OURS, "-m", "evaluate"], "Nothing to evaluate"),
    ([*TRAIN, "-f"], "Remove -f"),
    ([*TRAIN, "-o", "config.runner.total_step=3"], "steps"),
    (["-m", "evaluate", "-e", "nowhere"], "no such experiment folder"),
    (["-d", "personalized_emotion", "-u", "wavlm_local", "-m", "train"], "-k"),
    ([*TRAIN, "-l", "3"], "Layer 3"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_users_mistake_is_one_line_without_a_traceback(tmp_path, monkeypatch, trained, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "-o" not in arguments and "-c" not in arguments and "-e" not in arguments:
        arguments = [*arguments, "-o", overrides()]
    assert launcher.main(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert said[-1].startswith("[MetaPerSER] error: ")
    assert not any("Traceback" in line for line in said)


def test_an_own_corpus_as_ratings_csv_runs_through(tmp_path, trained):
    """Export the small demo corpus as ratings.csv and files.csv, and train on that."""
    import csv

    from s3prl_metaperser.corpora import load_corpus

    corpus = load_corpus("iemocap", demo_root())
    folder = tmp_path / "own"
    (folder / "wavs").mkdir(parents=True)
    with open(folder / "ratings.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "rater", "label"])
        table.writerows([f"wavs/{r.utterance}.wav", r.rater, ";".join(r.ticks)] for r in corpus.ratings)
    with open(folder / "files.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "speaker", "session"])
        for u in corpus.utterances:
            table.writerow([f"wavs/{u.id}.wav", u.speaker, u.session])
            (folder / "wavs" / f"{u.id}.wav").symlink_to(u.path)
    options = ("downstream_expert.datarc.corpus=ratings_csv", f"downstream_expert.datarc.root={folder}")
    options += ("downstream_expert.datarc.outside=true",)  # the audio is linked
    own, demo = result(trained_and_evaluated(tmp_path / "exp", options=options)), result(trained)
    assert own["raters"] == demo["raters"]
    assert json.dumps(own["classes"]) == json.dumps(demo["classes"])


def test_an_upstream_without_its_weights_is_one_clear_error(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    import s3prl.util.download as download

    monkeypatch.setattr(download, "_download_dir", tmp_path / "weights")
    monkeypatch.setattr("s3prl_metaperser.s3prl_stack.download._transfer", refuse)
    assert launcher.main(train_command(tmp_path / "exp", upstream="wavlm_base")) == 2
    said = capsys.readouterr().err
    assert "https://huggingface.co/s3prl/converted_ckpts/resolve/main/wavlm_base.pt" in said
    assert str(tmp_path / "weights") in said
    assert "wavlm_local -k" in said


def refuse(url, path):
    raise OSError("Name or service not known")


def test_wavlm_says_that_it_is_base_plus(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.setattr("s3prl_metaperser.s3prl_stack.download._transfer", refuse)
    assert launcher.main(train_command(tmp_path / "exp", upstream="wavlm")) == 2
    assert "Base-Plus" in capsys.readouterr().err


def test_a_local_checkpoint_trains_and_its_store_is_its_own(tmp_path, trained, capsys):
    from random_checkpoints import make_checkpoint

    make_checkpoint("wavlm", tmp_path / "tiny.pt")
    command = train_command(tmp_path / "exp", "-k", str(tmp_path / "tiny.pt"), upstream="wavlm_local")
    assert launcher.main(command) == 0
    content = read_checkpoint(tmp_path / "exp" / "dev-best.ckpt")
    assert content["Featurizer"]["weights"].shape == (3,)
    make_checkpoint("wavlm", tmp_path / "tiny.pt", seed=1)
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "exp")]) == 2
    assert "was trained on other data" in capsys.readouterr().err


def test_vectors_by_name_give_the_result_of_the_upstream_that_made_them(tmp_path, trained, monkeypatch, capsys):
    from safetensors.numpy import load_file

    from s3prl_metaperser.corpora import open_corpus
    from s3prl_metaperser.corpora.contents import Contents

    cache = tmp_path / "cache"  # with these features alone
    shutil.copytree(Path(os.environ["METAPERSER_CACHE"]) / "demo", cache / "demo")
    monkeypatch.setenv("METAPERSER_CACHE", str(cache))
    same = ("downstream_expert.modelrc.standardize=true",)
    given = ["-v", "Linear-Few", "-k", str(tmp_path / "v.npz")]
    assert launcher.main(train_command(tmp_path / "a", *given[:2], upstream="fbank_no_cmvn", options=same)) == 0
    options = Options.from_config(read_checkpoint(trained / "dev-best.ckpt")["Config"])
    corpus = open_corpus(options.downstream_expert.datarc)
    files, rows = Contents(corpus, cache).files, {}
    for shard in cache.glob("features/fbank_no_cmvn-*/*.safetensors"):
        with safe_open(shard, framework="np") as opened:
            audio = json.loads(opened.metadata()["audio"])
        rows |= dict(zip(audio, load_file(shard)["features"], strict=True))
    known = [utterance for utterance in reversed(corpus.utterances) if files[utterance.id] in rows]
    values = np.stack([rows[files[utterance.id]] for utterance in known])
    np.savez(tmp_path / "v.npz", names=np.array([u.path.name for u in known]), values=values)
    assert launcher.main(train_command(tmp_path / "b", *given, upstream="embeddings", options=same)) == 0
    for name in "ab":
        assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / name)]) == 0
    one, other = (result(tmp_path / name) for name in "ab")
    assert one["metrics"] == other["metrics"]
    assert [e["probabilities"] for e in one["episodes"]] == [e["probabilities"] for e in other["episodes"]]
    capsys.readouterr()
    assert launcher.main(train_command(tmp_path / "f", *given[2:], "-f", upstream="embeddings")) == 2
    assert "no learned weights to fine-tune" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path / "b"), "--out", str(tmp_path / "model")]) == 2
    assert "hears no audio" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    np.savez(tmp_path / "v.npz", names=np.array([u.id for u in known[5:]]), values=values[5:])
    assert launcher.main(train_command(tmp_path / "c", *given, upstream="embeddings")) == 2
    assert "recordings have no vector of their own" in capsys.readouterr().err


@pytest.mark.parametrize("upstream", ["fbank", "mel"])
def test_upstreams_that_remove_the_mean_are_warned_of_in_words(tmp_path, trained, capsys, upstream):
    assert launcher.main(train_command(tmp_path / "exp", "-v", "Linear-Zero", upstream=upstream)) == 0
    assert "Use -u fbank_no_cmvn instead" in capsys.readouterr().err


class Hub:
    """Stands in for the Hugging Face Hub."""

    def __init__(self):
        self.repositories, self.files = {}, {}

    def __call__(self):  # HfApi()
        return self

    def create_repo(self, name, *, private, exist_ok):
        from huggingface_hub.utils import HfHubHTTPError

        if name in self.repositories and not exist_ok:
            raise HfHubHTTPError("409 Conflict", response=Mock(status_code=409, headers={}))
        self.repositories.setdefault(name, private)

    def model_info(self, name):
        return Mock(private=self.repositories[name])

    def upload_folder(self, *, repo_id, folder_path, ignore_patterns):
        kept = [path for path in Path(folder_path).iterdir() if not path.match("previous-*")]
        self.files[repo_id] = {path.name: path.read_bytes() for path in kept if path.is_file()}

    def whoami(self):
        raise OSError("Token is required\nbut no token found")


@pytest.fixture
def hub(monkeypatch):
    found = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", found)
    return found


@pytest.mark.parametrize("answer", ["True", "False"])
def test_push_to_hf_hub_uploads_to_a_private_repository_where_that_is_wanted(tmp_path, trained, hub, capsys, answer):
    push = ["--push_to_hf_hub", answer, "--hf_hub_org", "lab"]
    assert launcher.main(train_command(tmp_path / "exp", "-v", "Linear-Zero", *push)) == 0
    name, said = "lab/fbank_no_cmvn-Linear-Zero-seen-fold1", capsys.readouterr().err
    assert hub.repositories == ({name: True} if answer == "True" else {})
    if answer == "True":
        assert sorted(hub.files[name]) == ["README.md", "dev-best.ckpt"]
        assert f"uploading to {name} (private)" in said
        assert said.index("  dev-best.ckpt, ") < said.index("uploaded to")


def test_what_is_uploaded_names_no_path_rater_or_recording_and_makes_the_same_model(tmp_path, trained, hub):
    from s3prl_metaperser.listener.export import export

    content = read_checkpoint(trained / "dev-best.ckpt")
    secrets = [*content["MadeFrom"]["labels"], *content["MadeFrom"]["audio"]]
    secrets += ["secret", str(Path.home()), str(Path.cwd()), str(tmp_path), str(trained)]
    content["Args"].upstream_ckpt = "https://somebody:secret@example.org/a.pt?token=secret"
    content["Args"].override = f"config.downstream_expert.datarc.root={tmp_path}"
    content["Config"]["downstream_expert"]["datarc"]["root"] = str(tmp_path / "corpus")
    save_checkpoint(tmp_path / "exp" / "dev-best.ckpt", content)
    (tmp_path / "exp" / "log.log").write_text("x")
    Upload("True", "lab").send(tmp_path / "exp", "a/b c")
    uploaded = hub.files["lab/a-b-c"]
    assert not [secret for secret in secrets if any(secret.encode() in data for data in uploaded.values())]
    assert sorted(path.name for path in (tmp_path / "exp").iterdir()) == ["dev-best.ckpt", "log.log"]
    (tmp_path / "dev-best.ckpt").write_bytes(uploaded["dev-best.ckpt"])
    theirs, own = (
        export(*each).card for each in ((tmp_path / "dev-best.ckpt", tmp_path / "theirs"), (trained, tmp_path / "own"))
    )
    assert theirs.sha256 == own.sha256
    assert theirs.training.train_raters == own.training.train_raters


def test_public_repositories_and_whole_folders_have_to_be_asked_for(tmp_path, trained, hub, capsys):
    (exp := tmp_path / "exp").mkdir()
    for name in ("dev-best.ckpt", "result_test.json"):
        (exp / name).write_bytes((trained / name).read_bytes())
    hub.repositories = {"lab/old": False, "lab/own": True}
    with pytest.raises(UserError, match="lab/old exists and is public, so nothing was uploaded"):
        Upload("True", "lab").send(exp, "old")
    assert hub.files == {}
    Upload("True", "lab").send(exp, "own")
    Upload("public", "lab").send(exp, "old")
    Upload("all", "lab").send(exp, "whole")
    assert "raters' names and their labels" in capsys.readouterr().err
    assert hub.repositories == {"lab/old": False, "lab/own": True, "lab/whole": True}
    wanted = {"own": ["README.md", "dev-best.ckpt"], "old": ["README.md", "dev-best.ckpt"]}
    wanted["whole"] = ["dev-best.ckpt", "result_test.json"]
    assert {name.removeprefix("lab/"): sorted(files) for name, files in hub.files.items()} == wanted


def test_what_keeps_an_upload_from_working_is_said_before_training_or_in_one_line(tmp_path, trained, hub, capsys):
    for words, said in (("yes,pubic", "'pubic' is not known"), ("True", "nobody is logged in there")):
        assert launcher.main(train_command(tmp_path / "exp", "--push_to_hf_hub", words)) == 2
        assert said in capsys.readouterr().err
        assert not list((tmp_path / "exp").glob("*.ckpt"))
    hub.upload_folder = Mock(side_effect=ConnectionError("no route\nto host"))
    with pytest.raises(UserError, match=r"cannot be used \(no route\): the experiment itself is complete"):
        Upload("True", "lab").send(trained, "x")
