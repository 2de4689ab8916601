"""Audio for others: by reference, or copied where the corpus's licence lets anybody pass it on."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_metaperser.corpora import Corpus, reader_of
from s3prl_metaperser.errors import UserError


def licence_of(corpus: str, stated: str | None, instead: str) -> str:
    """Under which terms the audio of a corpus may be passed on.

    Args:
        stated: the licence that its owner states, of a corpus of which the reader knows none.
        instead: what to do where it may not, as a sentence.

    Raises:
        UserError: it may not, or nothing says that it may.

    Examples:
        >>> licence_of("crema_d", None, "")
        'CREMA-D is under the Open Database License (ODbL) 1.0: name its authors, and share alike'
        >>> licence_of("iemocap", None, "Leave out --bundle.")
        Traceback (most recent call last):
            ...
        s3prl_metaperser.errors.UserError: Audio of the corpus 'iemocap' may not be passed on (IEMOCAP is given out \
under a licence agreement of USC's SAIL laboratory; ask there whether models trained on it may be shared). Leave out \
--bundle.
    """
    reader = reader_of(corpus)
    if reader.redistributable is False:
        raise UserError(f"Audio of the corpus {corpus!r} may not be passed on ({reader.terms}). {instead}")
    if reader.redistributable is None and not stated:
        known = f" ({reader.terms})" if reader.terms else ""
        raise UserError(
            f"Nothing says whether audio of the corpus {corpus!r} may be passed on{known}. If it may, name its "
            f"licence: --licence TEXT. {instead}"
        )
    return stated or reader.terms


def copy_audio(source: Path, copy: Path) -> None:
    """Copy a recording as a WAV file from which the very same samples are read: a WAV file byte by byte, any other
    decoded, mono, at its own rate, as 32-bit floats.

    Raises:
        UserError: it cannot be read.
    """
    with open(source, "rb") as file:
        is_wav = file.read(4) == b"RIFF"
    if is_wav:
        shutil.copyfile(source, copy)
        return
    import soundfile

    from s3prl_metaperser.corpora.audio import read_audio

    sound = read_audio(source)
    soundfile.write(copy, sound.samples, sound.rate, format="WAV", subtype="FLOAT")


@dataclass
class Clips:
    """The paths that prompts name for utterances.

    Args:
        folder: where copies are made; None: the corpus's own files are named.
        inside: what stands before a copy's name in a prompt.
        names: utterance id -> SHA-256 of its file, of which copies have their names: a corpus's own file names may say
            what was acted.
    """

    corpus: Corpus
    names: dict[str, str]
    folder: Path | None
    inside: str
    made: dict[str, str] = field(default_factory=dict)

    def path(self, utterance: str) -> str:
        """Of an utterance, copied when it is first asked for."""
        if utterance not in self.made:
            source = self.corpus.utterance(utterance).path
            if self.folder is None:
                self.made[utterance] = str(source.resolve())
            else:
                name = f"{self.names[utterance][:16]}.wav"
                self.folder.mkdir(exist_ok=True)
                if not (self.folder / name).exists():
                    copy_audio(source, self.folder / name)
                self.made[utterance] = f"{self.inside}/{name}"
        return self.made[utterance]


def link(source: Path, name: Path) -> None:
    """The same file under a second name, or a copy where the file system has no such thing."""
    try:
        os.link(source, name)
    except OSError:
        shutil.copyfile(source, name)
