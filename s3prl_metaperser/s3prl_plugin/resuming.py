"""A run is resumed as what it was: arguments and options that say something else are refused, not passed over."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.options import Options, flat
from s3prl_metaperser.corpora.base import Suggestions
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.methods import trained_as
from s3prl_metaperser.s3prl_plugin.arguments import given
from s3prl_metaperser.tasks import task_of

#: The launcher's arguments that say what is run, and their flags.
_SAYS_WHAT = {
    "downstream": "-d",
    "upstream": "-u",
    "upstream_trainable": "-f",
    "upstream_feature_selection": "-s",
    "upstream_layer_selection": "-l",
    "upstream_feature_normalize": "--upstream_feature_normalize",
    "downstream_variant": "-v",
    "seed": "--seed",
}
_ANEW = "Choose another folder (-p), or leave out -a to train anew: what is there is then moved aside."


def refuse_other_arguments(argv: list[str], content: Mapping[str, Any], past: Path) -> None:
    """Refuse arguments that a command line gives and that are not those of the checkpoint that it resumes from.

    Raises:
        UserError: naming each with both values.
    """
    asked, stored = given(argv), vars(content["Args"])
    if (variant := other_output(argv, content)) is not None:
        stored = {**stored, "downstream_variant": variant}
        content = {**content, "System": variant}
    task = stored.get("downstream")
    system = content.get("System", stored.get("downstream_variant")) or task_of(str(task)).default_system
    stored = {**stored, "downstream_variant": system}
    differ = [
        f"{flag} {shown(stored.get(key))} -> {shown(asked[key])}"
        for key, flag in _SAYS_WHAT.items()
        if key in asked and key in stored and asked[key] != stored[key]
    ]
    if differ:
        advice = _ANEW if "auto_resume" in asked else "Leave them out, or name another experiment."
        raise UserError(f"{past} is of another run (stored -> given: {'; '.join(differ)}). {advice}")


def other_output(argv: list[str], content: Mapping[str, Any]) -> str | None:
    """The system to evaluate, where it is the trained one with other outputs on top, which needs no training."""
    asked, system = given(argv), content.get("System")
    variant = asked.get("downstream_variant")
    if system is None or variant is None or asked["mode"] == "train" or trained_as(variant) != trained_as(system):
        return None
    return variant


def refuse_other_options(args: argparse.Namespace, stored: Mapping[str, Any], options: Options, past: Path) -> None:
    """Refuse options that change numbers and are not those of the run that ``-a`` resumes.

    Args:
        stored: the run's configuration.
        options: as asked for; the system puts its own in force.

    Raises:
        UserError: naming each with both values.
    """
    task = task_of(args.downstream)
    scope = "finetuned" if args.upstream_trainable else "frozen"
    system = task.systems(scope).get(args.downstream_variant or task.default_system)
    in_force = getattr(system, "options_in_force", lambda options: options)
    free = task.options_that_affect("speed", "files", "summary")
    suggested = {each.name for each in dataclasses.fields(Suggestions)}
    then = dict(flat(in_force(task.options_from(stored, stored=True)).as_config()))
    differ = []
    for name, value in flat(in_force(options).as_config()):
        left_open = value is None and name.rpartition(".")[2] in suggested  # to the corpus, whose suggestion is stored
        if name not in free and not left_open and then.get(name) != value:
            differ.append(f"{name} {shown(then.get(name))} -> {shown(value)}")
    if differ:
        raise UserError(
            f"-a resumes a run as it was, and {past} was trained with other options (stored -> given: "
            f"{'; '.join(differ)}). To resume it with these, name it: -e {past.parent}. {_ANEW}"
        )
