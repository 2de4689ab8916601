"""Results that cannot be confused: a run is resumed as what it was, and each cell's result has a file of its own."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from small_demo import overrides, stored, train_command

from s3prl_metaperser.cli import main
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import load_results, said_of_other_results
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.statistics import paired_intervals
from s3prl_metaperser.run import shown_commands
from s3prl_metaperser.run.opened import Checkpoint
from s3prl_metaperser.run.result_files import result_name
from s3prl_metaperser.s3prl_plugin import launcher

REPOSITORY = Path(__file__).resolve().parents[1]
E = "downstream_expert"


@pytest.fixture(scope="module")
def trained(finished, tmp_path_factory):
    """A finished experiment of Linear-Few and one of Linear-Zero, both evaluated."""
    work = tmp_path_factory.mktemp("experiments")
    for system in ("Linear-Few", "Linear-Zero"):
        finished(system, work / system)
    return work


@pytest.fixture
def few(trained, tmp_path):
    return Path(shutil.copytree(trained / "Linear-Few", tmp_path / "Linear-Few"))


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OTHER_ARGUMENTS = [
    (("-u", "fbank"), "-u 'fbank_no_cmvn' -> 'fbank'"),
    (("-v", "Linear-Zero"), "-v 'Linear-Few' -> 'Linear-Zero'"),
    (("-v", "Meta-PerSER"), "-v 'Linear-Few' -> 'Meta-PerSER'"),
    (("-f",), "-f False -> True"),
    (("-s", "last_hidden_state"), "-s 'hidden_states' -> 'last_hidden_state'"),
    (("-l", "0"), "-l None -> 0"),
    (("--upstream_feature_normalize",), "--upstream_feature_normalize False -> True"),
    (("--seed", "7"), "--seed 1337 -> 7"),
    (("-u", "wavlm_base", "-v", "Random"), "-u 'fbank_no_cmvn' -> 'wavlm_base'; -v 'Linear-Few' -> 'Random'"),
]


@pytest.mark.parametrize("way", ["-a", "-e"])
@pytest.mark.parametrize(("arguments", "said"), OTHER_ARGUMENTS)
def test_a_run_is_not_resumed_as_another_upstream_system_or_seed(few, capsys, way, arguments, said):
    before = content(few)
    command = [*train_command(few, "-v", "Linear-Few", *arguments), "-a"]
    assert launcher.main(command if way == "-a" else ["-m", "evaluate", "-e", str(few), *arguments]) == 2
    assert f"is of another run (stored -> given: {said})" in capsys.readouterr().err
    assert content(few) == before


OTHER_OPTIONS = [
    (f"{E}.datarc.corpus=iemocap", f"{E}.datarc.corpus 'demo' -> 'iemocap'"),
    (f"{E}.datarc.scenario=unseen", f"{E}.datarc.scenario 'seen' -> 'unseen'"),
    (f"{E}.datarc.fold=fold2", f"{E}.datarc.fold 'fold1' -> 'fold2'"),
    (f"{E}.datarc.smoothing=0.1", f"{E}.datarc.smoothing 0.05 -> 0.1"),
    (f"{E}.datarc.demo.seed=1", f"{E}.datarc.demo.seed 0 -> 1"),
    (f"{E}.datarc.test_sessions=[Ses01]", f"{E}.datarc.test_sessions ['Ses05'] -> ['Ses01']"),
    (f"{E}.modelrc.projector_dim=17", f"{E}.modelrc.projector_dim 16 -> 17"),
    (f"{E}.initrc.lr=0.002", f"{E}.initrc.lr 0.001 -> 0.002"),
    (f"{E}.fewrc.lr=0.002", f"{E}.fewrc.lr 0.001 -> 0.002"),
    (f"{E}.evalrc.shots=9", f"{E}.evalrc.shots 8 -> 9"),
    (f"{E}.evalrc.protocol=tuned", f"{E}.evalrc.protocol 'paper' -> 'tuned'"),
    ("runner.total_steps=13", "runner.total_steps 12 -> 13"),
    ("optimizer.name=SGD", "optimizer.name 'AdamW' -> 'SGD'"),
]


@pytest.mark.parametrize(("change", "said"), OTHER_OPTIONS)
def test_no_option_that_changes_numbers_is_changed_by_a(few, capsys, change, said):
    before = content(few)
    assert launcher.main([*train_command(few, "-v", "Linear-Few", options=(change,)), "-a"]) == 2
    assert f"(stored -> given: {said})" in capsys.readouterr().err
    assert content(few) == before


def test_nor_by_a_configuration_file(few, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"downstream_expert": {"datarc": {"fold": "fold3"}}}))
    assert launcher.main([*train_command(few, "-v", "Linear-Few"), "-a", "-c", str(tmp_path / "c.yaml")]) == 2
    assert f"{E}.datarc.fold 'fold1' -> 'fold3'" in capsys.readouterr().err


def test_the_same_command_with_a_goes_on_also_with_what_changes_no_number(few, tmp_path):
    free = ("runner.threads=2", "runner.log_step=3", f"{E}.evalrc.interval_draws=60", f"{E}.evalrc.trajectory=[0]")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"downstream_expert": {"datarc": {"test_sessions": None}}}))
    command = train_command(few, "-v", "Linear-Few", options=free)
    try:
        assert launcher.main([*command, "-a", "-c", str(tmp_path / "c.yaml")]) == 0
    finally:
        torch.set_num_threads(1)
    assert (
        launcher.main(["-m", "train", "-d", "personalized_emotion", "-p", str(few), "-a", "-u", "fbank_no_cmvn"]) == 0
    )


def test_what_a_system_puts_in_force_is_no_change(tmp_path, trained):
    command = train_command(tmp_path / "exp", "-v", "Multi-Few", options=(f"{E}.initrc.total_steps=8",))
    assert launcher.main(command) == 0
    assert launcher.main([*command, "-a"]) == 0


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("shots=9", "result_test-shots9.json"),
        ("queries=20", "result_test-queries20.json"),
        ("seeds=2", "result_test-seeds2.json"),
        ("protocol=tuned", "result_test-protocol-tuned.json"),
        ("interval_draws=60", "result_test.json"),  # says something else of the same numbers
    ],
)
def test_a_result_of_another_cell_is_another_file(few, capsys, change, name):
    before = content(few)
    assert launcher.main(["-m", "evaluate", "-e", str(few), "-o", f"config.{E}.evalrc.{change}"]) == 0
    said = capsys.readouterr().err
    assert f"result file: {few / name}" in said
    assert said.count("not used any more") == ("interval_draws" in change)
    assert Result.read(few / name).episodes
    if name != "result_test.json":
        assert content(few)["result_test.json"] == before["result_test.json"]
    assert not list(few.glob("previous-*"))


def test_the_trained_system_with_something_on_its_outputs_has_a_file_of_its_own(few, capsys):
    before = content(few)
    assert launcher.main(["-m", "evaluate", "-e", str(few), "-v", "Linear-Few+bias"]) == 0
    assert Result.read(few / "result_test-system-Linear-Few+bias.json").cell.system == "Linear-Few+bias"
    assert content(few)["result_test.json"] == before["result_test.json"]
    assert launcher.main([*train_command(few, "-v", "Linear-Few+bias"), "-a"]) == 2
    assert "-v 'Linear-Few' -> 'Linear-Few+bias'" in capsys.readouterr().err


def test_results_of_other_cells_are_checked_too(few, capsys):
    assert launcher.main(["-m", "evaluate", "-e", str(few), "-o", f"config.{E}.evalrc.shots=9"]) == 0
    assert main(["validate", "--all", str(few)]) == 0
    assert "2 result files" in capsys.readouterr().out
    path = few / "result_test-shots9.json"
    number = stored(path)["metrics"]["macro_f1"]["mean"]
    path.write_text(path.read_text().replace(repr(number), repr(number / 2)))
    assert main(["validate", "--all", str(few)]) == 1
    assert "result_test-shots9.json" in capsys.readouterr().out


def test_the_name_of_a_result_says_all_that_was_changed(few):
    checkpoint = Checkpoint.read(few / "dev-best.ckpt")
    config = checkpoint.content["Config"]
    evalrc = {**config[E]["evalrc"], "shots": 8, "rate_factor": 0.5, "steps": 3}
    changed = {**config, E: {**config[E], "evalrc": evalrc, "fewrc": {**config[E]["fewrc"], "optimizer": "SGD"}}}
    assert result_name("dev", checkpoint, config, "Linear-Few") == "result_dev.json"
    assert (
        result_name("test", checkpoint, changed, "Linear-Few") == "result_test-optimizer-SGD-steps3-rate_factor0.5.json"
    )
    many = {**config, E: {**config[E], "evalrc": dict.fromkeys(evalrc, "x" * 30)}}
    assert re.fullmatch(r"result_test-[0-9a-f]{12}\.json", result_name("test", checkpoint, many, "Linear-Few"))
    shutil.copy(few / "dev-best.ckpt", few / "states-7.ckpt")
    other = Checkpoint.read(few / "states-7.ckpt")
    assert result_name("test", other, config, "Linear-Few") == f"result_test-step{other.step}.json"


def test_a_result_in_a_folder_of_its_own_is_what_a_report_reads(few, tmp_path, capsys):
    fewer = ["-o", f"config.{E}.evalrc.shots=4"]
    assert launcher.main(["-m", "evaluate", "-e", str(few), "-p", str(tmp_path / "own"), *fewer]) == 0
    assert [path.name for path in (tmp_path / "own").glob("result_*")] == ["result_test.json"]
    assert launcher.main(["-m", "evaluate", "-e", str(few), *fewer]) == 0
    assert said_of_other_results(few).startswith(
        "1 result of other cells than the trained one (result_test-shots4.json"
    )
    (few / "result_test.json").unlink()
    with pytest.raises(UserError, match=r"holds no result_test\.json\..*result_test-shots4\.json.*\(-p\)"):
        load_results(few)
    assert not said_of_other_results(tmp_path / "own")


def test_a_result_of_other_predictions_is_not_overwritten_without_a_word(few, capsys):
    text = (few / "result_test.json").read_text()
    number = stored(few / "result_test.json")["episodes"][0]["loss"]
    other = text.replace(repr(number), repr(number + 1))
    assert other != text
    (few / "result_test.json").write_text(other)
    assert launcher.main(["-m", "evaluate", "-e", str(few)]) == 0
    (aside,) = few.glob("previous-*/result_test.json")
    assert aside.read_text() == other
    assert f"result_test.json held another result, which is now in {aside.parent.name}/" in capsys.readouterr().err


def test_evaluate_prints_zero_shot_adapted_and_their_paired_difference(few, trained, capsys):
    assert launcher.main(["-m", "evaluate", "-e", str(few)]) == 0
    printed = capsys.readouterr().out
    adapted, zero = (Result.read(trained / name / "result_test.json") for name in ("Linear-Few", "Linear-Zero"))
    gains = paired_intervals(adapted.scored, zero.scored)
    for name in ("macro_f1", "micro_f1", "unweighted_accuracy", "nats"):
        metric, gain = METRICS.get(name), gains[name]
        numbers = [metric.shown(result.metrics[name].mean) for result in (zero, adapted)]
        spans = [metric.shown(value, "+") for value in (gain.mean, gain.low, gain.high)]
        wanted = [re.escape(text) for text in (metric.heading, *numbers)]
        line = r"\s+".join(wanted) + r"\s+" + re.escape(f"{spans[0]} [{spans[1]}, {spans[2]}]")
        assert re.search(line, printed), (line, printed)
    assert "of rater C-E1 alone" in printed
    assert "UA: mean binary accuracy" in printed


def test_a_system_that_does_not_adapt_has_nothing_to_compare(trained, capsys):
    assert launcher.main(["-m", "evaluate", "-e", str(trained / "Linear-Zero")]) == 0
    printed = capsys.readouterr().out
    assert "zero-shot" not in printed
    assert "UA: mean binary accuracy" in printed


# -- printed commands ----------------------------------------------------------------------------------------------


def run_shell(line, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_printed_next_command_works_where_it_is_printed(tmp_path, trained):
    (tmp_path / "launch").symlink_to(REPOSITORY)
    (tmp_path / "here").mkdir()
    start = [sys.executable, "../launch/run_downstream.py"]
    command = [*start, *train_command(Path("my exp"), "-v", "Linear-Zero", "--device", "cpu")]
    ended = run_shell(shlex.join(command), tmp_path / "here")
    assert ended.returncode == 0, ended.stderr
    (line,) = re.findall(r"next: (.*)", ended.stderr)
    assert line.endswith(" ../launch/run_downstream.py -m evaluate -e 'my exp'")
    again = run_shell(line, tmp_path / "here")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "here" / "my exp" / "result_test.json").is_file()


def test_printed_commands_are_those_that_were_used(tmp_path, monkeypatch):
    script = tmp_path / "bin" / "metaperser"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script), "export"])
    assert shown_commands.metaperser("adapt", "a b") == f"{script} adapt 'a b'"
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    assert shown_commands.metaperser("adapt", Path("a")) == "metaperser adapt a"
    assert shown_commands.launcher("-m", "evaluate").endswith(" -m s3prl_metaperser.s3prl_plugin.launcher -m evaluate")
    monkeypatch.setattr(sys, "argv", [str(script), "train", "-u", "x"])
    assert shown_commands.launcher("-m", "evaluate", "-e", "a b") == "metaperser evaluate -e 'a b'"
    monkeypatch.setattr(sys, "argv", ["/nowhere/cli.py"])
    assert shown_commands.metaperser("list").endswith(" -m s3prl_metaperser.cli list")


# -- before work is spent ------------------------------------------------------------------------------------------

FORESEEN = [
    (("-o", overrides(f"{E}.evalrc.shots=4000")), "K=4000 support utterances"),
    (("-o", overrides(f"{E}.datarc.fold=fold9")), "fold9"),
    (("-u", "wavlm_base"), "wavlm_base"),
    (("-f",), "has no learned weights to fine-tune"),
    (("-u", "wavlm_local", "-k", "nowhere.pt"), "nowhere.pt"),
]


@pytest.mark.parametrize(("arguments", "said"), FORESEEN)
def test_what_can_be_known_before_work_begins_is_said_before_it(tmp_path, monkeypatch, capsys, arguments, said):
    import s3prl.util.download as download

    def refuse(url, path):
        raise OSError("Name or service not known")

    monkeypatch.setattr(download, "_download_dir", tmp_path / "weights")
    monkeypatch.setattr("s3prl_metaperser.s3prl_stack.download._transfer", refuse)
    monkeypatch.setenv("METAPERSER_CACHE", str(tmp_path / "cache"))
    assert launcher.main([*train_command(tmp_path / "exp"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "cache").exists(), "no corpus was made, and no feature"


def test_k_beyond_what_the_tested_rater_has_is_said_before_features_are_made(tmp_path, trained, monkeypatch, capsys):
    monkeypatch.setattr("s3prl_metaperser.run.opened.open_scope", lambda *_: pytest.fail("features are made"))
    assert launcher.main(train_command(tmp_path / "exp", options=(f"{E}.evalrc.shots=119",))) == 2
    assert re.search(r"Rater C-E\d has \d+ rated utterance\(s\) in seen/fold1", capsys.readouterr().err)
