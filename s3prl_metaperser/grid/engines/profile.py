"""Snakemake profiles: where ``--profile NAME`` is, and what of it the engine must know."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.yaml_files import YAML_1_1, read_yaml
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.storage.paths import user_path
from s3prl_metaperser.storage.resources import folder

CONFIG = "config.yaml"
#: Where Snakemake keeps a user's own.
OWN = Path("~/.config/snakemake")


@dataclass(frozen=True)
class Profile:
    """A profile; without a path there is none.

    Attributes:
        settings: Snakemake's long options without their dashes.
    """

    path: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def executor(self) -> str | None:
        """The plugin that takes jobs elsewhere; None on this machine."""
        name = self.settings.get("executor")
        return None if name in (None, "local") else str(name)

    def without_accounting(self) -> list[str]:
        """Options for a Slurm without an accounting database, where the profile does not set them.

        Snakemake's plugin asks ``sacct`` wherever the program is installed, and takes its refusal for a failed job.
        """
        if self.executor != "slurm" or "slurm-status-command" in self.settings or _accounting():
            return []
        options = ["--slurm-status-command", "squeue"]
        return options if "slurm-no-account" in self.settings else [*options, "--slurm-no-account"]


def find_profile(name: str | None) -> Profile:
    """The profile ``--profile`` names.

    Args:
        name: a folder with ``config.yaml``; or one of ``benchmarks/profiles``, or of ``~/.config/snakemake``.

    Raises:
        UserError: there is none, or it needs an executor plugin that is not installed.
    """
    if name is None:
        return Profile()
    shipped = folder("benchmarks/profiles")
    places = [user_path(name), OWN.expanduser() / name, shipped / name]
    path = next((place for place in places if (place / CONFIG).is_file()), None)
    if path is None:
        if Path(name).is_dir():
            raise UserError(f"--profile {name}: the folder has no {CONFIG}.")
        known = {found.parent.name for place in (shipped, OWN.expanduser()) for found in place.glob(f"*/{CONFIG}")}
        raise UserError(f"--profile: {unknown_name('profile', name, known)} Or name a folder with a {CONFIG}.")
    settings = read_yaml(path / CONFIG, rules=YAML_1_1)
    if not isinstance(settings, Mapping):
        raise UserError(f"{path / CONFIG}: expected a mapping (option: value).")
    profile = Profile(path.resolve(), settings)
    plugin = f"snakemake-executor-plugin-{profile.executor}"
    if profile.executor is not None and find_spec(plugin.replace("-", "_")) is None:
        raise UserError(
            f"{path / CONFIG}: the executor {profile.executor} is not installed. Install it: pip install {plugin}"
        )
    return profile


def _accounting() -> bool:
    """Whether Slurm's database answers."""
    try:
        asked = subprocess.run(["sacct", "-X", "-n"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
