"""Locations of the project's own data files, in a checkout and in an installation."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

# folder in a checkout -> folder inside the installed package (setup.cfg, package_dir)
_INSTALLED = {
    "upstream_configs": "upstream_configs",
    "benchmarks": "grids",
    "benchmarks/paper": "paper",
    "benchmarks/profiles": "profiles",
}


def folder(name: str) -> Path:
    """The folder ``upstream_configs``, ``benchmarks`` (its grids), ``benchmarks/paper`` or ``benchmarks/profiles``.

    From the checkout if it exists.
    """
    in_checkout = PACKAGE.parent / name
    if (PACKAGE.parent / "setup.cfg").is_file() and in_checkout.is_dir():
        return in_checkout
    return PACKAGE / _INSTALLED[name]


def downstream_folder(name: str) -> Path:
    """The folder ``downstream/NAME`` with the expert of a downstream of this project: of the checkout, else installed
    beside this package, which need not be where s3prl is."""
    in_checkout = PACKAGE.parent / "downstream" / name
    return in_checkout if in_checkout.is_dir() else PACKAGE.parent / "s3prl" / "downstream" / name
