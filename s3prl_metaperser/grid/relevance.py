"""Which options can change which cell's numbers.

The rest is left at the configuration file's values in a cell, so that changing the rate of a system that does not use
it makes no other cell run again, and so that all folds of a cell have the same options on record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_EXPERT = "downstream_expert"

#: Options that say where and how fast, not what.
NOT_IN_NUMBERS = (
    f"{_EXPERT}.datarc.root",
    f"{_EXPERT}.datarc.outside",
    f"{_EXPERT}.datarc.cache_dir",
    f"{_EXPERT}.datarc.num_workers",
    f"{_EXPERT}.modelrc.batch_size",
    f"{_EXPERT}.metarc.engine",
    f"{_EXPERT}.tunerc.micro_batch_seconds",
    f"{_EXPERT}.tunerc.activation_checkpointing",
    "runner.log_step",
    "runner.save_step",
    "runner.max_keep",
    "runner.threads",
)

_ALWAYS = (f"{_EXPERT}.datarc", f"{_EXPERT}.modelrc", f"{_EXPERT}.evalrc")
_INITIALISED = (f"{_EXPERT}.initrc",)
_FEW = (f"{_EXPERT}.fewrc",)
_OUTER = ("optimizer", "runner.total_steps", "runner.eval_step", "runner.gradient_clipping")
_META = (f"{_EXPERT}.metarc", *_OUTER)
_CLIPPED = ("runner.gradient_clipping",)
_TUNED = (f"{_EXPERT}.tunerc",)
#: What Table 2's rows fix by their names.
_SWITCHES = tuple(
    f"{_EXPERT}.metarc.{name}" for name in ("initialisation", "combined_set", "derivative_annealing", "lslr")
)
_ROWS = ("none", "INI", "INI+CSMT", "INI+DA", "INI+LSLR", "all")
META = "Meta-PerSER"

#: Scope -> system -> what it goes by besides ``_ALWAYS``. A system that is not here goes by everything.
_BY: dict[str, dict[str, tuple[str, ...]]] = {
    "frozen": {
        "Random": (),
        "Linear-Zero": _INITIALISED,
        "Linear-Sim": _INITIALISED,
        "Linear-Few": (*_INITIALISED, *_FEW),
        "Multi-Few": (*_INITIALISED, *_FEW, *_CLIPPED),
        META: (*_INITIALISED, *_META),
    },
    "finetuned": {
        "Random": (),
        "Entire-Zero": (*_INITIALISED, *_CLIPPED, *_TUNED),
        "Entire-Sim": (*_INITIALISED, *_CLIPPED, *_TUNED),
        "Entire-Few": (*_INITIALISED, *_CLIPPED, *_TUNED, *_FEW),
        "Multi-Few": (*_INITIALISED, *_CLIPPED, *_TUNED, *_FEW),
        META: (*_INITIALISED, *_META, *_TUNED),
    },
}
#: Systems that start from the shared initialisation, wherever ``metarc.initialisation`` does not say otherwise.
_SHARING = {
    "frozen": ("Linear-Zero", "Linear-Sim", "Linear-Few", META),
    "finetuned": ("Entire-Zero", "Entire-Sim", "Entire-Few", META),
}


def matters(option: str, scope: str, system: str, config: Mapping[str, Any]) -> bool:
    """Whether an option can change the numbers of a system's cells.

    Args:
        option: such as ``runner.total_steps``.
        config: the whole configuration.
    """
    if option in NOT_IN_NUMBERS:
        return False
    datarc = config[_EXPERT]["datarc"]
    if option.startswith(f"{_EXPERT}.datarc.demo.") and datarc["corpus"] != "demo":
        return False
    base, _, row = system.partition(":")
    by = _BY[scope].get(base)
    if by is None or (row and (base != META or row not in _ROWS)):
        return True
    if row and option in _SWITCHES:
        return False
    if base == META and not uses_initialisation(scope, system, config):
        by = tuple(name for name in by if name not in _INITIALISED)
    return any(option == name or option.startswith(f"{name}.") for name in (*_ALWAYS, *by))


def uses_initialisation(scope: str, system: str, config: Mapping[str, Any]) -> bool:
    """Whether a system starts from the initialisation that cells share."""
    base, _, row = system.partition(":")
    if base not in _SHARING[scope] or (row and row not in _ROWS):
        return False
    if base == META:
        return row != "none" if row else config[_EXPERT]["metarc"]["initialisation"]
    return True


def matters_to_initialisation(option: str, scope: str, config: Mapping[str, Any]) -> bool:
    """Whether an option can change the initialisation that the cells of a scenario and fold share."""
    by = (
        f"{_EXPERT}.datarc",
        f"{_EXPERT}.modelrc",
        *_INITIALISED,
        *(_CLIPPED + _TUNED if scope == "finetuned" else ()),
    )
    return any(option == name or option.startswith(f"{name}.") for name in by) and matters(option, scope, "", config)


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
