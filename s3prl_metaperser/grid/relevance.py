"""Which options can change which cell's numbers.

The rest is left at the configuration file's values in a cell, so that changing the rate of a system that does not use
it makes no other cell run again, and so that all folds of a cell have the same options on record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s3prl_metaperser.config.options import options_that_affect
from s3prl_metaperser.methods import facts_of
from s3prl_metaperser.methods.facts import EXPERT as _EXPERT
from s3prl_metaperser.methods.facts import below, options_of_initialisation

_ALWAYS = (f"{_EXPERT}.datarc", f"{_EXPERT}.modelrc", f"{_EXPERT}.evalrc")


def matters(option: str, scope: str, system: str, config: Mapping[str, Any]) -> bool:
    """Whether an option can change the numbers of a system's cells.

    Args:
        option: such as ``runner.total_steps``.
        config: the whole configuration.
    """
    if option in options_that_affect("speed", "files"):
        return False
    datarc = config[_EXPERT]["datarc"]
    if option.startswith(f"{_EXPERT}.datarc.demo.") and datarc["corpus"] != "demo":
        return False
    return below(option, _ALWAYS) or facts_of(system).matters(option, scope, config)


def matters_to_initialisation(option: str, scope: str, config: Mapping[str, Any]) -> bool:
    """Whether an option can change the initialisation that the cells of a scenario and fold share."""
    by = (f"{_EXPERT}.datarc", f"{_EXPERT}.modelrc", *options_of_initialisation(scope))
    return below(option, by) and matters(option, scope, "", config)


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`s3prl_metaperser.config.options.flat`."""
    config: dict[str, Any] = {}
    for name, value in options.items():
        section = config
        *path, key = name.split(".")
        for step in path:
            section = section.setdefault(step, {})
        section[key] = value
    return config
