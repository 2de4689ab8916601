"""The report's folder: made beside and put in place at the end; nothing else in it is ever touched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.storage.atomic import write_json
from s3prl_metaperser.storage.disk import new_folder, writing
from s3prl_metaperser.storage.json_files import read_json

#: Lists what a report consists of, so that the next one knows what it may replace.
MANIFEST = "report_files.json"


def publish(files: Mapping[str, bytes], out: Path, made_from: str = "") -> None:
    """Write files into ``out``, replacing those of an earlier report.

    All are written to a folder beside first. Where ``out`` is new or empty, that folder takes its place in one step;
    else each file takes its place whole, and files that only the earlier report had are removed last. The last of
    ``files`` is the page that shows the others: it goes first and comes last, so that there is none while the files
    are of two reports. Files that no report wrote stay as they are.

    Args:
        files: path below ``out``, with slashes, -> content.
        made_from: a hash of all that they were made from, for :func:`is_made_from`.

    Raises:
        UserError: ``out`` is a file, a file that no report wrote is in the way, or the disk is full.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is not a folder; give another place for the report.")
    earlier = _earlier(out)
    for name in (*files, MANIFEST):
        if name not in earlier and (path := _in_the_way(out, name)):
            raise UserError(f"{path} is in the way and is not part of a report; move it, or give another --out.")
    resolved = out.resolve()
    with writing(out):
        resolved.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(resolved) as staged:
            for name, content in files.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_bytes(content)
            _write_manifest(staged, files, made_from)
            if not resolved.exists() or not any(resolved.iterdir()):
                os.replace(staged, resolved)
            else:
                _replace(staged, resolved, list(files), earlier)


def _replace(staged: Path, out: Path, names: list[str], earlier: set[str]) -> None:
    _write_manifest(out, {*earlier, *names})  # so that an interrupted report can be replaced, too
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)  # from here on nothing needs room on the disk
    (out / names[-1]).unlink(missing_ok=True)
    for name in names:
        os.replace(staged / name, out / name)
    for name in sorted(earlier - set(names)):
        _remove(out, name)
    os.replace(staged / MANIFEST, out / MANIFEST)


def _in_the_way(out: Path, name: str) -> Path | None:
    """What keeps ``out / name`` from being written as a new file."""
    if (out / name).exists() or (out / name).is_symlink():
        return out / name
    folders = [out / part for part in Path(name).parents if part != Path()]
    return next((folder for folder in folders if folder.exists() and not folder.is_dir()), None)


def _earlier(out: Path) -> set[str]:
    """Files of the earlier report in ``out``; its manifest included."""
    try:
        names = read_json(out / MANIFEST)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    safe = {str(name) for name in names if ".." not in Path(str(name)).parts and not Path(str(name)).is_absolute()}
    return safe | {MANIFEST}


def is_made_from(out: Path, made_from: str) -> bool:
    """Whether the report in ``out`` is whole and was made from this."""
    names = _earlier(out)
    whole = bool(names) and all((out / name).is_file() for name in names)
    return whole and read_json(out / MANIFEST).get("made_from") == made_from


def _write_manifest(folder: Path, names, made_from: str = "") -> None:
    content = {"what": "files of a report; a new report replaces them", "files": sorted(set(names) - {MANIFEST})}
    content |= {"made_from": made_from} if made_from else {}
    write_json(folder / MANIFEST, content)


def _remove(folder: Path, name: str) -> None:
    if name == MANIFEST:
        return
    (folder / name).unlink(missing_ok=True)
    parent = (folder / name).parent
    if parent != folder and parent.is_dir() and not any(parent.iterdir()):
        parent.rmdir()
