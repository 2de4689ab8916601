"""s3prl's own downstreams through this project's launcher: s3prl's own ``main``, on today's stack."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from s3prl_metaperser.errors import UserError, shown, unknown_name
from s3prl_metaperser.s3prl_plugin.arguments import ALL, PUBLIC, is_wanted, upload_words
from s3prl_metaperser.s3prl_stack.hub import check_upstream, explain_failure
from s3prl_metaperser.s3prl_stack.hub_index import s3prl_folder
from s3prl_metaperser.s3prl_stack.weights_files import check_files
from s3prl_metaperser.storage.paths import steps_of
from s3prl_metaperser.tasks import DEFAULT_TASK, TASKS

if TYPE_CHECKING:
    from s3prl_metaperser.s3prl_plugin.upload import Upload


def run_stock(args: argparse.Namespace, argv: list[str], past: argparse.Namespace | None = None) -> None:
    """Run one of s3prl's own downstreams as ``python -m s3prl.run_downstream`` would.

    ``--device cuda`` becomes ``cpu`` without CUDA. ``sys.argv`` is restored afterwards.

    Args:
        args: the command line, parsed by :func:`s3prl_metaperser.s3prl_plugin.arguments.build_parser`.
        argv: the same command line unparsed, without the program's name.
        past: the arguments in the checkpoint that is resumed from; read here if None.

    Raises:
        UserError: unknown downstream or upstream, no configuration, a failed download, or a checkpoint that would
            download and run code or publish the folder without the user's request.
    """
    fresh = not args.past_exp and not (args.auto_resume and _has_checkpoints(args))
    _check_downstream(args, fresh)
    if not fresh:
        _check_past(args, past)
    if fresh and args.hub == "torch" and args.upstream:
        check_upstream(args.upstream)
        check_files(args.upstream, args.upstream_ckpt, args.upstream_model_config)

    from s3prl_metaperser.s3prl_stack import compat

    compat.apply()
    import torch

    command = ["run_downstream.py", *argv]
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("No CUDA device: running with --device cpu.", file=sys.stderr)
        command += ["--device", "cpu"]
    from s3prl import run_downstream

    upload = _upload(args)
    before, sys.argv = sys.argv, command
    try:
        run_downstream.main()
        if upload is not None:
            folder = _folder(args) if not args.past_exp else Path(args.past_exp)
            folder = folder.parent if folder.is_file() else folder
            upload.send(folder, folder.resolve().name)
    except UserError as error:
        raise explain_failure(error, args.upstream, args.upstream_ckpt) if args.upstream else error from None
    finally:
        sys.argv = before


def _upload(args: argparse.Namespace) -> Upload | None:
    """What takes the place of s3prl's own upload, which makes a public repository, also for ``False``."""
    from s3prl.downstream.runner import Runner

    Runner.push_to_huggingface_hub = lambda runner: None
    if not is_wanted(args.push_to_hf_hub) or args.mode != "train":
        return None
    if ALL not in upload_words(args.push_to_hf_hub):
        raise UserError(
            "--push_to_hf_hub uploads the whole folder of a downstream of s3prl's own, this machine's paths included. "
            f"To do that write --push_to_hf_hub {ALL}, or {PUBLIC},{ALL} for everybody to read."
        )
    from s3prl_metaperser.s3prl_plugin.upload import Upload

    return Upload(args.push_to_hf_hub, args.hf_hub_org)


def _folder(args: argparse.Namespace) -> Path:
    return Path(args.expdir or f"result/downstream/{args.expname}")


def _has_checkpoints(args: argparse.Namespace) -> bool:
    return any(_folder(args).glob("states-*.ckpt"))


def _check_past(args: argparse.Namespace, past: argparse.Namespace | None) -> None:
    """s3prl takes nearly all arguments from the checkpoint; some must come from the user."""
    if past is None:
        from s3prl_metaperser.storage.checkpoints import read_checkpoint

        past = read_checkpoint(steps_of(_folder(args))[-1][1])["Args"]
    name = str(getattr(past, "downstream", None))
    if name not in (known := _downstreams()):
        raise unknown_name("downstream in the checkpoint", name, known)
    asked = {"hub": "huggingface", "push_to_hf_hub": None}
    for key, refused in asked.items():
        value = getattr(past, key, None)
        wanted = value == refused if refused else is_wanted(value)
        asked_for = getattr(args, key) == value if refused else is_wanted(args.push_to_hf_hub)
        if wanted and not asked_for:
            what = "would run downloaded code" if refused else "would publish the folder"
            raise UserError(
                f"The checkpoint was made with --{key} {shown(value)} and {what}. To allow that, add "
                f"--{key} {value} to this command."
            )


def _downstreams() -> list[str]:
    return [path.parent.name for path in (s3prl_folder() / "downstream").glob("*/expert.py")]


def _check_downstream(args: argparse.Namespace, fresh: bool) -> None:
    known = _downstreams()
    if args.downstream and args.downstream not in known:
        raise unknown_name("downstream", args.downstream, [*known, *TASKS.names()])
    if not fresh:
        return
    if not args.downstream:
        raise UserError(f"No downstream given. Add -d NAME, e.g. -d {DEFAULT_TASK}.")
    config = Path(args.config or f"./downstream/{args.downstream}/config.yaml")
    if not config.is_file():
        hint = "" if args.config else " The s3prl package contains no configurations: pass one with -c FILE."
        raise UserError(f"Configuration {config} does not exist.{hint}")
