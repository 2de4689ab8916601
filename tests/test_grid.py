"""Grids: what they define, which cells they have, and that these are the cells that run_downstream.py runs."""

import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from corpora_fixtures import write_wav
from small_demo import stored
from small_grid import results_below, small_options, write_grid

from s3prl_metaperser.cli import main
from s3prl_metaperser.commands.engine import status_of
from s3prl_metaperser.commands.run import NOT_RUN
from s3prl_metaperser.config.options import flat, merged
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid import relevance
from s3prl_metaperser.grid.cells import expand, select
from s3prl_metaperser.grid.definition import read_grid
from s3prl_metaperser.grid.jobs import jobs_of
from s3prl_metaperser.grid.log import speaking_into
from s3prl_metaperser.grid.opened import open_grid
from s3prl_metaperser.grid.relevance import nested
from s3prl_metaperser.grid.results import ERROR, LOG, PREVIOUS, Results
from s3prl_metaperser.grid.stages import stages as stages_of
from s3prl_metaperser.methods import SYSTEMS, facts_of
from s3prl_metaperser.methods.initialisation import initialisation_file
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.tasks import DEFAULT_TASK, TASKS

REPOSITORY = Path(__file__).resolve().parents[1]
GRIDS = REPOSITORY / "benchmarks"


# -- definition ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cells"), [("table1", 210), ("table2", 90), ("table_a4", 180), ("demo", 170), ("smoke", 28)]
)
def test_the_grids_that_come_with_the_project_have_their_cells(name, cells):
    grid = read_grid(GRIDS / f"{name}.yaml")
    assert len(expand(grid)) == cells
    assert grid.description


def test_the_demo_grid_has_every_system_of_the_papers_tables_and_another_grid_has_the_others():
    cells = expand(read_grid(GRIDS / "demo.yaml"))
    papers = {name for name in SYSTEMS if facts_of(name).table1 is not None or facts_of(name).variant_of}
    assert {cell.system for cell in cells} == papers
    others = expand(read_grid(GRIDS / "output_only.yaml"))
    assert len(others) == 120
    others += expand(read_grid(GRIDS / "crowd.yaml")) + expand(read_grid(GRIDS / "adaptation.yaml"))
    assert set(SYSTEMS.names()) - papers <= {cell.system for cell in others}


def test_a_system_with_its_outputs_adapted_has_a_cell_of_its_own_and_shares_the_initialisation():
    cells = {
        cell.system: cell
        for cell in expand(read_grid(GRIDS / "output_only.yaml"))
        if cell.along("data", "unit") == "seen/fold1"
    }
    plain, on_top = cells["Linear-Zero"], cells["Linear-Zero+map"]
    assert plain.place != on_top.place
    assert plain.identity != on_top.identity
    assert plain.initialisation == on_top.initialisation is not None


