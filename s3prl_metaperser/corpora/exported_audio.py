"""Which recording an annotation tool means, whose names for it are seldom the file's."""

from __future__ import annotations

import os
import posixpath
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s3prl_metaperser.corpora.folders import files_below, is_audio
from s3prl_metaperser.errors import UserError, shown

#: What Label Studio puts before the names of uploads.
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")
_SOURCE = re.compile(r"<(?:audio|source)\b[^>]*?\bsrc\s*=\s*[\"']?([^\"'>\s]+)", re.IGNORECASE)


def audio_field(data: Mapping[str, Any], audio: str | None, where: str) -> str:
    """The recording of a task: its field of that name, or the only one that names audio.

    Raises:
        UserError: there is none, or there are several.
    """
    if audio is None:
        named = [name for name, value in data.items() if isinstance(value, str) and is_audio(audio_path(value))]
        audio = "audio" if "audio" in named or not named else named[0]
        if len(named) > 1 and audio != "audio":
            how = f"--option audio={named[0]} (training: datarc.audio)"
            raise UserError(f"{where}: which is the audio, {', '.join(named)}? Say it: {how}.")
    value = data.get(audio)
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"{where}: no field {audio!r} names the audio; it has {', '.join(map(str, data)) or 'nothing'}."
        )
    if value.lstrip()[:5].lower() == "data:":
        raise UserError(f"{where}: {audio!r} holds the recording itself. Save it as a file, and name that there.")
    return value


def audio_path(url: str) -> str:
    """The path in what a tool calls a file: of an upload, of local storage, of a bucket, of a server, in HTML."""
    if found := _SOURCE.search(url):
        url = found[1]
    try:
        parts = urllib.parse.urlsplit(url.strip())
    except ValueError:  # no address, so a name
        return url.strip()
    local = urllib.parse.parse_qs(parts.query).get("d")
    if local:
        return local[0]
    return parts.path if parts.scheme in ("http", "https", "s3", "gs", "azure-blob", "file") else url.strip()


class ExportedAudio:
    """The audio that is meant by the names of an export, which seldom are those of the files here."""

    def __init__(self, folder: Path, export: Path):
        self.folder, self.export = folder, export
        self._files: dict[str, list[str]] = {}
        for path in files_below(folder).audio:
            self._files.setdefault(_stored(path.name), []).append(path.relative_to(folder).as_posix())
        self._taken: dict[str, str] = {}  # file here -> what the export calls it

    def named(self, url: str, where: int | str) -> str:
        """The file relative to the folder; a name that stands for none of them is kept, to be reported as missing.

        Raises:
            UserError: several files are meant, or another recording of the export has that file.
        """
        path = audio_path(url)
        base = posixpath.basename(path)
        ways = (path.lstrip("/"), urllib.parse.unquote(path.lstrip("/")), base, _UPLOAD.sub("", base))
        found = next((way for way in ways if os.path.isfile(self.folder / way)), None)  # no name is too long for it
        if found is None:
            names = dict.fromkeys((_stored(urllib.parse.unquote(base)), _stored(urllib.parse.unquote(ways[-1]))))
            meant = next((files for name in names if (files := self._files.get(name))), [ways[-1]])
            if len(meant) > 1:
                raise UserError(
                    f"{self.export}:{where}: {shown(url)} may be {' or '.join(meant[:3])}. Keep one of them."
                )
            found = meant[0]
        if (other := self._taken.setdefault(found, url)) != url:
            what = f"{shown(other)} and {shown(url)} are both called {found!r} here"
            raise UserError(f"{self.export}:{where}: {what}. Keep the names that the tool gave the uploads.")
        return found


def _stored(name: str) -> str:
    """A name as tools store an upload: without blanks and signs."""
    return re.sub(r"[^-\w.]", "", name.replace(" ", "_"))
