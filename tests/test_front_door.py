"""The first minutes: ``metaperser demo``, grids by name, ``train`` and ``evaluate``, what there is to choose from."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_demo import SMALL, overrides, stored

from s3prl_metaperser import __version__, cli
from s3prl_metaperser.commands import demo
from s3prl_metaperser.commands.cell import TRAIN
from s3prl_metaperser.demo.raters import rater_models
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.statistics import Interval
from s3prl_metaperser.grid.cells import expand
from s3prl_metaperser.grid.definition import known_grids, read_grid
from s3prl_metaperser.grid.relevance import nested
from s3prl_metaperser.listener.folder import read_card
from s3prl_metaperser.run import scopes
from s3prl_metaperser.run.unadapted import Gains, _bar
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.s3prl_plugin.arguments import build_parser
from s3prl_metaperser.s3prl_stack.hub_index import hub_index
from s3prl_metaperser.storage.checkpoints import read_checkpoint
from s3prl_metaperser.upstream.licences import LICENCES

ROOT = Path(__file__).resolve().parents[1]


def out_of(capsys, *line: object, status: int = 0) -> str:
    assert cli.main([str(word) for word in line]) == status
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def small_first(tmp_path_factory):
    """The demo's grid, made small: one listener whose table is permuted."""
    grid = yaml.safe_load(known_grids()[demo._GRID].read_text())
    small = (item.split("=", 1) for item in SMALL if "evalrc.shots" not in item)
    options = nested({key: yaml.safe_load(value) for key, value in small})
    options["downstream_expert"]["datarc"]["demo"] = {"utterances": 40, "raters": "opposed"}
    path = tmp_path_factory.mktemp("grids") / "small_first.yaml"
    path.write_text(yaml.safe_dump(grid | {"folds": ["fold2"], "shots": [8], "options": options}))
    return path


def test_the_demo_goes_from_nothing_to_a_listener_a_report_and_a_page_and_is_not_made_twice(
    tmp_path, small_first, monkeypatch, capsys
):
    monkeypatch.setattr(demo, "_GRID", str(small_first))
    monkeypatch.setattr(demo, "_LABELLED", 16)
    folder = tmp_path / "first"
    said = out_of(capsys, "demo", folder)
    page = folder / "report" / "report.html"
    assert f"report:          {page.as_uri()}" in said
    assert re.search(rf"listening page:  .* listen {folder}/model --clips {folder}/clips\n", said)
    before, after = re.search(r"nats +([\d.]+) before, +([\d.]+) after", said).groups()
    assert float(after) < float(before), "labels of a listener who is unlike all others help"
    assert read_card(folder / "listener").listener["rater"] == "C-E2"
    assert len((folder / "clips/labelled/labels.csv").read_text().splitlines()) == 17
    times = {
        path: path.stat().st_mtime_ns for path in (page, folder / "model/card.json", folder / "listener/card.json")
    }
    again = out_of(capsys, "demo", folder)
    assert "4 done (0 now, 4 before)" in again
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert re.search(r"nats .* after", again).group() in said


def test_the_demos_grid_tests_listeners_of_whom_some_are_permuted():
    cells = expand(read_grid(demo._GRID))
    permuted = {model.id for model in rater_models("opposed") if model.permutation is not None}
    assert len(cells) == 20
    assert permuted & {"C-E1", "C-E2", "C-E4", "C-E5", "C-E6"} == {"C-E2", "C-E5"}