def test_tables_of_the_paper_share_the_cells_that_they_have_in_common():
    tables = ("table1", "table2", "table_a4")
    first, second, shots = ({cell.path for cell in expand(read_grid(GRIDS / f"{name}.yaml"))} for name in tables)
    assert len(first & shots) == 30
    assert len(first & second) == 15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenario": ["seen"]}, r"Unknown key 'scenario'.* Did you mean 'scenarios'"),
        ({"scenarios": ["sen"]}, r"'sen'.* Did you mean 'seen'"),
        ({"scenarios": "seen"}, "expected a list"),
        ({"scenarios": ["seen", "seen"]}, "names 'seen' twice"),
        ({"systems": {"frozen": ["Linear-Fw"]}}, "Did you mean 'Linear-Few'"),
        ({"systems": {"frozen": ["Entire-Few"]}}, r"Unknown systems.frozen 'Entire-Few'"),
        ({"systems": {"froze": ["Random"]}}, "Did you mean 'frozen'"),
        ({"systems": None}, "The key systems is missing"),
        ({"upstreams": ["wavlm_bas"]}, "Did you mean 'wavlm_base'"),
        (
            {"upstreams": [{"name": "wavlm_base", "layers": 3}]},
            r"Unknown key upstreams\[0\]\.layers.* Did you mean 'layer'",
        ),
        ({"corpus": "iemocapp"}, "Did you mean 'iemocap'"),
        ({"folds": ["fold6"]}, "fold6"),
        ({"shots": [0]}, "at least 1"),
        ({"shots": ["32"]}, "expected a whole number"),
        ({"protocol": "tune"}, "Did you mean 'tuned'"),
        ({"seed": 1.5}, "expected a whole number"),
        ({"task": "personalised_emotion"}, r":\d+: Unknown task .*Did you mean 'personalized_emotion'"),
        ({"parts": [{"task": ["a"]}]}, r":\d+, part 1: Unknown task "),
        (
            {"options": {"runner": {"total_step": 1}}},
            r"yaml: Unknown key options\.runner\.total_step\. Did you mean 'total_",
        ),
        ({"options": {"optimizer": {"lr": "fast"}}}, r"optimizer\.lr"),
        ({"options": {"downstream_expert": {"datarc": {"fold": "fold2"}}}}, "grid's key 'folds'"),
        ({"parts": [{"shots": [8]}, {"shot": [4]}]}, r":\d+, part 2: Unknown key 'shot'.* Did you mean 'shots'"),
        ({"options": []}, "expected a mapping"),
        ({"results": " "}, "not empty"),
        ({"upstreams": ["wavlm_local"]}, "needs a checkpoint"),
        ({"upstreams": [{"name": "fbank_no_cmvn", "ckpt": "nowhere.pt"}]}, "nowhere.pt: file not found"),
    ],
)
def test_a_mistake_in_a_grid_is_an_error_that_names_file_and_key(tmp_path, changes, message):
    path = write_grid(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as error:
        expand(read_grid(path))
    assert path.name in str(error.value)


def test_a_key_twice_is_an_error(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("corpus: demo\ncorpus: iemocap\n")
    with pytest.raises(UserError, match=r"twice\.yaml:2"):
        read_grid(path)


def test_paths_keep_their_spaces(tmp_path):
    grid = read_grid(write_grid(tmp_path, results="my  results", root="/two  spaces", description="a  line"))
    assert (grid.results, grid.parts[0].root, grid.description) == ("my  results", "/two  spaces", "a line")


def test_parts_that_put_different_cells_in_one_place_of_a_table_are_an_error(tmp_path):
    other = {"options": {"downstream_expert": {"evalrc": {"steps": 3}}}}
    path = write_grid(tmp_path, parts=[{"shots": [8]}, {"shots": [8], **other}])
    with pytest.raises(UserError, match="different options"):
        expand(read_grid(path))


def test_seeds_of_training_and_of_the_corpus_are_axes_and_the_usual_ones_keep_their_folders(tmp_path):
    alone = {cell.path: cell.identity for cell in expand(read_grid(write_grid(tmp_path, name="alone")))}
    cells = expand(read_grid(write_grid(tmp_path, seeds=[1337, 7], corpus_seeds=[0, 3])))
    assert len(cells) == 4 * len(alone) == len({cell.path for cell in cells}) == len({cell.identity for cell in cells})
    assert {(c.seed, c.options.downstream_expert.datarc.demo.seed) for c in cells} == {
        (1337, 0),
        (1337, 3),
        (7, 0),
        (7, 3),
    }
    usual = {cell.path: cell.identity for cell in cells if not cell.replicate}
    assert usual == alone
    assert any(cell.path.split("/")[2].endswith("-k8-seed7-drawn3") for cell in cells)
    assert len(select(cells, "seed=7,corpus_seed=3")) == len(alone)
    assert len({cell.features for cell in cells}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 3, "seeds": [1, 2]}, "seed and seeds exclude each other"),
        ({"corpus": "iemocap", "corpus_seeds": [1]}, "'iemocap' is not drawn with a seed. Corpora that are: demo"),
        ({"seeds": [1, 1]}, "twice"),
    ],
)
def test_seeds_that_cannot_be_an_axis_are_refused(tmp_path, changes, message):
    options = {} if "corpus" not in changes else {"options": {}}
    with pytest.raises(UserError, match=message):
        read_grid(write_grid(tmp_path, **options, **changes))


