"""A task of another package (tests/plugin_task_package): one file and one entry point, from grid to report."""

import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_demo import overrides, stored, train_command
from small_grid import results_below

from s3prl_metaperser.cli import main
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.report.sections import OF_PARTS, SECTIONS
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.tasks import DEFAULT_TASK, TASKS, Task, task_of

PLUGIN = Path(__file__).parent / "plugin_task_package"
PAGE = PLUGIN.parents[1] / "docs" / "adding_a_task.md"
NAME, SPEAKERS = "speaker_emotion", ["Ses01F", "Ses01M", "Ses02F"]


@pytest.fixture(scope="module")
def installed():
    """The package as pip would leave it: on the path, with its dist-info."""
    with pytest.MonkeyPatch.context() as patch, TASKS.read_again():
        patch.syspath_prepend(str(PLUGIN))
        yield
    sys.modules.pop(NAME, None)


@pytest.fixture(scope="module")
def done(installed, tmp_path_factory):
    """A grid of this task that has been run, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("task")
    path = write_grid(folder)
    assert main(["run", str(path), "--device", "cpu"]) == 0
    return folder


def blocks(language: str) -> list[str]:
    """The page's examples in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def write_grid(folder, **changes) -> Path:
    """The page's grid."""
    (grid,) = map(yaml.safe_load, blocks("yaml"))
    path = folder / "speakers.yaml"
    path.write_text(yaml.safe_dump({**grid, "results": str(folder / "results"), **changes}))
    return path


def test_the_page_shows_the_file_that_is_run_here_and_names_every_field():
    source = (PLUGIN / f"{NAME}.py").read_text(encoding="utf-8")
    assert len(blocks("python")) > 5
    assert [block for block in blocks("python") if block not in source] == []
    page = PAGE.read_text(encoding="utf-8")
    assert [f.name for f in dataclasses.fields(Task) if f"`{f.name}`" not in page] == []
    for section in (*OF_PARTS, *SECTIONS):
        assert f"`{section}`" in page
    assert (PLUGIN / f"{NAME}-0.1.dist-info" / "entry_points.txt").read_text().split()[-1] in page


def test_it_is_listed_with_its_package_and_unknown_without(installed, capsys):
    assert main(["list", "tasks"]) == 0
    assert f"{NAME:<26} from speaker-emotion" in capsys.readouterr().out


def test_a_grid_runs_it_and_writes_results_of_each_speaker(done):
    found = [Result.read(path) for path in (done / "results").rglob("result_test.json")]
    wanted = {(system, speaker) for system in ("Majority", "Logistic") for speaker in SPEAKERS}
    assert {(result.cell.system, result.cell.fold) for result in found} == wanted
    assert {result.task for result in found} == {NAME}
    for result in found:
        assert result.raters.test == result.cell.fold
        assert result.cell.fold not in result.raters.train
        np.testing.assert_allclose(np.sum(result.episodes[0].probabilities, 1), 1, atol=1e-9)
    assert {r.option("speakerrc", "penalty") for r in found if r.cell.system == "Logistic"} == {300.0}


def test_learning_from_other_speakers_beats_their_mean_answer(done):
    losses: dict[str, list[float]] = {}
    for content in results_below(done / "results").values():
        losses.setdefault(content["cell"]["system"], []).append(content["metrics"]["nats"]["mean"])
    assert np.mean(losses["Logistic"]) < np.mean(losses["Majority"])


def test_majority_is_the_mean_answer_of_the_other_speakers(done):
    """Against a loop over the corpus's ratings."""
    from s3prl_metaperser.corpora import open_corpus

    (content,) = (
        c for c in results_below(done / "results").values()
        if (c["cell"]["system"], c["cell"]["fold"]) == ("Majority", "Ses01M")
    )  # fmt: skip
    corpus = open_corpus(task_of(NAME).options_from(content["options"]).downstream_expert.datarc)
    ticks: dict[str, np.ndarray] = {}
    for rating in corpus.ratings:
        if corpus.utterance(rating.utterance).speaker != "Ses01M":
            ticks[rating.utterance] = ticks.get(rating.utterance, 0) + corpus.label_set.counts(rating.answer)
    expected = np.mean([count / count.sum() for count in ticks.values()], axis=0)
    np.testing.assert_allclose(content["episodes"][0]["probabilities"][0], expected, atol=1e-12)


def test_a_second_run_finds_everything_done_and_the_plan_says_so(done, capsys):
    path = str(done / "speakers.yaml")
    assert main(["run", path, "--device", "cpu"]) == 0
    assert main(["status", path]) == 0
    assert re.search("6 cells in .*: 6 done", capsys.readouterr().out)
    assert main(["plan", path]) == 0
    assert "nothing left to run" in capsys.readouterr().out


