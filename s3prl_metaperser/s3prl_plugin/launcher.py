"""The launcher: s3prl's command line, from any directory.

``-d NAME`` with a registered task runs here; any other downstream runs in s3prl's own launcher, on a stack patched by
:mod:`.compat`.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
from pathlib import Path
from typing import Any

import s3prl_metaperser
from s3prl_metaperser.config.options import OPEN_SECTIONS, Options, flat, merged
from s3prl_metaperser.config.override import apply_override
from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.errors import UserError, printable, shown
from s3prl_metaperser.run.settings import check_seed
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.s3prl_plugin.arguments import build_parser
from s3prl_metaperser.s3prl_plugin.registration import DOWNSTREAM
from s3prl_metaperser.s3prl_plugin.resuming import other_output, refuse_other_arguments, refuse_other_options
from s3prl_metaperser.s3prl_stack.hub import check_upstream, load_upstream_config
from s3prl_metaperser.storage.disk import system_error
from s3prl_metaperser.storage.paths import new_previous, steps_of
from s3prl_metaperser.storage.sources import sources
from s3prl_metaperser.tasks import TASKS, Task, task_of

# What a resumed run takes from its command line and not from the checkpoint: as in s3prl, and whatever would let a
# checkpoint from elsewhere publish the folder or fetch code.
KEPT_ON_RESUME = (
    "hub",
    "push_to_hf_hub",
    "hf_hub_org",
    "mode",
    "evaluate_split",
    "override",
    "backend",
    "local_rank",
    "past_exp",
    "device",
    "expdir",
)


def main(argv: list[str] | None = None) -> int:
    """Run s3prl's command line; returns the exit status."""
    sources()
    argv = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(argv)
    try:
        return run(args, argv)
    except UserError as error:
        print(printable(f"[MetaPerSER] error: {error}"), file=sys.stderr)
        return 2
    except OSError as error:
        if (problem := system_error(error)) is None:
            raise
        print(printable(f"[MetaPerSER] error: {problem}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\n[MetaPerSER] interrupted; resume from the last checkpoint with -a", file=sys.stderr)
        return 130


def run(args: argparse.Namespace, argv: list[str]) -> int:
    """One command.

    Raises:
        UserError: whatever the user can fix.
    """
    past, resumes = _past_checkpoint(args), args.auto_resume
    downstream = args.downstream
    content: dict[str, Any] = {}
    seen = _stamp(past)
    if past is not None:
        content = _read(past)
        downstream = content["Args"].downstream
    elif args.init_ckpt is not None:
        _read(Path(args.init_ckpt))  # s3prl's runner opens it again, and would end in torch's own traceback
    if downstream not in TASKS.names():
        from s3prl_metaperser.s3prl_plugin.stock import run_stock

        run_stock(args, argv, content.get("Args"))
        return 0
    args.downstream = downstream
    if past is not None:
        args, config = _resumed(args, argv, content, past)
    else:
        config = _read_config(args)
    past_options = None if past is None else _task(args).options_from(config, stored=True)
    config = _overridden(args, config, stored=past is not None)
    options = _task(args).options_from(config, stored=True)
    options.check_learning(but=past_options if args.mode != "train" else None)
    for line in options.not_used(but=past_options):
        say(line)
    if past is not None and args.mode == "train" and resumes:
        refuse_other_options(args, content["Config"], options, past)
    check_seed(args.seed)
    _announce(args, options)
    check_upstream(args.upstream)
    from s3prl_metaperser.run.cell import existing_device

    args.device = existing_device(args.device)
    if args.mode == "inference" and past is not None:  # writes nothing
        _run(args, config, options)
        return 0
    from s3prl_metaperser.run.experiment import leaving_nothing_empty, one_writer

    if past is None:
        args.expdir = str(_explicit_folder(args) or _default_folder(args, options))
    folder = Path(args.expdir)
    new = not folder.exists()
    with one_writer(folder), leaving_nothing_empty(folder, new):
        if seen != _stamp(past) or (past is None and resumes and steps_of(folder)):
            raise UserError(f"{args.expdir} has just been written by another process. Run the same command again.")
        if past is None:
            _put_aside_earlier(args)
        _run(args, config, options)
    return 0


def _run(args: argparse.Namespace, config: dict[str, Any], options: Options) -> None:
    if _task(args).name == DOWNSTREAM:
        start(args, config)
    else:
        _run_other(args, options)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    """Changes when a file is replaced; None where there is none."""
    if path is None or not path.is_file():
        return None
    return path.stat().st_ino, path.stat().st_mtime_ns


def _run_other(args: argparse.Namespace, options: Options) -> None:
    """A cell of another task."""
    task = task_of(args.downstream)
    if args.mode == "inference" or (args.mode != "train" and not task.keeps_checkpoints):
        raise UserError(f"-d {args.downstream} is evaluated right after training: use -m train, not -m {args.mode}.")
    prepare_process(args)
    from s3prl_metaperser.s3prl_plugin.runner import run_task

    run_task(args, options)


def start(args: argparse.Namespace, config: dict[str, Any]) -> None:
    """Run one mode of one experiment, whose folder exists."""
    prepare_process(args)
    from s3prl_metaperser import parallel

    try:
        from s3prl_metaperser.run.cell import seed_everything
        from s3prl_metaperser.run.experiment import write_yaml
        from s3prl_metaperser.s3prl_plugin.runner import MetaRunner

        seed_everything(args.seed, cudnn=not args.disable_cudnn)
        runner = MetaRunner(args, config)
        if args.verbose:
            say(f"options: {runner.opened.options}")
        if parallel.is_leader() and args.mode != "inference":
            write_yaml(Path(args.expdir), args, runner.config)
        getattr(runner, args.mode)()
        parallel.leave()
    finally:
        parallel.stop()


def prepare_process(args: argparse.Namespace) -> None:
    """Make s3prl fit for this machine's packages, and join the other processes that torchrun has started."""
    from s3prl_metaperser import parallel
    from s3prl_metaperser.run.cell import fit_for_this_machine
    from s3prl_metaperser.s3prl_plugin.registration import register
    from s3prl_metaperser.s3prl_stack import compat

    fit_for_this_machine()
    register()
    if parallel.wanted():
        args.device = parallel.start(args.backend, args.device)
    if args.cache_dir is not None:
        compat.set_download_dir(args.cache_dir)


def _past_checkpoint(args: argparse.Namespace) -> Path | None:
    """The checkpoint that ``-e`` or ``-a`` names; for evaluation the selected one, for training the latest."""
    if args.auto_resume and not args.past_exp:
        folder = _explicit_folder(args)
        if folder is None:
            if not _keeps_checkpoints(args.downstream):
                return None
            folder = _default_folder(args, _task(args).options_from(_overridden(copy.copy(args), _read_config(args))))
        if steps_of(folder):
            args.past_exp = str(folder)
    if not args.past_exp:
        return None
    path = Path(args.past_exp)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"-e {path}: no such experiment folder or checkpoint.")
    states = steps_of(path)
    best = path / "dev-best.ckpt"
    if args.mode != "train" and best.is_file():
        trained = _read(best)["Args"].downstream
        if args.downstream in (None, trained) and _keeps_checkpoints(trained):
            return best
    if not states:
        raise UserError(f"-e {path}: the folder has no states-*.ckpt. Train first, or choose another folder.")
    return states[-1][1]


