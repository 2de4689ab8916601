"""The command line of s3prl's ``run_downstream.py``, option for option, without importing torch or s3prl."""

from __future__ import annotations

import argparse
from typing import Any

from s3prl_metaperser.errors import UserError

#: Words of ``--push_to_hf_hub`` beside yes and no.
PUBLIC, ALL = "public", "all"
_PUSH = (
    "True: upload the parameters to a private repository of the Hugging Face Hub, without paths, names and labels; "
    f"{PUBLIC}: one that everybody can read; {ALL}: the whole folder; {PUBLIC},{ALL}: both"
)
_YES, _NO = ("true", "yes", "1"), ("false", "no", "none", "0", "")


def build_parser() -> argparse.ArgumentParser:
    """A parser with every option of s3prl 0.4.18's launcher: same flags, destinations, types, defaults."""
    parser = argparse.ArgumentParser(
        prog="run_downstream.py",
        description="s3prl's launcher, with the downstream personalized_emotion added to s3prl's own.",
    )
    parser.add_argument(
        *("-m", "--mode"), choices=["train", "evaluate", "inference"], required=True, help="what to run"
    )
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every option but ``-m``."""
    _add_task(parser.add_argument_group("what to do"))
    _add_upstream(parser.add_argument_group("upstream"))
    _add_experiment(parser.add_argument_group("experiment folder"))
    _add_machine(parser.add_argument_group("machine"))


def _add_task(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-d", "--downstream", help="name of the downstream task, e.g. personalized_emotion")
    add(
        "-v",
        "--downstream_variant",
        help="variant of the task; for personalized_emotion the system [Meta-PerSER] (`metaperser list systems`)",
    )
    add(
        "-c",
        "--config",
        help="configuration file (YAML) [downstream/NAME/config.yaml; personalized_emotion with -f: "
        "config_finetuned.yaml]; for personalized_emotion, keys it omits keep their defaults",
    )
    add(
        "-o",
        "--override",
        help='change arguments and configuration: -o "config.optimizer.lr=1e-4,,args.seed=7"; '
        "overrides everything else",
    )
    add(
        "-t",
        "--evaluate_split",
        default="test",
        help="split to evaluate (personalized_emotion: test or dev), or file for inference [%(default)s]",
    )
    add("-e", "--past_exp", metavar="CKPT", help="resume from a checkpoint, or from the last one in a folder")
    add("-i", "--init_ckpt", metavar="CKPT", help="take only the weights from this checkpoint")


def _add_upstream(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--hub", default="torch", choices=["torch", "huggingface"], help="source of the upstream's code [%(default)s]")
    add(
        "-u",
        "--upstream",
        help="name of the upstream, e.g. wavlm_base, hubert_base, wav2vec2_base_960 or fbank_no_cmvn; names "
        "that end in _local, _url or _custom need -k (`metaperser list upstreams` shows all names)",
    )
    add("-k", "--upstream_ckpt", metavar="CKPT", help="checkpoint file, folder or URL, for upstreams that need one")
    add("-g", "--upstream_model_config", metavar="FILE", help="configuration file, for upstreams that need one")
    add("-r", "--upstream_refresh", action="store_true", help="download the checkpoint again, even if it is cached")
    add("-f", "--upstream_trainable", action="store_true", help="fine-tune the upstream")
    add(
        "-s",
        "--upstream_feature_selection",
        default="hidden_states",
        metavar="NAME",
        help="which of the upstream's outputs to use [%(default)s: all layers]",
    )
    add("-l", "--upstream_layer_selection", type=int, metavar="INDEX", help="use only this layer of the output")
    add("--upstream_feature_normalize", action="store_true", help="layer-normalise each frame of each layer")
    add("--upstream_model_name", default="model.pt", metavar="FILE", help="model file, for --hub huggingface")
    add("--upstream_revision", metavar="COMMIT", help="revision of the repository, for --hub huggingface")


def _add_experiment(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-n", "--expname", metavar="NAME", help="write to result/downstream/NAME")
    add("-p", "--expdir", metavar="FOLDER", help="write to FOLDER")
    add("-a", "--auto_resume", action="store_true", help="resume if the folder has checkpoints")
    add("--push_to_hf_hub", default=False, metavar="WORDS", help=_PUSH)
    add("--hf_hub_org", help="organisation to publish under")


def _add_machine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--seed", default=1337, type=int, help="seed of the run [%(default)s]")
    add("--device", default="cuda", help="cuda or cpu [%(default)s; cpu without CUDA]")
    add("--cache_dir", metavar="FOLDER", help="cache folder for downloads (torch.hub and s3prl)")
    add("--verbose", action="store_true", help="print more about the model")
    add("--disable_cudnn", action="store_true", help="disable cuDNN")
    add("--backend", default="nccl", help="torch.distributed backend [%(default)s]")
    add("--local_rank", type=int, metavar="RANK", help="local process rank (set by torch.distributed's launcher)")


def given(argv: list[str]) -> dict[str, Any]:
    """The arguments that a command line gives, without defaults."""
    parser = build_parser()
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return vars(parser.parse_args(argv))


def is_wanted(value: object) -> bool:
    """Whether the value of ``--push_to_hf_hub`` means yes; s3prl accepts any text, even ``False``."""
    return bool(value) and str(value).lower() not in _NO


def upload_words(value: object) -> frozenset[str]:
    """What ``--push_to_hf_hub`` asks for beyond a private repository of the parameters: ``public``, ``all``, both.

    Raises:
        UserError: another word.

    >>> upload_words("True"), sorted(upload_words("public,all"))
    (frozenset(), ['all', 'public'])
    """
    words = {word.strip().lower() for word in str(value).split(",")} - {*_YES}
    if unknown := words - {PUBLIC, ALL}:
        raise UserError(
            f"--push_to_hf_hub {value}: {', '.join(sorted(unknown))!r} is not known. Write True (a private repository "
            f"of the parameters), {PUBLIC} (everybody can read it), {ALL} (the whole folder), or {PUBLIC},{ALL}."
        )
    return frozenset(words)
