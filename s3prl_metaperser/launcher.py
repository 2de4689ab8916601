"""The launcher: s3prl's command line, from any directory.

``-d personalized_emotion`` runs here; any other downstream is handed to s3prl's own launcher, on a stack that
:mod:`s3prl_metaperser.compat` has made fit for it.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import yaml

import s3prl_metaperser
from s3prl_metaperser.arguments import build_parser
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods import DEFAULT_SYSTEM, systems
from s3prl_metaperser.options import Options
from s3prl_metaperser.override import apply_override
from s3prl_metaperser.paths import steps_of
from s3prl_metaperser.registration import DOWNSTREAM
from s3prl_metaperser.resources import downstream_folder
from s3prl_metaperser.upstream.hub import check_upstream, load_upstream_config
from s3prl_metaperser.workspace import say

# as in s3prl: what a resumed run takes from its command line and not from the checkpoint
KEPT_ON_RESUME = (
    "mode",
    "evaluate_split",
    "override",
    "backend",
    "local_rank",
    "past_exp",
    "device",
    "expdir",
)

# what s3prl 0.4.18's own code makes torch say at each start; nothing that a user could mend
NOT_OURS = (".*torch.nn.utils.weight_norm.*is deprecated", "Support for mismatched key_padding_mask and attn_mask")


def main(argv: list[str] | None = None) -> int:
    """Run s3prl's command line; returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(argv)
    try:
        return run(args, argv)
    except UserError as error:
        print(f"[MetaPerSER] error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\n[MetaPerSER] interrupted; the last checkpoint is kept, and -a goes on from it", file=sys.stderr)
        return 130


def run(args: argparse.Namespace, argv: list[str]) -> int:
    """One command.

    Raises:
        UserError: whatever the user can mend.
    """
    past = _past_checkpoint(args)
    downstream = args.downstream
    content: dict[str, Any] = {}
    if past is not None:
        content = _read(past)
        downstream = content["Args"].downstream
    if downstream != DOWNSTREAM:
        from s3prl_metaperser.stock import run_stock

        run_stock(args, argv)
        return 0
    args.downstream = DOWNSTREAM
    if past is not None:
        args, config = _resumed(args, content, past)
    else:
        config = _read_config(args)
    if args.override and args.override.lower() != "none":
        complete = _complete(config)
        apply_override(args.override, args, complete, strict_config=True)
        config = complete
    options = Options.from_config(config)
    _announce(args, options)
    check_upstream(args.upstream)
    if past is None:
        _make_folder(args, options)
    start(args, config)
    return 0


def start(args: argparse.Namespace, config: dict[str, Any]) -> None:
    """Run one mode of one experiment, whose folder exists."""
    from s3prl_metaperser import compat

    compat.apply()
    import random

    import numpy as np
    import torch

    from s3prl_metaperser import parallel
    from s3prl_metaperser.registration import register
    from s3prl_metaperser.runner import MetaRunner

    for message in NOT_OURS:
        warnings.filterwarnings("ignore", message)
    register()
    args.device = _device(args.device, torch)
    if parallel.wanted():
        args.device = parallel.start(args.backend, args.device)
    if args.cache_dir is not None:
        compat.set_download_dir(args.cache_dir)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.enabled = not args.disable_cudnn
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    try:
        runner = MetaRunner(args, config)
        if args.verbose:
            say(f"options: {runner.options}")
        if parallel.is_leader():
            _write_yaml(args, runner.config)
        {"train": runner.train, "evaluate": runner.evaluate, "inference": runner.inference}[args.mode]()
    finally:
        parallel.stop()


def _past_checkpoint(args: argparse.Namespace) -> Path | None:
    """The checkpoint that ``-e`` or ``-a`` names; for evaluation the selected one, for training the latest."""
    if args.auto_resume and not args.past_exp:
        folder = _explicit_folder(args)
        if folder is None:
            if args.downstream != DOWNSTREAM:
                return None
            folder = _default_folder(args, Options.from_config(_overridden(args)))
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
    ours = args.downstream in (None, DOWNSTREAM)
    if ours and args.mode != "train" and best.is_file() and _read(best)["Args"].downstream == DOWNSTREAM:
        return best
    if not states:
        raise UserError(f"-e {path}: the folder has no states-*.ckpt. Train first, or name another folder.")
    return states[-1][1]