def test_only_chooses_cells_and_refuses_what_no_cell_has(tmp_path):
    cells = expand(read_grid(write_grid(tmp_path, scenarios=["seen", "unseen"], folds=["fold1", "fold2"])))
    chosen = select(cells, "scenario=unseen, system=Random,fold=fold1|fold2")
    assert [(cell.axes["scenario"], cell.system, cell.axes["fold"]) for cell in chosen] == [
        ("unseen", "Random", "fold1"), ("unseen", "Random", "fold2"),
    ]  # fmt: skip
    for text, message in (
        ("scenari=seen", "Did you mean 'scenario'"),
        ("system=Random|Linear-Fw", "Did you mean 'Linear-Few'"),
        ("fold", "key=value"),
    ):
        with pytest.raises(UserError, match=message):
            select(cells, text)


OWN_TASK = """
import dataclasses
from s3prl_metaperser.tasks import Axis, task_of

TASK = dataclasses.replace(
    task_of("personalized_emotion"),
    name="hearing",
    axes=(
        Axis("noise", "noises", "downstream_expert.datarc.fold", str, lambda options: ("none", "street"), "unit"),
        Axis("clips", "clips", "downstream_expert.evalrc.shots", int, lambda options: (4,), "test", letter="N"),
    ),
)
"""


def test_a_task_of_another_package_brings_its_own_axes(tmp_path, monkeypatch, capsys):
    info = tmp_path / "my_tasks-0.1.dist-info"
    info.mkdir()
    (tmp_path / "my_task.py").write_text(OWN_TASK)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-tasks\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[s3prl_metaperser.tasks]\nhearing = my_task:TASK\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = {"task": "hearing", "scenarios": None, "folds": None, "shots": None, "clips": [4, 8]}
    with TASKS.read_again():
        grid = write_grid(tmp_path, systems={"frozen": ["Linear-Zero"]}, **own)
        cells = expand(read_grid(grid))
        assert [(cell.axes["noise"], cell.axes["clips"]) for cell in cells] == [
            ("none", 4), ("none", 8), ("street", 4), ("street", 8),
        ]  # fmt: skip
        assert cells[1].place == "hearing-demo-fbank_no_cmvn-frozen/all/Linear-Zero-n8/none"
        assert cells[1].options.downstream_expert.evalrc.shots == 8
        assert [str(cell) for cell in select(cells, "noise=street,clips=8")] == [str(cells[3])]
        assert {len(job.cells) for job in jobs_of(cells)} == {4}
        assert main(["status", str(grid), "--only", "clips=4"]) == 0
        assert "Linear-Zero, N=4" in capsys.readouterr().out
        with pytest.raises(UserError, match=r"Unknown key 'folds'.*Known keys:.*noises, clips"):
            read_grid(write_grid(tmp_path, **own | {"folds": ["fold1"]}))


# -- identity --------------------------------------------------------------------------------------------------


def identities(path: Path, *changes: str, **others) -> dict[str, str]:
    return {cell.system: cell.identity for cell in expand(read_grid(path), changes=changes, **others)}


SOME = {"frozen": ["Random", "Linear-Zero", "Linear-Few", "Multi-Few", "Meta-PerSER", "Meta-PerSER:none"]}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("runner.threads=2", ()),
        ("runner.save_step=5", ()),
        ("downstream_expert.datarc.cache_dir=/elsewhere", ()),
        ("downstream_expert.datarc.num_workers=1", ()),
        ("downstream_expert.tunerc.bf16=true", ()),
        ("optimizer.lr=1e-3", ("Meta-PerSER", "Meta-PerSER:none")),
        ("runner.gradient_clipping=2.0", ("Multi-Few", "Meta-PerSER", "Meta-PerSER:none")),
        ("downstream_expert.fewrc.lr=0.1", ("Linear-Few", "Multi-Few")),
        ("downstream_expert.initrc.lr=0.1", ("Linear-Zero", "Linear-Few", "Multi-Few", "Meta-PerSER")),
        ("downstream_expert.metarc.lslr=false", ("Meta-PerSER",)),
        ("downstream_expert.evalrc.steps=3", tuple(SOME["frozen"])),
        ("downstream_expert.datarc.demo.seed=1", tuple(SOME["frozen"])),
        ("downstream_expert.datarc.pools.test=2", tuple(SOME["frozen"])),
        ("downstream_expert.metarc.raters_per_step=4", ("Meta-PerSER", "Meta-PerSER:none")),
    ],
)
def test_an_option_changes_the_identity_of_just_the_cells_that_go_by_it(tmp_path, change, changed):
    path = write_grid(tmp_path, systems=SOME)
    before, after = identities(path), identities(path, change)
    assert {name for name in before if before[name] != after[name]} == set(changed)


