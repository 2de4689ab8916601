"""What several commands' parsers share."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def positive(kind: type) -> Callable[[str], float]:
    """A type for argparse: a positive, finite number."""

    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    parse.__name__ = kind.__name__  # argparse: "invalid int value"
    return parse


def add_model(parser: argparse.ArgumentParser, metavar: str, help: str) -> None:
    """The model folder, and what it takes to load it."""
    parser.add_argument("model", metavar=metavar, help=help)
    parser.add_argument("-k", "--upstream_ckpt", metavar="CKPT", help="the upstream's weights [s3prl's download]")
    parser.add_argument("-g", "--upstream_model_config", metavar="FILE", help="its configuration, where one is needed")
    parser.add_argument("--device", default="cpu", help="where to compute [%(default)s]")
    parser.add_argument("--threads", type=positive(int), default=1, metavar="N", help="of torch [1, as in training]")


def add_grid(parser: argparse.ArgumentParser, grid: str = "grid") -> None:
    """What says which cells of which grid, and where their results are."""
    parser.add_argument(grid, metavar="GRID.yaml", help="a grid, such as benchmarks/demo.yaml")
    add_grid_options(parser)


def add_grid_options(parser: argparse.ArgumentParser) -> None:
    """The options of :func:`add_grid`."""
    parser.add_argument("--results", metavar="DIR", help="folder of the results [what the grid says]")
    parser.add_argument("--corpus", metavar="NAME", help="in place of the grid's: see `metaperser list corpora`")
    parser.add_argument("--root", metavar="DIR", help="the corpus's folder")
    parser.add_argument(
        "--only",
        metavar="CONDITIONS",
        help="cells that meet all of them, such as 'upstream=hubert_base,scenario=unseen,fold=fold1|fold2'; keys: "
        "upstream, scope, scenario, system, fold, shots, protocol",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change an option, such as downstream_expert.evalrc.steps=20; may be given several times",
    )


def opened_grid(arguments: argparse.Namespace, grid: str = "grid"):
    """The grid that the command line names, as an :class:`.OpenedGrid`."""
    from s3prl_metaperser.grid.opened import open_grid

    return open_grid(
        getattr(arguments, grid),
        results=arguments.results,
        corpus=arguments.corpus,
        root=arguments.root,
        only=arguments.only,
        changes=arguments.set,
    )
