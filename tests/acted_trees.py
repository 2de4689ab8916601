"""Corpora of acted speech as they are published, name by name, of one short tone in every file. Written from the
corpora's own descriptions, without the package's patterns."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from tests.corpora_fixtures import write_wav


def product(form: str, *parts: object) -> Iterator[str]:
    """``form`` with every combination of the parts, which are strings with blanks or sequences."""
    lists = [part.split() if isinstance(part, str) else list(part) for part in parts]
    return (form.format(*combination) for combination in itertools.product(*lists))


def crema_d() -> Iterator[str]:
    """Actors 1001 to 1091; one sentence has three levels of five emotions; neutral is there once or twice."""
    actors, texts = range(1001, 1092), "TIE IOM IWW TAI MTI IWL ITH DFA ITS TSI WSI"
    five = "ANG DIS FEA HAP SAD"
    names = list(product("AudioWAV/{}_{}_{}_XX.wav", actors, texts, five))
    names += product("AudioWAV/{}_IEO_{}_{}.wav", actors, five, "LO MD HI")
    lost = {name for name in names if name.split("/")[1][:4] in ("1002", "1019", "1055")}  # 1271 of 91 x 14 = 1274
    lost = {name for name in lost if "_DFA_" in name}
    yield from (name for name in names if name not in lost)
    yield from itertools.islice(product("AudioWAV/{}_{}_NEU_XX.wav", actors, f"IEO {texts}"), 1087)


def aesdd() -> Iterator[str]:
    for (letter, count), folder in zip(
        {"h": 119, "s": 122, "a": 121, "f": 120, "d": 122}.items(),
        ["happiness", "sadness", "anger", "fear", "disgust"],
        strict=True,
    ):
        names = list(product(letter + "{:0>2} ({}).wav", range(1, 21), range(1, 7)))[: min(count, 120)]
        names[0] = names[0].replace("(1)", "(01)")
        extra = [f"{letter}{number:02d} (5){take}.wav" for number, take in ((1, "a"), (1, "b"))]
        yield from (f"{folder}/{name}" for name in names + extra[: count - len(names)])


def cafe() -> Iterator[str]:
    speakers = [f"{n:02d}" for n in range(1, 13)]
    for folder, letter in (
        ("Colère", "C"),
        ("De\u0301gou\u0302t", "D"),
        ("Joie", "J"),
        ("Peur", "P"),
        ("Surprise", "S"),
        ("Tristesse", "T"),
    ):
        for level, name in (("1", "Faible"), ("2", "Fort")):
            yield from product(f"{folder}/{name}/{{}}-{letter}-{level}-{{}}.wav", speakers, range(1, 7))
    yield from product("Neutre/{}-N-1-{}.wav", speakers, range(1, 7))


def emodb() -> Iterator[str]:
    for letter, count in {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "T": 62, "N": 79}.items():
        speakers, texts = "03 08 09 10 11 12 13 14 15 16", "a01 a02 a04 a05 a07 b01 b02 b03 b09 b10"
        yield from itertools.islice(product("wav/{1}{2}" + letter + "{0}.wav", "a b", speakers, texts), count)


def ravdess() -> Iterator[str]:
    for actor in range(1, 25):
        form = f"Actor_{actor:02d}/03-01-{{}}-{{}}-{{}}-{{}}-{actor:02d}.wav"
        yield from product(form, ["01"], ["01"], "01 02", "01 02")
        yield from product(form, [f"{n:02d}" for n in range(2, 9)], "01 02", "01 02", "01 02")


def tess() -> Iterator[str]:
    words = ["back", "bite", *(f"w{a}{b}" for a, b in itertools.product("abcdefghijk", "abcdefghijklmnopqr"))]
    for speaker, emotion in itertools.product(
        ("OAF", "YAF"), ["angry", "disgust", "fear", "happy", "ps", "sad", "neutral"]
    ):
        for word in words:
            typo = (speaker, word, emotion) == ("OAF", "bite", "neutral")
            yield f"{speaker}_{emotion}/{'OA' if typo else speaker}_{word}_{emotion}.wav"


def savee() -> Iterator[str]:
    numbers = [f"{n:02d}" for n in range(1, 31)]
    yield from product("{}/{}{}.wav", "DC JE JK KL", "a d f h sa su", numbers[:15])
    yield from product("{}/n{}.wav", "DC JE JK KL", numbers)


def shemo() -> Iterator[str]:
    for letter, count in {"A": 1059, "H": 201, "N": 1028, "S": 449, "W": 225, "F": 38}.items():
        people = [("female", f"F{n:02d}") for n in range(1, 32)] + [("male", f"M{n:02d}") for n in range(1, 57)]
        numbers = itertools.count(1)
        names = (f"{sex}/{who}{letter}{number:02d}.wav" for number in numbers for sex, who in people)
        yield from itertools.islice(names, count)


def emovo() -> Iterator[str]:
    texts = "b1 b2 b3 l1 l2 l3 l4 n1 n2 n3 n4 n5 d1 d2"
    yield from product("{1}/{0}-{1}-{2}.wav", "dis gio neu pau rab sor tri", "f1 f2 f3 m1 m2 m3", texts)


def urdu() -> Iterator[str]:
    for folder in ("Angry", "Happy", "Neutral", "Sad"):
        yield from (f"{folder}/S{'MF'[n % 2]}{n % 29}_F{n}_{folder[0]}{n:03d}.wav" for n in range(1, 101))


def esd() -> Iterator[str]:
    for speaker in ("0001", "0020"):
        for block, folder in enumerate(("Neutral", "Angry", "Happy", "Sad", "Surprise")):
            part = "train/" if speaker == "0001" else ""
            yield from (f"{speaker}/{folder}/{part}{speaker}_{350 * block + n:06d}.wav" for n in range(1, 351))


def jl_corpus() -> Iterator[str]:
    emotions = "angry sad neutral happy excited anxious apologetic assertive concerned encouraging"
    texts = [f"{n}{letter}" for n in range(1, 16) for letter in "ab"]
    folder = "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)"
    yield from product(folder + "/{}_{}_{}_{}.wav", "male1 male2 female1 female2", emotions, texts, "1 2")


def emov_db() -> Iterator[str]:
    yield from (f"bea_Anger/anger_1-28_{n:04d}.wav" for n in range(1, 11))
    yield from (f"Sam_Disgust/Disgust_113_140_{n:04d}.wav" for n in range(1, 6))


def planted(root: Path, names: Iterator[str] | list[str]) -> Path:
    """A tree of these names, all links to one file."""
    tone = write_wav(root.parent / f"{root.name}-tone.wav")
    for name in names:
        path = root / name
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        os.link(tone, path)
    return root
