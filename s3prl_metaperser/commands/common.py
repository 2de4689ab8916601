"""What several commands' parsers share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.errors import UserError

if TYPE_CHECKING:
    from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer


def positive(kind: type) -> Callable[[str], float]:
    """A type for argparse: a positive, finite number."""

    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    parse.__name__ = kind.__name__  # argparse: "invalid int value"
    return parse


def at_least(least: int) -> Callable[[str], int]:
    """A type for argparse: a whole number of at least ``least``."""

    def parse(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"bad value {text!r}, expected at least {least}")
        return value

    parse.__name__ = "int"
    return parse


def add_model(parser: argparse.ArgumentParser, help: str) -> None:
    """The model folder, and what it takes to load it."""
    parser.add_argument("model", metavar="MODEL", help=help)
    parser.add_argument("-k", "--upstream_ckpt", metavar="CKPT", help="the upstream's weights [s3prl's download]")
    parser.add_argument("-g", "--upstream_model_config", metavar="FILE", help="its configuration, where one is needed")
    parser.add_argument("--device", default="cpu", help="where to compute [%(default)s]")
    parser.add_argument(
        "--threads", type=positive(int), default=1, metavar="N", help="torch threads [1, as in training]"
    )


def load_model(arguments: argparse.Namespace, *, adapted: bool = True) -> PersonalizedEmotionRecognizer:
    """The recogniser that :func:`add_model`'s arguments name.

    Args:
        adapted: whether it may be adapted already.

    Raises:
        UserError: it cannot be loaded, or is a listener where a model is needed.
    """
    import torch

    from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer

    torch.set_num_threads(arguments.threads)
    recognizer = PersonalizedEmotionRecognizer.load(
        arguments.model,
        upstream_ckpt=arguments.upstream_ckpt,
        upstream_model_config=arguments.upstream_model_config,
        device=arguments.device,
    )
    if not adapted:
        recognizer.check_unadapted()
    return recognizer


def weights(arguments: argparse.Namespace) -> list[str]:
    """The upstream's weights and configuration as they were given, for a command that is printed."""
    given = (("-k", arguments.upstream_ckpt), ("-g", arguments.upstream_model_config))
    return [word for option, file in given if file for word in (option, file)]


def add_named_corpus(parser: argparse.ArgumentParser, root: str) -> None:
    """A corpus, by its place in the line or by option, and its folder; see :func:`named_corpus`."""
    parser.add_argument("corpus_name", nargs="?", metavar="CORPUS", help="the same as --corpus CORPUS")
    parser.add_argument("--corpus", help="a registered corpus (`metaperser list corpora`)")
    parser.add_argument("--root", help=root)


def named_corpus(arguments: argparse.Namespace) -> str | None:
    """The corpus that :func:`add_named_corpus` lets a line name.

    Raises:
        UserError: two are named.
    """
    given = dict.fromkeys(filter(None, (arguments.corpus_name, arguments.corpus)))
    if len(given) > 1:
        raise UserError(f"Two corpora are named, {' and '.join(map(repr, given))}. Name one of them.")
    return next(iter(given), None)


def add_rater_options(parser: argparse._ActionsContainer) -> None:
    """What says whose labels a table has; see :func:`label_options`."""
    parser.add_argument("--rater-column", metavar="NAME", help="the column that says who rated, if its name does not")
    parser.add_argument(
        "--alike-raters",
        choices=("error", "one", "distinct"),
        metavar="WHAT",
        help="raters whose names differ by case, Unicode form or as 1 and 01 are: error, one, distinct [error]",
    )


def add_table_options(parser: argparse._ActionsContainer) -> None:
    """What may be done about rows that a reader of tables refuses; see :func:`label_options`."""
    parser.add_argument("--outside", action="store_true", default=None, help="allow audio files outside the folder")
    parser.add_argument(
        "--duplicates",
        choices=("error", "union", "first"),
        metavar="WHAT",
        help="a second row for one file and rater: error, union of the labels, or first (later ones left out) [error]",
    )
    parser.add_argument(
        "--unknown-labels",
        choices=("error", "drop"),
        metavar="WHAT",
        help="labels that the label set does not know are: error, drop (left out and counted) [as the label set says]",
    )


def add_option(parser: argparse._ActionsContainer) -> None:
    """What a reader is told that has no option of its own here; see :func:`label_options`."""
    parser.add_argument(
        "--option",
        action="append",
        metavar="NAME=VALUE",
        help="any other option of the reader, as datarc has it; may be given several times",
    )


def add_corpus_options(parser: argparse._ActionsContainer) -> None:
    """What readers of tables are told about a corpus; see :func:`label_options`."""
    parser.add_argument("--labels", metavar="NAME|FILE", help="a registered label set, or a labels.yaml")
    add_table_options(parser)
    add_option(parser)
    add_rater_options(parser)
    parser.add_argument("--raters", type=names, metavar="A,B,C", help="the raters to read [all]; others are left out")


def names(text: str) -> tuple[str, ...]:
    """A type for argparse: names, separated by commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def label_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options about labels and raters that are given, as readers of corpora take them."""
    from s3prl_metaperser.config.override import parse_override

    named = ("labels", "outside", "duplicates", "unknown_labels", "rater_column", "alike_raters", "raters")
    given = {name: value for name in named if (value := getattr(arguments, name, None)) is not None}
    for text in getattr(arguments, "option", None) or ():
        given |= {path[-1]: value for path, value in parse_override(f"config.{text}")}
    return given


def add_grid_options(parser: argparse._ActionsContainer) -> None:
    """What says which cells of a grid, and where their results are."""
    parser.add_argument("--results", metavar="DIR", help="folder of the results [as in the grid]")
    parser.add_argument("--corpus", metavar="NAME", help="replaces the grid's corpus: see `metaperser list corpora`")
    parser.add_argument("--root", metavar="DIR", help="the corpus's folder")
    parser.add_argument(
        "--only",
        metavar="CONDITIONS",
        help="only cells that meet all conditions, such as 'upstream=hubert_base,scenario=unseen,fold=fold1|fold2'; "
        "keys: upstream, scope, scenario, system, fold, shots, protocol",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change an option, such as downstream_expert.evalrc.steps=20; may be given several times",
    )


def add_grid(parser: argparse.ArgumentParser) -> None:
    """A grid's file, and :func:`add_grid_options`."""
    parser.add_argument("grid", metavar="GRID", help="a grid: its file, or a name of `metaperser list grids`")
    add_grid_options(parser)


def opened_grid(arguments: argparse.Namespace, grid: str = "grid"):
    """The grid that the command line names, as an :class:`.OpenedGrid`."""
    from s3prl_metaperser.grid.opened import open_grid

    chosen = {name: getattr(arguments, name) for name in ("results", "corpus", "root", "only")}
    return open_grid(getattr(arguments, grid), **chosen, changes=arguments.set)