def _read(path: Path) -> dict[str, Any]:
    from s3prl_metaperser.checkpoints import read_checkpoint

    return read_checkpoint(path)


def _resumed(
    args: argparse.Namespace, content: dict[str, Any], past: Path
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Arguments and configuration of a past experiment; its folder is where the checkpoint lies, or what -p names."""
    merged = argparse.Namespace(**vars(args))
    for key, value in vars(content["Args"]).items():
        if key not in KEPT_ON_RESUME:
            setattr(merged, key, value)
    folder = _explicit_folder(args)
    merged.expdir = str(folder if folder is not None else past.parent)
    merged.past_exp = str(past)
    merged.init_ckpt = str(past)
    Path(merged.expdir).mkdir(parents=True, exist_ok=True)
    return merged, content["Config"]


def _overridden(args: argparse.Namespace) -> dict[str, Any]:
    """The configuration with ``-o``, on copies; for the default folder's name."""
    config = _complete(_read_config(args))
    if args.override and args.override.lower() != "none":
        apply_override(args.override, copy.copy(args), config, strict_config=True)
    return config


def _read_config(args: argparse.Namespace) -> dict[str, Any]:
    if args.upstream is None:
        raise UserError("Which upstream? Name one by its s3prl hub name, e.g. -u fbank_no_cmvn or -u wavlm_base.")
    default = "config_finetuned.yaml" if args.upstream_trainable else "config.yaml"
    path = Path(args.config) if args.config else downstream_folder() / default
    if not path.is_file():
        raise UserError(f"-c {path}: no such configuration file.")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    Options.from_config(config or {}, source=path.name)
    args.config = str(path.resolve())
    return config or {}


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with every default filled in, so that ``-o`` knows every key."""
    import dataclasses

    return _lists(dataclasses.asdict(Options.from_config(config)))


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _announce(args: argparse.Namespace, options: Options) -> None:
    system = args.downstream_variant or DEFAULT_SYSTEM
    systems(args.upstream_trainable).summary(system)  # an unknown name is an error before anything else is done
    data = options.downstream_expert.datarc
    say(
        f"s3prl_metaperser {s3prl_metaperser.__version__}: {args.mode} {system}, upstream {args.upstream}, corpus "
        f"{data.corpus}, {data.scenario}/{data.fold}"
    )
    if args.upstream and (pinned := load_upstream_config(args.upstream)) and pinned.get("notes"):
        say(f"{args.upstream}: {pinned['notes']}")


def _explicit_folder(args: argparse.Namespace) -> Path | None:
    if args.expdir is not None:
        return Path(args.expdir)
    return Path("result/downstream") / args.expname if args.expname is not None else None


def _default_folder(args: argparse.Namespace, options: Options) -> Path:
    """``result/downstream/`` and a name that tells the cell."""
    data = options.downstream_expert.datarc
    system = args.downstream_variant or DEFAULT_SYSTEM
    return Path("result/downstream") / "-".join(
        [data.corpus, args.upstream, *(["f"] if args.upstream_trainable else []), data.scenario, data.fold, system]
    )


def _make_folder(args: argparse.Namespace, options: Options) -> None:
    """The experiment folder; what an earlier experiment left in it is moved aside, never overwritten."""
    folder = _explicit_folder(args) or _default_folder(args, options)
    args.expdir = str(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); name another with -p.") from None
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
        aside = folder / f"previous-{time.strftime('%Y-%m-%d-%H-%M-%S')}"
        aside.mkdir()
        for path in old:
            path.rename(aside / path.name)
        say(f"{folder} held an earlier experiment; it is now in {aside.name}/ (use -a to go on instead)")


def _device(device: str, torch) -> str:
    if device.startswith("cuda") and not torch.cuda.is_available():
        say("no GPU found: running on the CPU")
        return "cpu"
    return device


def _write_yaml(args: argparse.Namespace, config: dict[str, Any]) -> None:
    """``args_<time>.yaml`` and ``config_<time>.yaml``, as s3prl does."""
    from s3prl_metaperser.atomic import write_text

    tag = time.strftime("%Y-%m-%d-%H-%M-%S")
    for name, content in (("args", vars(args)), ("config", config)):
        write_text(Path(args.expdir) / f"{name}_{tag}.yaml", yaml.safe_dump(content, sort_keys=False))