def _keeps_checkpoints(downstream: object) -> bool:
    return downstream in TASKS.names() and task_of(str(downstream)).keeps_checkpoints


def _read(path: Path) -> dict[str, Any]:
    from s3prl_metaperser.storage.checkpoints import read_checkpoint

    return read_checkpoint(path)


def _resumed(
    args: argparse.Namespace, argv: list[str], content: dict[str, Any], past: Path
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Arguments and configuration of a past experiment; its folder is the checkpoint's, or ``-p``."""
    refuse_other_arguments(argv, content, past)
    merged = argparse.Namespace(**vars(args))
    for key, value in vars(content["Args"]).items():
        if key not in KEPT_ON_RESUME and key in vars(args):
            _check_argument(key, value, past)
            setattr(merged, key, value)
    folder = _explicit_folder(args)
    merged.expdir = str(folder if folder is not None else past.parent)
    merged.past_exp = str(past)
    merged.init_ckpt = str(past)
    merged.downstream_variant = other_output(argv, content) or merged.downstream_variant
    for key in ("upstream_ckpt", "upstream_model_config"):  # whose content counts, not where they lie
        setattr(merged, key, getattr(args, key) or getattr(merged, key))
    if args.config is None:
        return merged, content["Config"]
    return merged, _with_file(merged, args.config, content["Config"])


def _check_argument(key: str, value: Any, past: Path) -> None:
    numbers = ("seed", "upstream_layer_selection", "local_rank")
    switches = (
        *("upstream_trainable", "upstream_feature_normalize", "upstream_refresh"),
        *("verbose", "disable_cudnn", "auto_resume"),
    )
    kind = int if key in numbers else bool if key in switches else str
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise UserError(f"{past} is damaged: its argument {key} is {shown(value)}, expected {kind.__name__}.")


def _overridden(args: argparse.Namespace, config: dict[str, Any], stored: bool = False) -> dict[str, Any]:
    """The complete configuration with ``-o`` applied, which changes ``args`` as well."""
    complete = _task(args).options_from(config, stored=stored).as_config()  # so that -o knows every key
    if args.override and args.override.lower() != "none":
        apply_override(args.override, args, complete, strict_config=True, open_sections=OPEN_SECTIONS)
    return complete


def _read_config(args: argparse.Namespace) -> dict[str, Any]:
    if args.upstream is None:
        raise UserError("No upstream given. Add -u NAME from s3prl's hub, e.g. -u fbank_no_cmvn or -u wavlm_base.")
    shipped = _task(args).configuration(_scope(args))
    path = args.config or shipped
    # with -f as well: rates that suit a head would ruin a whole model
    return {} if path is None else _with_file(args, path, {} if shipped is None else read_yaml(shipped))


def _with_file(args: argparse.Namespace, given: str | Path, config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with what a file changes of it."""
    path = Path(given)
    if not path.is_file():
        raise UserError(f"-c {path}: no such configuration file.")
    content = read_yaml(path) or {}
    _task(args).options_from(content, source=path.name)
    args.config = str(path.resolve())
    return merged(config, content)


def _task(args: argparse.Namespace) -> Task:
    return task_of(args.downstream or DOWNSTREAM)


def _scope(args: argparse.Namespace) -> str:
    return "finetuned" if args.upstream_trainable else "frozen"


def _along(args: argparse.Namespace, options: Options) -> list[str]:
    """Which of the task's splits it is: ``seen``, ``fold1``."""
    found = dict(flat(options.as_config()))
    return [str(found[axis.option]) for axis in _task(args).axes if axis.role != "test"]


def _announce(args: argparse.Namespace, options: Options) -> None:
    system = args.downstream_variant or _task(args).default_system
    _task(args).systems(_scope(args)).summary(system)  # an unknown name is an error before anything else is done
    corpus, along = options.downstream_expert.datarc.corpus, "/".join(_along(args, options))
    say(
        f"s3prl_metaperser {s3prl_metaperser.__version__}: {args.mode} {system}, upstream {args.upstream}, corpus "
        f"{corpus}, {along}"
    )
    if args.upstream and (pinned := load_upstream_config(args.upstream)) and pinned.notes:
        say(f"{args.upstream}: {pinned.notes}")


def _explicit_folder(args: argparse.Namespace) -> Path | None:
    if args.expdir is not None:
        return Path(args.expdir)
    return Path("result/downstream") / args.expname if args.expname is not None else None


def _default_folder(args: argparse.Namespace, options: Options) -> Path:
    """``result/downstream/`` and a name that identifies the cell."""
    corpus, system = options.downstream_expert.datarc.corpus, args.downstream_variant or _task(args).default_system
    other = [] if _task(args).name == DOWNSTREAM else [_task(args).name]
    finetuned = ["f"] if args.upstream_trainable else []
    return Path("result/downstream") / "-".join(
        [*other, corpus, args.upstream, *finetuned, *_along(args, options), system]
    )


def _put_aside_earlier(args: argparse.Namespace) -> None:
    """Files of an earlier experiment in the folder are moved aside, never overwritten."""
    folder = Path(args.expdir)
    for key in ("upstream_ckpt", "upstream_model_config"):
        value = getattr(args, key)
        if value and os.path.exists(value):
            setattr(args, key, str(Path(value).resolve()))
    if args.mode != "train" or os.environ.get("RANK", "0") != "0":
        return
    old = [
        p for pattern in ("states-*.ckpt", "dev-best.ckpt", "result_*.json", "log.log") for p in folder.glob(pattern)
    ]
    if old:
        aside = new_previous(folder)
        for path in old:
            path.rename(aside / path.name)
        say(f"Moved the earlier experiment in {folder} to {aside.name}/ (use -a to resume it instead)")


if __name__ == "__main__":
    sys.exit(main())
