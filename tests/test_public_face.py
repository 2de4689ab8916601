"""The public face: the examples of its names run, it imports nothing heavy, and a cell needs no command line."""

import argparse
import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_demo import SMALL

import s3prl_metaperser
from s3prl_metaperser import CellOptions, Options, UpstreamOptions
from s3prl_metaperser.corpora import open_corpus
from s3prl_metaperser.grid.relevance import nested
from s3prl_metaperser.run.settings import CellOptions as Settings
from s3prl_metaperser.s3prl_plugin.arguments import build_parser

#: In the order in which one's example makes what the next one's reads.
EXAMPLES = ("load_corpus", "make_split", "make_episodes", "LabelSet", "run_cell", "Result", "load_results")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What examples may use: a tiny demo corpus, options that suit it, and a folder."""
    small = Options.from_config(nested({k: yaml.safe_load(v) for k, v in (item.split("=", 1) for item in SMALL)}))
    demo = open_corpus(small.downstream_expert.datarc).root
    return {"demo": demo, "small": small, "folder": tmp_path_factory.mktemp("examples") / "cell"}


@pytest.mark.parametrize("name", [*EXAMPLES, "s3prl_metaperser"])
def test_the_example_of_a_public_name_runs(name, names):
    value = s3prl_metaperser if name == "s3prl_metaperser" else getattr(s3prl_metaperser, name)
    module = value if inspect.ismodule(value) else importlib.import_module(value.__module__)
    public = {key: getattr(s3prl_metaperser, key) for key in s3prl_metaperser.__all__}
    found = doctest.DocTestFinder(recurse=False).find(value, name, globs={**vars(module), **public, **names})
    runner = doctest.DocTestRunner()
    assert sum(len(example.examples) for example in found), f"{name} has no example"
    for example in found:
        runner.run(example)
    assert runner.summarize().failed == 0


def test_every_public_name_is_found_and_documented_and_others_are_errors():
    for name in s3prl_metaperser.__all__:
        assert name == "__version__" or inspect.getdoc(getattr(s3prl_metaperser, name))
    with pytest.raises(AttributeError, match="no attribute 'run_cells'"):
        _ = s3prl_metaperser.run_cells
    assert (Path(s3prl_metaperser.__file__).parent / "py.typed").is_file()


def test_the_package_itself_imports_nothing_heavy():
    code = "import s3prl_metaperser, sys; print([n for n in ('torch', 'numpy', 's3prl', 'yaml') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_windows_is_told_where_to_run_it():
    code = "import os; os.name = 'nt'; import s3prl_metaperser"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: s3prl_metaperser runs on Linux and macOS. On Windows install it inside WSL 2" in done.stderr


def test_a_cells_arguments_are_those_of_the_launchers_command_line(tmp_path):
    line = ["-m", "train", "-d", "personalized_emotion", "-u", "wavlm_base", "-v", "Linear-Few", "-p", str(tmp_path)]
    parsed = build_parser().parse_args([*line, "-l", "3", "-f", "--device", "cpu", "--seed", "7"])
    upstream = UpstreamOptions("wavlm_base", layer=3, finetuned=True)
    cell = CellOptions(upstream, tmp_path, system="Linear-Few", seed=7)
    assert isinstance(cell, Settings)
    assert vars(cell.as_arguments()) == vars(parsed)
    assert isinstance(cell.as_arguments(), argparse.Namespace)


def test_what_run_cell_trained_the_launcher_evaluates_to_the_same_numbers(names, finished, tmp_path):
    from s3prl_metaperser.s3prl_plugin import launcher

    cell = CellOptions(UpstreamOptions("fbank_no_cmvn"), tmp_path / "cell", names["small"])
    result = s3prl_metaperser.run_cell(cell)
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "cell"), "-p", str(tmp_path / "again")]) == 0
    again = s3prl_metaperser.Result.read(tmp_path / "again" / "result_test.json")
    assert (again.episodes, again.metrics, again.hashes) == (result.episodes, result.metrics, result.hashes)
    apart = s3prl_metaperser.Result.read(finished("Meta-PerSER", tmp_path / "apart") / "result_test.json")
    assert (apart.episodes, apart.hashes) == (result.episodes, result.hashes)


def test_a_folder_may_be_given_as_text():
    assert CellOptions(UpstreamOptions("fbank_no_cmvn"), "results/cell").folder == Path("results/cell")
