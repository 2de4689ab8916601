"""``metaperser demo``: from nothing to a listener-adapted model, its report and the listening page, in a minute."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.commands import adapt, export, listen, report, run
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.run.shown_commands import metaperser
from s3prl_metaperser.storage.paths import user_path

if TYPE_CHECKING:
    from s3prl_metaperser.corpora import Corpus
    from s3prl_metaperser.grid.opened import OpenedGrid
    from s3prl_metaperser.listener.one_rater import OneRater

#: The grid that it runs, and what the folder then holds.
_GRID = "first"
_RESULTS, _REPORT, _MODEL, _CLIPS, _LISTENER = "results", "report", "model", "clips", "listener"
#: K.
_LABELLED = 32
_NEEDED = {"parselmouth": "praat-parselmouth", "matplotlib": "matplotlib"}
_STEPS = (run, report, export, adapt, listen)


def add(commands) -> None:
    parser = commands.add_parser(
        "demo", help="try it: from nothing to a model for one listener, a report and the listening page, in a minute"
    )
    parser.add_argument(
        "folder", nargs="?", default="metaperser-demo", metavar="DIR", help="made or continued [%(default)s]"
    )
    parser.add_argument("--open", action="store_true", help="open the report, and with --serve the page, in a browser")
    parser.add_argument("--serve", action="store_true", help="start the listening page at the end")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.storage.locks import beside, held

    if missing := [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]:
        raise UserError(
            f"The demo needs {' and '.join(missing)}. Type: {Path(sys.executable).name} -m pip install "
            "'s3prl-metaperser[demo]'"
        )
    folder = user_path(arguments.folder)
    if folder.exists() and not (folder.is_dir() and ((folder / _RESULTS).is_dir() or not any(folder.iterdir()))):
        raise UserError(f"{folder} holds something else. Name a new folder: metaperser demo DIR.")
    with held(beside(folder), f"The demo in {folder}"):
        page = _made(folder)
    if arguments.open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    if arguments.serve:
        return _step(*_listening(folder), *([] if arguments.open else ["--no-browser"]), "--port", "0")
    return 0


def _made(folder: Path) -> Path:
    """Everything but the page's server; gives the report's file."""
    from s3prl_metaperser.grid.opened import open_grid
    from s3prl_metaperser.listener.one_rater import OneRater
    from s3prl_metaperser.report.write import PAGE

    results, model, listener = folder / _RESULTS, folder / _MODEL, folder / _LISTENER
    print(
        "1. Synthetic speech, rated by simulated listeners; four systems, each tested on listeners in turn", flush=True
    )
    if _step("run", _GRID, "--results", results, "--device", "cpu"):
        raise UserError(f"Not all of it ran. {metaperser('status', _GRID, '--results', results)} says why.")
    print(
        "\n2. The report: what adapting gains over listeners at large, of whom most hear as the others do", flush=True
    )
    _step("report", results, "--out", folder / _REPORT, "--if-changed", quiet=True)
    opened = open_grid(_GRID, results=str(results))
    [corpus] = opened.corpora.values()
    rater, experiment = _listener_of(corpus, opened)
    print(
        f"\n3. A model that knows nothing of {rater}, who names emotions as none of the others tested does", flush=True
    )
    if not model.exists():
        _step("export", experiment, "--out", model, quiet=True)
    print(f"\n4. {_LABELLED} labels of {rater}'s: which way to adapt do they speak for, and how well does it do?")
    one = OneRater.write(corpus, rater, folder / _CLIPS, _LABELLED)
    if not listener.exists():
        _step("adapt", model, "--ratings", one.ratings, "--out", listener)
    _say_how_well(model, listener, one)
    page = folder / _REPORT / PAGE
    print(f"\n5. Look and listen\nreport:          {page.resolve().as_uri()}")
    print(f"listening page:  {metaperser(*_listening(folder))}\n                 (label clips yourself)")
    return page


def _listening(folder: Path) -> list[object]:
    return ["listen", folder / _MODEL, "--clips", folder / _CLIPS]


def _listener_of(corpus: Corpus, opened: OpenedGrid) -> tuple[str, Path]:
    """The first tested rater whose table the demo has permuted, and the experiment that was tested on this rater."""
    from s3prl_metaperser.evaluation.result import Result
    from s3prl_metaperser.grid.results import RESULT
    from s3prl_metaperser.methods import DEFAULT_SYSTEM
    from s3prl_metaperser.storage.json_files import read_json

    permuted = read_json(corpus.root / "demo.json")["permuted"]
    for cell in opened.cells:
        experiment = opened.results.of(cell)
        [rater] = Result.read(experiment / RESULT).raters.tested
        if cell.system == DEFAULT_SYSTEM and rater in permuted:
            return rater, experiment
    raise AssertionError(f"{opened.grid.path} tests no rater whose table is permuted")


def _say_how_well(model: Path, listener: Path, one: OneRater) -> None:
    from s3prl_metaperser.evaluation.metrics import main_metrics
    from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer

    before, after = (one.scores(PersonalizedEmotionRecognizer.load(place)) for place in (model, listener))
    print(f"On the {len(one.rest)} clips of {one.rater}'s that were not labelled:")
    for metric in main_metrics(one.answers.label_set):
        if metric.name in before and metric.name in after:
            shown = metric.shown(before[metric.name]), metric.shown(after[metric.name])
            print(f"  {metric.heading:<28} {shown[0]:>7} before, {shown[1]:>7} after{metric.less}")


def _step(*line: object, quiet: bool = False) -> int:
    """Run another command of ``metaperser``, and show it, so that it can be typed and changed."""
    print(f"   {metaperser(*line)}", flush=True)
    parser = argparse.ArgumentParser(prog="metaperser")
    commands = parser.add_subparsers()
    for command in _STEPS:
        command.add(commands)
    arguments = parser.parse_args([str(word) for word in line])
    with contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext():
        return arguments.run(arguments)