def test_the_demo_says_what_to_install_and_touches_no_folder_of_others(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "mine.txt"):
        assert cli.main(["demo", str(place)]) == 2
        assert f"{place} holds something else. Name a new folder" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    assert cli.main(["demo", str(tmp_path / "new")]) == 2
    assert "needs praat-parselmouth. Type: python" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_train_and_evaluate_are_the_launchers_own_lines_and_say_what_adapting_gained(tmp_path, capsys, monkeypatch):
    line = ["-u", "fbank_no_cmvn", "-v", "Linear-Few", "-o", overrides(), "-p", str(tmp_path / "cell")]
    out_of(capsys, "train", *line)
    said = out_of(capsys, "evaluate", "-e", tmp_path / "cell")
    result = stored(tmp_path / "cell" / "result_test.json")
    assert result["versions"]["s3prl-metaperser"] == __version__
    assert read_checkpoint(tmp_path / "cell" / "dev-best.ckpt")["Version"] == __version__
    check_bars(said, result)
    check_board(tmp_path / "cell", result)
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "cell"), "-p", str(tmp_path / "again")]) == 0
    assert stored(tmp_path / "again" / "result_test.json")["metrics"] == result["metrics"]
    lines = []
    monkeypatch.setattr(launcher, "main", lambda argv: lines.append(argv) or 0)
    out_of(capsys, "train", *line)
    out_of(capsys, "train", "-a", "-d", "emotion", "-u", "fbank")
    out_of(capsys, "train", "-e", "cell")
    assert lines == [
        ["-m", "train", "-d", "personalized_emotion", *line],
        ["-m", "train", "-a", "-d", "emotion", "-u", "fbank"],
        ["-m", "train", "-e", "cell"],
    ]


def test_train_takes_every_option_of_the_launcher_but_its_mode():
    parser = argparse.ArgumentParser()
    TRAIN.add(parser.add_subparsers())
    train = vars(parser.parse_args(["train"]))
    assert {*train, "mode"} - {"run"} == set(vars(build_parser().parse_args(["-m", "train"])))


def test_a_corpus_that_is_not_there_is_missed_before_an_upstream_is_downloaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scopes, "checkpoint_hash", lambda *_, **__: pytest.fail("downloaded"))
    for root in ("", f",,config.downstream_expert.datarc.root={tmp_path}/none"):
        line = [
            "-u",
            "wavlm_base",
            "-p",
            str(tmp_path / "cell"),
            "-o",
            f"config.downstream_expert.datarc.corpus=iemocap{root}",
        ]
        assert cli.main(["train", *line]) == 2
        assert ("does not exist" if root else "needs its folder") in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def check_bars(said: str, result: dict) -> None:
    """A bar is as long as its number says."""
    found = re.findall(r"^(macro-F1, %)? +(zero-shot|adapted) (.{40}) ([\d.]+)$", said, flags=re.MULTILINE)
    assert [row[1] for row in found[:2]] == ["zero-shot", "adapted"]
    for _, _, bar, number in found:
        assert len(bar.rstrip(" .")) == pytest.approx(float(number) * 0.4, abs=1)
    assert float(found[1][3]) == pytest.approx(100 * result["metrics"]["macro_f1"]["mean"], abs=0.05)
    assert _bar(0.5, blocks=True) == "█" * 20 + " " * 20
    assert _bar(0.5, blocks=False) == "#" * 20 + "." * 20


def test_a_scale_has_bars_too():
    before, after = {"ccc": -0.2, "mae": 1.5, "qwk": 0.25}, {"ccc": 0.5, "mae": 1.0, "qwk": 0.75}
    gains = Gains(before, after, dict.fromkeys(before, Interval(0.0, 0.0, 0.0)), ("zoe",))
    found = re.findall(r"^(\w*) +(?:zero-shot|adapted) ([#.]{40}) (\S+)$", gains.bars(blocks=False), flags=re.MULTILINE)
    assert [(title, bar.count("#"), number) for title, bar, number in found] == [
        *(("CCC", 0, "-0.200"), ("", 20, "0.500"), ("QWK", 10, "0.250"), ("", 30, "0.750")),
    ]


def check_board(folder: Path, result: dict) -> None:
    """TensorBoard has zero-shot, adapted and the difference, and training's values are not hidden."""
    from tensorboardX.proto import event_pb2

    scalars, starts = {}, 0
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            starts += event.session_log.status == event.session_log.START
            scalars |= {value.tag.split("/")[1]: value.simple_value for value in event.summary.value}
            data = data[16 + size :]
    adapted, zero = scalars["test-macro_f1-adapted"], scalars["test-macro_f1-zero_shot"]
    assert adapted == pytest.approx(result["metrics"]["macro_f1"]["mean"])
    assert scalars["test-macro_f1-difference"] == pytest.approx(adapted - zero, abs=1e-6)
    assert scalars["test-macro_f1-difference_low"] <= scalars["test-macro_f1-difference"]
    assert set(METRICS.names()) & {name.removeprefix("test-") for name in scalars}
    assert starts <= 1, "what is written after a start hides values of earlier files"