#: SHA-256 over all cells' folders, as version 0.1.0 names them.
FOLDERS = {
    "demo": "5d5d73a18ff631010fe76a35a7e13bafbbd54b9259745d5bb8aee8809e758cd2",
    "table1": "003ec53c639fb4ba26d0541c143f86cd41810caa7f9e9cee1d8301c9187f5ffb",
}


@pytest.mark.parametrize("name", FOLDERS)
def test_cells_are_found_in_the_folders_of_version_0_1_0(name):
    folders = sorted(cell.path for cell in expand(read_grid(GRIDS / f"{name}.yaml")))
    assert hashlib.sha256("\n".join(folders).encode()).hexdigest() == FOLDERS[name]


def test_an_option_added_later_is_part_of_the_identity_only_where_it_differs_from_its_default(monkeypatch):
    grid, new = read_grid(GRIDS / "smoke.yaml"), "downstream_expert.evalrc.rate_factor"

    def options(*changes):
        return expand(grid, changes=changes)[0].definition["options"]

    assert options()[new] == 1.0
    recipe, defaults = relevance._recipe(DEFAULT_TASK)
    older = {**recipe, "options": [name for name in recipe["options"] if name != new]}
    monkeypatch.setattr(relevance, "_recipe", lambda task: (older, defaults))
    assert new not in options()
    assert options(f"{new}=2.0")[new] == 2.0


def test_where_the_corpus_lies_is_no_part_of_the_identity(tmp_path):
    path = write_grid(tmp_path, corpus="iemocap")
    assert identities(path, root=str(tmp_path)) == identities(path, root=str(tmp_path.parent))


def test_a_checkpoint_file_counts_by_its_content(tmp_path):
    for folder, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.pt").write_bytes(content)

    def identity(folder):
        upstream = {"name": "wavlm_local", "ckpt": str(tmp_path / folder / "model.pt")}
        return identities(write_grid(tmp_path, upstreams=[upstream]))["Random"]

    assert identity("a") == identity("b") != identity("c")


def test_what_is_left_out_of_an_identity_does_not_change_numbers(tmp_path):
    everything = {
        "runner": {"total_steps": 9, "eval_step": 3, "gradient_clipping": 0.1},
        "optimizer": {"lr": 0.01, "weight_decay": 0.3},
        "downstream_expert": {
            "initrc": {"lr": 0.02, "batch_size": 16, "total_steps": 30},
            "fewrc": {"lr": 0.05, "classifier_lr": 0.07, "optimizer": "SGD"},
            "metarc": {"inner_lr": 0.3, "inner_steps": 1, "shots": 4, "initialisation": False, "lslr": False},
            "tunerc": {"dropout": True, "micro_batch_seconds": 3.0},
        },
    }
    systems = ["Random", "Linear-Zero", "Linear-Few", "Linear-Sim", "Multi-Few", "Meta-PerSER", "Meta-PerSER:none"]
    grid = write_grid(tmp_path, systems={"frozen": systems})
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    plain = {cell.system: cell for cell in expand(read_grid(grid))}
    found = {cell["cell"]["system"]: cell for cell in results_below(tmp_path / "results").values()}
    changes = dict(flat(everything))
    changed = {name: identities(grid, f"{name}={value}") for name, value in changes.items()}
    for system in systems:
        kept = {name: value for name, value in changes.items() if changed[name][system] == plain[system].identity}
        assert kept, system
        folder = tmp_path / "apart" / system.replace(":", "_")
        launch(folder, plain[system], nested(dict(flat(plain[system].config)) | kept))
        apart = stored(folder / "result_test.json")
        assert apart["episodes"] == found[system]["episodes"], (system, sorted(kept))


