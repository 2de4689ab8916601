"""What every part of the audio door shares: the error, the limits, and the account of a file's bytes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from s3prl_metaperser.errors import UserError

#: Samples a second that every upstream of s3prl expects.
RATE = 16000

#: One window of a log-mel front end, and the receptive field of wav2vec 2.0: less gives no frame at all.
SHORTEST_MILLISECONDS = 25

#: Sampling rates in Hz: from far below speech to far above any recorder's. Others are damaged headers.
RATES = (1000, 768_000)

#: Samples of all channels together: 2 GiB in memory, more than nine hours at 16 kHz.
MOST_SAMPLES = 1 << 29

#: What to do about a file that is damaged.
REPLACE = "Replace it with an intact copy, or exclude it."

#: The note on a file whose frames no header counts.
UNCOUNTED = "its length is not stored in it: a missing end cannot be detected."


class BadAudio(UserError):
    """An audio file that cannot be used.

    Attributes:
        path: the file.
        what: what is wrong with it and what to do.
    """

    def __init__(self, path: str | Path, what: str):
        super().__init__(str(path), what)
        self.path = str(path)
        self.what = what

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Account:
    """What the bytes of a file say about its audio, found without decoding.

    Attributes:
        frames: samples per channel that the bytes hold; None where only the decoder can tell.
        fault: why the file must be refused, with both counts and what to do; empty where nothing is wrong.
        note: what is odd about a file that is read whole all the same.
        streams: decode these bytes, one after another, in place of the file; empty: the file itself.
        surplus: samples that the decoder may give before the first, for its own delay.
        other: the fault is libsndfile's, and another decoder may read the file.
    """

    frames: int | None = None
    fault: str = ""
    note: str = ""
    streams: tuple[bytes, ...] = ()
    surplus: int = 0
    other: bool = False


def convert(path: str | Path, *options: str, before: str = "") -> str:
    """The command that makes a WAV file of a file that is not read as it is.

    Args:
        options: what ffmpeg is told about the output.
        before: what it is told about the input.
    """
    target = Path(path).with_suffix(".wav" if Path(path).suffix.lower() != ".wav" else ".converted.wav")
    words = ["ffmpeg", *before.split(), "-i", str(path), *options, str(target)]
    return " ".join(map(shlex.quote, words))