def test_a_grid_is_named_by_its_file_or_by_the_name_it_has_in_the_package(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert read_grid("smoke").path == ROOT / "benchmarks" / "smoke.yaml"
    Path("smoke").write_text((ROOT / "benchmarks" / "smoke.yaml").read_text().replace("[8]", "[4]"))
    assert read_grid("smoke").path == Path("smoke"), "a file of that name wins"
    assert read_grid("smoke").parts[0].axes["shots"] == (4,)
    with pytest.raises(UserError, match=r"Unknown grid 'tabel1'\. Did you mean 'table1'\? Or 'table2'.*\? Available: "):
        read_grid("tabel1")
    listed = out_of(capsys, "list", "grids")
    assert all(re.search(rf"^{name} +\w", listed, flags=re.MULTILINE) for name in known_grids())


def test_upstreams_are_listed_by_use_with_size_source_and_licence(capsys):
    lines = out_of(capsys, "list", "upstreams").splitlines()
    names = [line.split()[0] for line in lines if line == line.lstrip() != "" and line.split()[0] in hub_index()]
    assert sorted(names) == sorted(hub_index()), "each once"
    assert names.index("fbank_no_cmvn") < names.index("wavlm_base") < names.index("whisper_local") < names.index("tera")
    (line,) = (line for line in lines if line.startswith("wavlm_base "))
    assert re.match(r"wavlm_base +95 M  downloaded on first use +MIT or CC BY-SA 3\.0 +WavLM Base, 94\.4 M", line)
    few = out_of(capsys, "list", "upstreams", "hubert_")
    assert re.search(r"^hubert_base_robust_mgr +95 M  downloaded on first use +not known$", few, flags=re.MULTILINE)
    assert re.search(r"^hubert_local +-k FILE$", few, flags=re.MULTILINE), (
        "whose weights they are is the user's to know"
    )
    assert "  MIT: fairseq's models" in few
    assert "wavlm_base " not in few
    assert all(any(re.fullmatch(each.names, name) for name in hub_index()) for each in LICENCES)


@pytest.mark.skipif(importlib.util.find_spec("argcomplete") is None, reason="no argcomplete (the extra completion)")
@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("metaperser run tab", {"table1", "table2", "table_a4"}),
        ("metaperser train -u wavlm_base", {"wavlm_base", "wavlm_base_plus"}),
        ("metaperser train -v Linear-F", {"Linear-Few", "Linear-Few:chosen"}),
        ("metaperser train -f -v Linear-F", set()),
        ("metaperser validate --corpus ie", {"iemocap"}),
        ("metaperser convert-labels a.csv --to label_", {"label_studio"}),
    ],
)
def test_a_shell_completes_all_names_that_a_line_may_hold(line, among, tmp_path):
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "out"), "_ARGCOMPLETE_IFS": "\n"}
    asked |= {"_ARGCOMPLETE_SHELL": "bash", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    subprocess.run([sys.executable, "-m", "s3prl_metaperser.cli"], env=os.environ | asked, cwd=tmp_path, check=True)
    found = (tmp_path / "out").read_text().split("\n")
    assert {name.strip().replace("\\", "") for name in found if name} == among


@pytest.mark.parametrize(
    ("line", "near"),
    [
        (
            ["list", "upstreams", "wavlm_bse"],
            "'wavlm_base'? Or 'wavlm_base_plus', 'wavlm'? `metaperser list upstreams`",
        ),
        (["list", "systems", "Meta-PreSER"], "'Meta-PerSER'? Or"),
        (["list", "corpora", "iemocapp"], "'iemocap'?"),
        (["raport"], "'report'? Or 'export'?"),
        (["list", "system"], "'systems'? Available"),
        (["score", "--missing", "eror"], "'error'? Available"),
        (["run", "tabel1"], "'table1'?"),
        (["plan", "tabel1"], "'table1'?"),
        (["train", "-u", "wavlm_bse"], "'wavlm_base'? Or"),
        (["train", "-u", "fbank_no_cmvn", "-v", "Linear-Fw"], "'Linear-Few'? Or"),
    ],
)
def test_an_unknown_name_gives_the_nearest_three(line, near, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(line)
    except SystemExit as stop:
        status = stop.code
    assert status in (2, 101)
    assert f"Did you mean {near}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