def launch(folder: Path, cell, config: dict) -> None:
    """The cell as run_downstream.py runs it, in two commands."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    start = ["-d", "personalized_emotion", "-u", cell.upstream.name, "-v", cell.system, "--device", "cpu"]
    folder_of = folder / "config.yaml"
    assert launcher.main([*start, "-m", "train", "-p", str(folder), "-c", str(folder_of)]) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(folder), "--device", "cpu"]) == 0


def test_all_k_share_one_initialisation_and_clipping_makes_another(tmp_path):
    """The grid's own key, and the file that SSL-E is kept in, which the system makes."""

    def keys(*options, shots):
        path = write_grid(tmp_path, *options, corpus="iemocap", systems={"finetuned": ["Entire-Zero"]}, shots=[shots])
        (cell,) = expand(read_grid(path))
        learned_from = {"task": "what is learned from"}
        task = SimpleNamespace(learned_from=learned_from, options=cell.options, seed=1, cache=tmp_path, model="any")
        return cell.initialisation, initialisation_file(task)

    assert keys(shots=2) == keys("downstream_expert.evalrc.validation_seeds=1", shots=64)
    clipped = keys("runner.gradient_clipping=0.5", shots=2)
    assert all(one != other for one, other in zip(clipped, keys(shots=2), strict=True))


# -- running ---------------------------------------------------------------------------------------------------


def test_a_cell_has_the_very_result_of_run_downstream(tmp_path):
    grid = write_grid(tmp_path, systems={"frozen": ["Linear-Few", "Meta-PerSER", "Multi-Few"]}, scenarios=["unseen"])
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    found = results_below(tmp_path / "results")
    for cell in expand(read_grid(grid)):
        config = merged(yaml.safe_load((REPOSITORY / "downstream/personalized_emotion/config.yaml").read_text()), {})
        tested = {"downstream_expert": {"datarc": {"scenario": "unseen"}, "evalrc": {"shots": 8}}}
        config = merged(merged(config, small_options()), tested)
        launch(tmp_path / "apart" / cell.system, cell, config)
        apart = stored(tmp_path / "apart" / cell.system / "result_test.json")
        ours = found[cell.path]
        for key in ("episodes", "metrics", "selected_step", "cell", "counts", "hashes", "raters", "engine"):
            assert ours[key] == apart[key], (cell.system, key)


def test_what_is_done_is_not_run_again_and_settings_have_results_of_their_own(tmp_path, capsys):
    grid = write_grid(tmp_path)
    results = tmp_path / "results"
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    first, times = results_below(results), {p: p.stat().st_mtime_ns for p in results.rglob("*") if p.is_file()}
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    assert "2 done (0 now, 2 before)" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in results.rglob("*") if p.is_file()} == times
    change = ["--set", "downstream_expert.fewrc.lr=0.3"]
    assert main(["run", str(grid), "--device", "cpu", *change]) == 0
    assert "2 done (1 now, 1 before)" in capsys.readouterr().out
    second = results_below(results)
    assert len(set(first) & set(second)) == 1
    assert len(list((results / PREVIOUS).rglob("result_test.json"))) == 1
    assert main(["report", str(results), "--out", str(tmp_path / "report")]) == 0
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    assert results_below(results) == first


def test_a_result_of_a_corpus_with_other_labels_does_not_count(tmp_path, capsys):
    grid = write_grid(tmp_path, systems={"frozen": ["Random"]})
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    (cell,) = expand(read_grid(grid))
    record = Results(tmp_path / "results").of(cell) / "cell.json"
    content = json.loads(record.read_text())
    content["done"]["corpus"] = "0" * 64
    record.write_text(json.dumps(content))
    assert main(["status", str(grid)]) == 0
    assert "its corpus had other labels" in capsys.readouterr().out
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    assert main(["status", str(grid)]) == 0
    assert "1 done, 0 running, 0 failed, 0 missing" in capsys.readouterr().out
    assert len(list((tmp_path / "results" / PREVIOUS).rglob("result_test.json"))) == 1


