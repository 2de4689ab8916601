"""``metaperser plan``: what a grid will take, or the memory needed to fine-tune an upstream."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.commands.common import add_grid_options, opened_grid, positive
from s3prl_metaperser.errors import UserError, did_you_mean, printable_json, unknown_name

if TYPE_CHECKING:
    from s3prl_metaperser.upstream.memory_plan import Measured

_SETTING = ("shots", "inner_steps", "seconds", "longest", "top", "train_front_end", "bf16", "activation_checkpointing")
_OF_UPSTREAMS = (*_SETTING, "memory", "measure", "ckpt", "model_config", "device")
_OF_GRIDS = ("results", "corpus", "root", "only", "set", "seconds_per_step")


def add(commands) -> None:
    parser = commands.add_parser("plan", help="estimate what a grid takes, or the memory to fine-tune an upstream (-f)")
    parser.add_argument(
        "what", metavar="GRID | UPSTREAM", help="a grid (`metaperser list grids`, or a file) or an upstream"
    )
    grid = parser.add_argument_group("for a grid")
    add_grid_options(grid)
    grid.add_argument(
        "--seconds-per-step",
        type=positive(float),
        metavar="S",
        help="seconds per training step of the upstream (forward + backward, 32 utterances) on your device",
    )
    memory = parser.add_argument_group("for an upstream")
    memory.add_argument("--shots", type=positive(int), metavar="K", help="support utterances of a rater [32]")
    memory.add_argument("--inner-steps", type=positive(int), metavar="S", help="inner steps in meta-training [5]")
    memory.add_argument("--seconds", type=positive(float), help="mean length of an utterance [4.5]")
    memory.add_argument("--longest", type=positive(float), metavar="SECONDS", help="longest utterance [15]")
    memory.add_argument("--top", type=positive(int), metavar="N", help="adapt only the last N layers [all]")
    for option in ("train_front_end", "bf16", "activation_checkpointing"):
        memory.add_argument(f"--{option.replace('_', '-')}", action="store_true", help=f"tunerc.{option}: true")
    memory.add_argument("--memory", type=positive(float), metavar="GB", help="memory of your GPU [16, 32 and 80]")
    memory.add_argument("--measure", action="store_true", help="measure a micro-batch here, in place of the formula")
    memory.add_argument("-k", dest="ckpt", metavar="FILE", help="with --measure: checkpoint of the upstream")
    memory.add_argument("-g", dest="model_config", metavar="FILE", help="with --measure: its configuration")
    memory.add_argument("--device", choices=["cuda", "cpu"], help="with --measure: where [cuda, if there is one]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.grid.definition import is_grid, known_grids
    from s3prl_metaperser.s3prl_stack.hub_index import upstream_names

    of_grid = is_grid(arguments.what)
    if not of_grid and arguments.what not in upstream_names() and did_you_mean(arguments.what, known_grids()):
        raise unknown_name("grid or upstream", arguments.what, [*known_grids(), *upstream_names()], "metaperser list")
    kind, foreign = ("a grid", _OF_UPSTREAMS) if of_grid else ("an upstream", _OF_GRIDS)
    for name in foreign:
        if getattr(arguments, name):
            raise UserError(f"--{name.replace('_', '-')} does not apply to {kind}, and {arguments.what} is {kind}.")
    if of_grid:
        from s3prl_metaperser.grid.plan import format_plan, plan_report

        report = plan_report(opened_grid(arguments, "what"), arguments.seconds_per_step)
        print(printable_json(report) if arguments.json else format_plan(report))
        return 0
    from s3prl_metaperser.upstream import memory_report

    setting = {name: value for name in _SETTING if (value := getattr(arguments, name)) not in (None, False)}
    if not arguments.measure and (arguments.ckpt or arguments.model_config or arguments.device):
        raise UserError("-k, -g and --device are for --measure. Add it, or leave them out.")
    found = _measured(arguments, setting) if arguments.measure else None
    sizes = [arguments.memory] if arguments.memory else None
    memory = memory_report.plan_report(arguments.what, sizes, found, **setting)
    print(printable_json(memory) if arguments.json else memory_report.format_plan(memory))
    return 0


def _measured(arguments: argparse.Namespace, setting: dict[str, Any]) -> Measured | None:
    """What was measured; None, with a word why, where only the formula is left."""
    from s3prl_metaperser.s3prl_stack.hub_index import check_upstream
    from s3prl_metaperser.upstream import memory_plan
    from s3prl_metaperser.upstream.measured_memory import measured
    from s3prl_metaperser.upstream.memory_report import setting_of

    check_upstream(arguments.what)
    print("Measuring one micro-batch on this machine ...", file=sys.stderr)
    try:
        return measured(arguments.what, arguments.ckpt, arguments.model_config, arguments.device, setting_of(setting))
    except UserError as error:
        try:
            memory_plan.shape_of(arguments.what)
        except UserError:
            raise error from None
        print(f"{error} The formula is used.", file=sys.stderr)
        return None
