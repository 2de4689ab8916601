"""Where the project's own data files lie, in a checkout and after an install alike."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from s3prl_metaperser.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]

# folder in a checkout -> folder inside the installed package (setup.cfg, package_dir)
_INSTALLED = {
    "upstream_configs": "upstream_configs",
    "benchmarks/paper": "paper",
    "benchmarks/profiles": "profiles",
}


def folder(name: str) -> Path:
    """The folder ``upstream_configs``, ``benchmarks/paper`` or ``benchmarks/profiles``, from the checkout if there is
    one."""
    in_checkout = PACKAGE.parent / name
    if (PACKAGE.parent / "setup.cfg").is_file() and in_checkout.is_dir():
        return in_checkout
    return PACKAGE / _INSTALLED[name]


def downstream_folder() -> Path:
    """The folder ``downstream/personalized_emotion`` that s3prl imports the expert from."""
    in_checkout = PACKAGE.parent / "downstream" / "personalized_emotion"
    if in_checkout.is_dir():
        return in_checkout
    found = importlib.util.find_spec("s3prl")
    if found is None or found.origin is None:
        raise UserError("s3prl is not installed: pip install s3prl.")
    return Path(found.origin).resolve().parent / "downstream" / "personalized_emotion"


def shipped_configuration(finetuned: bool) -> Path:
    """The file with every option's default: ``config.yaml``, or ``config_finetuned.yaml`` for ``-f``."""
    return downstream_folder() / ("config_finetuned.yaml" if finetuned else "config.yaml")