def test_labels_are_looked_at_where_the_corpus_is_named_by_its_file_too(tmp_path):
    write_wav(tmp_path / "a.wav")
    labels = tmp_path / "ratings.csv"
    labels.write_text("file,rater,label\na.wav,one,sad\na.wav,two,sad\na.wav,three,angry\n")
    raters = ["downstream_expert.datarc.test_raters=[one, two, three]"]
    grid = str(write_grid(tmp_path, *raters, corpus="ratings_csv", root=str(labels)))
    before = open_grid(grid).results.fingerprints["ratings_csv"]
    labels.write_text(labels.read_text().replace("angry", "happy"))
    assert open_grid(grid).results.fingerprints["ratings_csv"] != before


def test_options_of_the_corpuss_reader_are_options_of_a_grid(tmp_path):
    datarc = {"downstream_expert": {"datarc": {"labels": "big_six"}}}
    grid = read_grid(write_grid(tmp_path, corpus="ratings_csv", options=datarc))
    (cell, *_), (plain, *_) = expand(grid), expand(read_grid(write_grid(tmp_path, corpus="ratings_csv", options={})))
    named = {"downstream_expert.datarc.labels": "big_six"}
    assert cell.definition["options"] == plain.definition["options"] | named
    with pytest.raises(UserError, match="labels"):
        expand(grid, corpus="demo")


def test_a_failing_cell_is_recorded_and_the_rest_goes_on(tmp_path, capsys):
    grid = write_grid(tmp_path, systems={"frozen": ["Meta-PerSER", "Linear-Zero"]})
    bad = ["--set", "downstream_expert.metarc.inner_lr=1e30"]
    assert main(["run", str(grid), "--device", "cpu", *bad]) == 1
    said = capsys.readouterr()
    assert "2 cells: 1 done (1 now, 0 before), 1 failed" in said.out
    assert f"status {grid}" in said.out
    assert said.err.count("failed: Meta-PerSER on demo") == 1
    error = json.loads(next((tmp_path / "results").rglob(ERROR)).read_text())
    assert "Traceback" in error["traceback"]
    assert main(["status", str(grid), *bad]) == 1
    shown = capsys.readouterr().out
    assert error["error"] in shown
    assert "1 done, 0 running, 1 failed, 0 missing" in shown
    assert main(["run", str(grid), "--device", "cpu", "--fail-fast", *bad]) == 1
    assert "1 failed" in capsys.readouterr().out
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    assert main(["status", str(grid)]) == 0


def test_the_exit_status_is_the_number_of_cells_that_failed(tmp_path):
    grid = write_grid(tmp_path, systems={"frozen": ["Meta-PerSER", "Meta-PerSER:INI", "Linear-Zero"]})
    bad = ["--set", "downstream_expert.metarc.inner_lr=1e30"]
    assert main(["run", str(grid), "--device", "cpu", *bad]) == 2
    assert [status_of(failed) for failed in (0, 1, 99, 100, 5000)] == [0, 1, 99, 99, 99]
    assert NOT_RUN > 99


