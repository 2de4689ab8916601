"""Every audio container and codec that ffmpeg writes, whole and damaged: read whole, or refused?

    python benchmarks/audio_files.py [--out FILE.json]

Each form is written to a file and through a pipe (where a writer cannot go back to put sizes right), and each of these
is read as it is, cut, joined with itself, and with every size in its header changed. What is read is compared with what
ffmpeg decodes from the same bytes and with the clip that was written. Needs ffmpeg; takes two minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from s3prl_metaperser.corpora.audio import BadAudio, read_audio

SECONDS = 2.4
#: What a coder may add or remove, in seconds; a 32nd of the shortest cut.
TOLERANCE = 0.12

#: (muxer, codec, rate, other options): what people have, and what else ffmpeg writes.
FORMS: tuple[tuple[str, str, int, str], ...] = (
    *(
        ("wav", codec, 16000, "")
        for codec in ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le")
    ),
    *(
        ("wav", codec, 8000, "")
        for codec in ("pcm_mulaw", "pcm_alaw", "libgsm_ms", "adpcm_ms", "adpcm_ima_wav", "g726")
    ),
    ("wav", "adpcm_yamaha", 16000, ""),
    ("wav", "libmp3lame", 16000, ""),
    ("wav", "pcm_s16le", 16000, "-rf64 always"),
    ("wav", "pcm_s16le", 44100, "-ac 2"),
    ("w64", "pcm_s16le", 16000, ""),
    *(("aiff", codec, 16000, "") for codec in ("pcm_s16be", "pcm_s24be", "pcm_mulaw", "adpcm_ima_qt")),
    *(("au", codec, 16000, "") for codec in ("pcm_s16be", "pcm_f32be", "pcm_mulaw")),
    *(("caf", codec, 16000, "") for codec in ("pcm_s16be", "pcm_s16le", "pcm_mulaw", "alac")),
    *(("voc", codec, 8000, "") for codec in ("pcm_u8", "pcm_s16le", "pcm_mulaw")),
    ("flac", "flac", 16000, ""),
    ("flac", "flac", 44100, "-ac 2"),
    ("ogg", "libvorbis", 16000, ""),
    ("ogg", "libopus", 16000, ""),
    ("ogg", "flac", 16000, ""),
    ("ogg", "libspeex", 16000, ""),
    ("opus", "libopus", 48000, ""),
    ("mp3", "libmp3lame", 16000, "-b:a 32k"),
    ("mp3", "libmp3lame", 44100, "-q:a 4"),
    ("mp3", "libmp3lame", 16000, "-q:a 4 -write_xing 0"),
    ("mp3", "libmp3lame", 16000, "-b:a 32k -write_xing 0"),
    ("mp3", "libmp3lame", 44100, "-q:a 2 -write_xing 0 -id3v2_version 0 -ac 2"),
    ("mp2", "mp2", 16000, ""),
    ("mp2", "mp2", 48000, "-ac 2"),
    ("ipod", "aac", 16000, ""),
    ("mp4", "aac", 44100, ""),
    ("mp4", "alac", 16000, ""),
    ("mp4", "aac", 16000, "-movflags frag_keyframe+empty_moov"),
    ("mov", "pcm_s16le", 16000, ""),
    ("3gp", "aac", 16000, ""),
    ("adts", "aac", 16000, ""),
    ("webm", "libopus", 48000, ""),
    ("webm", "libvorbis", 44100, ""),
    ("matroska", "flac", 16000, ""),
    ("matroska", "pcm_s16le", 16000, ""),
    ("asf", "wmav2", 16000, ""),
    ("avi", "pcm_s16le", 16000, ""),
    ("avi", "libmp3lame", 16000, ""),
    ("flv", "libmp3lame", 44100, ""),
    ("wv", "wavpack", 16000, ""),
    ("tta", "tta", 16000, ""),
    ("ac3", "ac3", 48000, ""),
    ("eac3", "eac3", 48000, ""),
    ("dts", "dca", 48000, "-strict -2"),
    ("mpegts", "mp2", 48000, ""),
    ("mpegts", "aac", 48000, ""),
    ("vob", "ac3", 48000, ""),
    ("sox", "pcm_s32le", 16000, ""),
    ("ircam", "pcm_s16le", 16000, ""),
    ("nut", "pcm_s16le", 16000, ""),
    ("truehd", "truehd", 48000, "-strict -2"),
    ("g722", "g722", 16000, ""),
    ("gsm", "libgsm", 8000, ""),
    ("adx", "adpcm_adx", 16000, ""),
    ("oma", "pcm_s16be", 44100, "-ac 2"),
    ("rm", "ac3", 44100, ""),
    ("mxf", "pcm_s16le", 48000, ""),
    ("sbc", "sbc", 16000, ""),
)


def clip(rate: int = 16000, seconds: float = SECONDS) -> np.ndarray:
    """Something like speech: harmonics whose level changes four times a second, with a little noise."""
    time = np.arange(round(rate * seconds)) / rate
    draw = np.random.default_rng(0)
    voice = sum(np.sin(2 * np.pi * 140 * n * time) / n for n in range(1, 12))
    return (0.1 * voice * (1.1 + np.sin(8 * np.pi * time)) + draw.normal(0, 0.004, len(time))).astype(np.float32)


def written(folder: Path, number: int) -> Iterator[tuple[str, bytes]]:
    """(how, bytes) of one form from a file and through a pipe; what ffmpeg cannot write is left out."""
    muxer, codec, rate, more = FORMS[number]
    source, target = folder / "clip.wav", folder / f"clip-{number}"
    soundfile.write(source, clip(), 16000)
    start = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(source)]
    end = ["-c:a", codec, "-ar", str(rate), *more.split(), "-f", muxer]
    if subprocess.run([*start, *end, str(target)], capture_output=True).returncode == 0:
        yield "file", target.read_bytes()
    piped = subprocess.run([*start, *end, "pipe:1"], capture_output=True)
    if piped.returncode == 0 and piped.stdout:
        yield "pipe", piped.stdout


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(what was done, bytes) of one file."""
    yield "as it is", data
    for part in (0.97, 0.5, 0.2):
        yield f"cut to {part:.0%}", data[: int(len(data) * part)]
    yield "doubled", data * 2
    for place, form, value in sizes(data):
        for what, other in (("a tenth", value // 10), ("double", value * 2), ("zero", 0)):
            patched = bytearray(data)
            struct.pack_into(form, patched, place, min(other, 2 ** (8 * struct.calcsize(form)) - 1))
            yield f"size at {place} {what}", bytes(patched)


def sizes(data: bytes) -> Iterator[tuple[int, str, int]]:
    """(place, format, value) of numbers in the header that are nearly the length of the file."""
    taken = -1
    for place in range(min(512, len(data) - 8)):
        for form in ("<I", ">I"):
            value = struct.unpack_from(form, data, place)[0]
            if place > taken and 0 <= len(data) - value <= min(1024, len(data) // 20):
                taken = place + 3
                yield place, form, value


def ffmpegs_seconds(path: Path) -> float:
    """How much ffmpeg decodes."""
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-i", str(path), "-map", "0:a:0", "-ar", "16000", "-ac", "1"]
    return len(subprocess.run([*command, "-f", "s16le", "pipe:1"], capture_output=True).stdout) / 32000


def outcome(path: Path, what: str) -> tuple[str, str]:
    """What became of one file, and the particulars."""
    try:
        sound = read_audio(path)
    except BadAudio as fault:
        return "refused", fault.what
    ours, theirs = len(sound.samples) / sound.rate, ffmpegs_seconds(path)
    said = f"{ours:.3f} s, ffmpeg {theirs:.3f} s; {' '.join(sound.notes)}"
    held = {"as it is": SECONDS, "doubled": 2 * SECONDS}.get(what, 0.0 if what.startswith("cut") else SECONDS)
    if ours < max(theirs, held) - TOLERANCE:
        return "SHORT", said
    return "read to the cut" if what.startswith("cut") else "read whole", said


def main() -> None:
    """Print a table of outcomes by what was done, and every file that was read short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write every file's outcome here, as JSON")
    arguments = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        parser.exit(2, "ffmpeg is not installed\n")
    rows: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as place:
        for number, form in enumerate(FORMS):
            for how, data in written(Path(place), number):
                for what, content in damaged(data):
                    path = Path(place, "damaged.bin")
                    path.write_bytes(content)
                    found, said = outcome(path, what)
                    rows.append(
                        {"form": " ".join(map(str, form)), "by": how, "what": what, "found": found, "said": said}
                    )
    table = Counter((row["what"].split(" at ")[0].split(" to ")[0], row["found"]) for row in rows)
    for (what, found), count in sorted(table.items()):
        print(f"{what:<10} {found:<26} {count:>5}")
    print(f"{len(rows)} files of {len({row['form'] for row in rows})} forms; ffmpeg can write no other of {len(FORMS)}")
    for row in rows:
        if row["found"] == "SHORT":
            print("SHORT:", *row.values(), sep=" | ")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