def test_an_option_of_its_own_runs_only_the_cells_that_go_by_it_again(done, capsys):
    path = str(done / "speakers.yaml")
    assert main(["run", path, "--dry-run", "--set", "downstream_expert.speakerrc.penalty=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "Majority" in line] == ["done"] * 3
    assert [line.split()[0] for line in lines if "Logistic" in line] == ["run"] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"downstream_expert": {"speakerrc": {"penalti": 1}}}}, r"penalti\. Did you mean 'penalty'"),
        ({"options": {"downstream_expert": {"speakerrc": {"penalty": 0}}}}, "Bad value 0 for .*penalty, expected"),
        ({"options": {"downstream_expert": {"speakerrc": {"held_out": "x"}}}}, "is an axis of the grid.*'held_out'"),
        ({"systems": {"frozen": ["Logistik"]}}, "Did you mean 'Logistic'"),
        ({"folds": ["fold1"]}, "Unknown key 'folds'.*Known keys:.*held_out"),
    ],
)  # fmt: skip
def test_mistakes_in_its_grid_are_named(installed, tmp_path, capsys, changes, message):
    from s3prl_metaperser.grid.cells import expand
    from s3prl_metaperser.grid.definition import read_grid

    with pytest.raises(UserError, match=message):
        expand(read_grid(write_grid(tmp_path, **changes)))


def test_an_unknown_speaker_is_named_by_the_cell_that_fails(installed, tmp_path, capsys):
    path = write_grid(tmp_path, held_out=["Ses09F"], systems={"frozen": ["Majority"]})
    assert main(["run", str(path), "--device", "cpu"]) == 1
    assert main(["status", str(path)]) == 1
    assert "Unknown speaker 'Ses09F'" in capsys.readouterr().out


def test_the_launcher_runs_it_too(installed, tmp_path, capsys):
    command = ["-d", NAME, "-u", "fbank_no_cmvn", "-p", str(tmp_path / "exp"), "--device", "cpu"]
    options = ["-o", overrides("downstream_expert.speakerrc.held_out=Ses02M", "downstream_expert.speakerrc.penalty=3")]
    assert launcher.main([*command, *options, "-m", "train"]) == 0
    content = stored(tmp_path / "exp" / "result_test.json")
    assert (content["task"], content["cell"]["system"], content["raters"]["test"]) == (NAME, "Logistic", "Ses02M")
    assert launcher.main([*command, "-m", "evaluate"]) == 2
    assert "use -m train" in capsys.readouterr().err


def test_the_first_task_says_which_scenarios_there_are():
    with pytest.raises(UserError, match=r"Bad value 'sen' for config.*scenario. Did you mean 'seen'\? Or 'unseen'\?"):
        task_of(DEFAULT_TASK).options_from({"downstream_expert": {"datarc": {"scenario": "sen"}}})


def test_the_launcher_refuses_a_scenario_that_the_task_does_not_have(tmp_path, capsys):
    command = train_command(tmp_path / "exp", options=("downstream_expert.datarc.scenario=sen",))
    assert launcher.main(command) == 2
    assert "Did you mean 'seen'" in capsys.readouterr().err


def test_it_is_one_file_and_one_entry_point():
    assert [path.name for path in PLUGIN.glob("*.py")] == [f"{NAME}.py"]
    points = (PLUGIN / f"{NAME}-0.1.dist-info" / "entry_points.txt").read_text(encoding="utf-8")
    assert points.count("=") == 1


def test_validate_recomputes_the_numbers_of_its_results(done, tmp_path, capsys):
    shutil.copytree(done / "results", tmp_path / "results")
    assert main(["validate", "--all", str(tmp_path / "results")]) == 0
    (path, *_) = sorted((tmp_path / "results").rglob("result_test.json"))
    content = stored(path)
    content["episodes"][0]["metrics"]["nats"] += 0.01
    path.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["validate", "--all", str(tmp_path / "results")]) == 1
    assert "metrics.nats" in capsys.readouterr().out


@pytest.fixture(scope="module")
def report(done):
    assert main(["report", str(done / "results"), "--out", str(done / "report")]) == 0
    return done / "report"


def table(report, pattern) -> list[list[str]]:
    (path,) = (report / "tables").glob(pattern)
    return [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_report_has_the_sections_metrics_and_unit_that_the_task_names(report):
    page = (report / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<(?:section|details) [^>]*id="([^"]+)"', page) == [
        "verdicts", "tables-demo-frozen", "hardest", "origin",
    ]  # fmt: skip
    assert "Speaker-independent emotion recognition: results" in page
    assert re.search("<h1>.*Logistic", page)
    assert "Means over seeds, then test speakers" in page
    assert "rater" not in re.sub("<[^>]+>", "", page.split("</style>")[-1])
    header, *rows = table(report, "table1*.csv")
    assert {name for name in ("nats", "Brier", "macro-F1") if any(name in cell for cell in header)} == {"nats", "Brier"}
    assert {row[2] for row in rows} == {"Logistic", "Majority"}


def test_results_of_two_tasks_in_one_folder_are_two_parts_of_a_report(done, tmp_path):
    """A result of the first task, made up from one of the other's."""
    (path, *_) = sorted((done / "results").rglob("result_test.json"))
    content = stored(path)
    del content["options"]["downstream_expert"]["speakerrc"]
    other = {**content, "task": DEFAULT_TASK, "cell": {**content["cell"], "system": "Linear-Zero", "scenario": "seen"}}
    shutil.copytree(done / "results", tmp_path / "results")
    (tmp_path / "results" / "other").mkdir()
    (tmp_path / "results" / "other" / "result_test.json").write_text(json.dumps(other))
    assert main(["report", str(tmp_path / "results"), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    for task in (NAME, DEFAULT_TASK):
        title = task_of(task).title
        assert f'id="verdicts_{task}"' in page
        assert f"{title}: What can be told apart" in page
        assert list((tmp_path / "report" / "tables").glob(f"table1_{task}*.csv"))