def test_what_the_runner_says_is_in_the_cells_log_and_not_on_the_screen(tmp_path, capsys):
    grid = write_grid(tmp_path, systems={"frozen": ["Linear-Few"]})
    assert main(["run", str(grid), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    log = next((tmp_path / "results").rglob(LOG)).read_text()
    assert "[MetaPerSER] Trained Linear-Few in" in log
    assert "macro-F1" in log
    assert "\r" not in log
    assert "[MetaPerSER]" not in said.err + said.out
    assert "1/1" in said.err


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(tmp_path, capsys):
    grid = write_grid(tmp_path)
    assert main(["run", str(grid), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^run +Linear-Few on demo", said, re.MULTILINE)
    assert re.search(r"^(make|exists) +consensus initialisation", said, re.MULTILINE)
    assert not (tmp_path / "results").exists()


def test_stages_are_made_once_and_found_by_the_cells(tmp_path, capsys):
    own = ("downstream_expert.modelrc.feature_dtype=float16", "downstream_expert.initrc.lr=0.0123")
    grid = write_grid(tmp_path, *own)
    line = ["run", str(grid), "--device", "cpu"]
    for stage in ("features", "initialisation"):
        assert main([*line, "--stage", stage]) == 0
        assert f"{stage}: 0 existed, 1 made, 0 failed" in capsys.readouterr().out
    assert main([*line, "--stage", "initialisation"]) == 0
    assert "initialisation: 1 existed, 0 made, 0 failed" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()
    assert main(["plan", str(grid), "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert stages == {"features": {"needed": 1, "exist": 1}, "initialisation": {"needed": 1, "exist": 1}}
    cache = Path(os.environ["METAPERSER_CACHE"])
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    assert main([*line, "--stage", "system"]) == 0
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")} == before
    (stage,) = [one for one in stages_of(expand(read_grid(grid))) if one.kind == "initialisation"]
    (made,) = json.loads(stage.note.read_text())["files"]
    Path(made).unlink()
    assert not stage.exists()


# -- status and plan -------------------------------------------------------------------------------------------


def without_torch(*arguments: str) -> subprocess.CompletedProcess:
    code = "import sys; from s3prl_metaperser.cli import main; status = main(sys.argv[1:]); "
    code += "assert not {'torch', 's3prl'} & set(sys.modules); sys.exit(status)"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=os.environ)


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["plan"], ["run", "--dry-run"]])
def test_status_and_plan_do_without_torch(tmp_path, command):
    done = without_torch(command[0], str(GRIDS / "table1.yaml"), "--results", str(tmp_path), *command[1:])
    assert done.returncode == 0, done.stderr
    assert "210" in done.stdout or len(done.stdout.splitlines()) >= 210


def test_status_as_json_has_every_cell(tmp_path, capsys):
    grid = write_grid(tmp_path)
    assert main(["status", str(grid), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"done": 0, "running": 0, "failed": 0, "missing": 2}
    assert {entry["system"] for entry in report["cells"]} == {"Random", "Linear-Few"}


def test_status_shows_a_cell_that_another_process_works_on(tmp_path, capsys):
    grid = write_grid(tmp_path)
    cell = expand(read_grid(grid))[0]
    with Results(tmp_path / "results").working_on(cell) as mine:
        assert mine
        with ThreadPoolExecutor(1) as other:  # whom the lock keeps out as it does another process
            assert other.submit(main, ["status", str(grid)]).result() == 0
    assert "1 running" in capsys.readouterr().out
    assert main(["status", str(grid)]) == 0
    assert "0 running" in capsys.readouterr().out


def test_a_plan_says_what_it_cannot_know_and_takes_the_users_figure(capsys):
    only = "upstream=wavlm_base,system=Entire-Zero|Meta-PerSER"
    line = ["plan", str(GRIDS / "table1.yaml"), "--only", only, "--json"]
    assert main(line) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["cells"]["all"] == 20
    assert plan["time"]["finetuned"]["estimated"] == 0
    assert any("--seconds-per-step" in text for text in plan["time"]["finetuned"]["basis"])
    seconds = {}
    for given in ("1", "2"):
        assert main([*line, "--seconds-per-step", given]) == 0
        seconds[given] = json.loads(capsys.readouterr().out)["time"]["finetuned"]["seconds"]
    # 10 folds of SSL-E, 4000 steps each with 16 looks; of Meta-PerSER 200 steps of 9 raters, 30 % of them first-order,
    # 8 looks at 2 episodes of 50 steps, 10 test episodes; S = 5
    ssl_e = 4000 + 16 * 320 / 32 / 3
    meta = 200 * 9 * (0.3 * 6 + 0.7 * 21) + (8 * 2 + 10) * (50 + 160 / 32 / 3)
    zero = (2 + 10) * 160 / 32 / 3
    assert seconds["1"] == pytest.approx(10 * (ssl_e + meta + zero))
    assert seconds["2"] == pytest.approx(2 * seconds["1"])
    # each Meta-PerSER checkpoint is model and two moments, twice; 94.4 M parameters and a head
    assert plan["disk"]["results"] == pytest.approx(10 * (6 + 2) * 94.6e6 * 4, rel=0.01)


def test_a_plan_of_the_demo_grid_has_the_measured_times_and_other_settings_have_none(capsys):
    line = ["plan", str(GRIDS / "demo.yaml"), "--results", "nowhere", "--json"]
    assert main(line) == 0
    time = json.loads(capsys.readouterr().out)["time"]["frozen"]
    assert time["estimated"] == time["cells"] == 170
    assert time["seconds"] > 170 * 0.1
    assert main([*line, "--set", "downstream_expert.evalrc.steps=3"]) == 0
    assert json.loads(capsys.readouterr().out)["time"]["frozen"]["estimated"] == 0


def test_a_plan_uses_the_times_of_cells_that_are_done(tmp_path, capsys):
    grid = write_grid(tmp_path, folds=["fold1", "fold2"], upstreams=["fbank_no_cmvn"])
    assert main(["run", str(grid), "--device", "cpu", "--only", "fold=fold1"]) == 0
    capsys.readouterr()
    assert main(["plan", str(grid)]) == 0
    said = capsys.readouterr().out
    assert "1 cell(s)" not in said
    assert f"cells done in {tmp_path / 'results'}" in said
    assert "for 2 of 2 cells" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "wavlm_base", "--only", "fold=fold1"], "--only does not apply to an upstream"),
        (["plan", str(GRIDS / "demo.yaml"), "--memory", "16"], "--memory does not apply to a grid"),
        (["run", str(GRIDS / "demo.yaml"), "--only", "fold=fold9"], "Did you mean 'fold"),
        (["run", str(GRIDS / "demo.yaml"), "--set", "runner.total_stps=3"], "Did you mean 'total_steps'"),
        (["run", str(GRIDS / "demo.yaml"), "--set", "downstream_expert.evalrc.shots=3"], "grid's key 'shots'"),
        (["run", str(GRIDS / "demo.yaml"), "--set", "args.seed=3"], "only options"),
        (["run", str(GRIDS / "demo.yaml"), "--set", "runner.total_steps"], "--set: 'runner.total_steps' does not have"),
        (["run", str(GRIDS / "demo.yaml"), "--only", ""], "key=value"),
        (["run", str(GRIDS / "demo.yaml"), "--results", __file__], "is a file; results need a folder"),
        (["run", str(GRIDS / "demo.yaml"), "--results", f"{__file__}/below"], "cannot be written to"),
        (["run", str(GRIDS / "table1.yaml"), "--root", "nowhere"], "nowhere"),
        (["run", str(GRIDS / "table1.yaml")], "'iemocap' needs its folder: --root DIR"),
        (["run", str(GRIDS / "table1.yaml"), "--stage", "features"], "'iemocap' needs its folder: --root DIR"),
        (["status", str(GRIDS / "table1.yaml"), "--root", "nowhere"], "nowhere"),
        (["status", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line_and_no_count_of_failures(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == (NOT_RUN if arguments[0] == "run" else 2)
    said = capsys.readouterr().err.strip()
    assert said.startswith("metaperser: error: ")
    assert message in said


def test_an_option_cut_short_is_an_error_since_run_all_would_not_know_it(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", str(GRIDS / "demo.yaml"), "--dry"])
    assert stop.value.code == NOT_RUN
    assert "unrecognized arguments: --dry" in capsys.readouterr().err


def test_an_environment_without_what_is_needed_is_one_line(tmp_path):
    line = "import sys; sys.modules['numpy'] = None; from s3prl_metaperser.cli import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", line, "status", str(write_grid(tmp_path))], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("metaperser: error: the Python package 'numpy' is not installed")
    assert "Traceback" not in ended.stderr


def test_a_cells_log_that_is_closed_can_be_thrown_away_without_a_word(tmp_path):
    with speaking_into(tmp_path / "cell.log", lambda share: None):
        log = sys.stdout
        print("said")
    log.flush()
    log.close()
    assert (tmp_path / "cell.log").read_text() == "said\n"


def test_an_option_that_is_gone_is_said_once_and_neither_moves_nor_renames_a_cell(tmp_path, capsys):
    old = expand(read_grid(write_grid(tmp_path, "downstream_expert.evalrc.interval_draws=2000", name="old")))
    assert capsys.readouterr().err.count("not used any more") == 1
    new = expand(read_grid(write_grid(tmp_path)))
    assert [cell.path for cell in new] == [cell.path for cell in old]
    assert "not used" not in capsys.readouterr().err
