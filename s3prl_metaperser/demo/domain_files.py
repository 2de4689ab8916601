"""Where an utterance of a demo corpus is, in the layout of the corpus that it stands for, quirks included."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping

from s3prl_metaperser.corpora import crema_d
from s3prl_metaperser.corpora.acted import aesdd, cafe, emodb, emovo, ravdess, savee, shemo, tess

#: (speaker, emotion, how many the speaker has of it so far) -> path below the corpus's folder, and which sentence.
Place = Callable[[str, str, int], tuple[str, int]]

_CREMA_D_TEXTS = ("DFA", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI", "IEO", "IEO", "IEO")
_CREMA_D_LEVELS = ("XX",) * 11 + ("LO", "MD", "HI")
_EMODB_TEXTS = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
_EMOVO_TEXTS = ("b1", "b2", "b3", "l1", "l2", "l3", "l4", "n1", "n2", "n3", "n4", "n5", "d1", "d2")
#: The first two give the corpus's two odd files.
_WORDS = (
    *("bite", "food", "back", "germ", "neat", "road", "lamp", "hill", "coat", "wind", "shoe", "milk", "sand", "bell"),
    *("rope", "leaf", "moon", "fish", "door", "game", "nest", "wool", "cake", "yard", "pine", "tide", "root", "gold"),
)
_CAFE_FOLDERS = {
    "C": unicodedata.normalize("NFD", "Colère"),
    "D": "D\u201ago\u2013t",  # Dégoût, packed in one code page and unpacked in another
    "J": "Joie",
    "P": "Peur",
    "S": "Surprise",
    "T": "Tristesse",
}
_DIALOG = 8  # turns of a speaker in one


def _code(codes: Mapping[str, str], emotion: str) -> str:
    return next(code for code, name in codes.items() if name == emotion)


def _crema_d(speaker: str, emotion: str, take: int) -> tuple[str, int]:
    common = crema_d.LAYOUT.emotions.items()
    own = next((name for name, meant in common if meant == emotion), emotion)
    place = take % len(_CREMA_D_TEXTS)
    return f"AudioWAV/{speaker}_{_CREMA_D_TEXTS[place]}_{own[:3].upper()}_{_CREMA_D_LEVELS[place]}.wav", min(place, 11)


def _aesdd(speaker: str, emotion: str, take: int) -> tuple[str, int]:
    letter = _code(aesdd.CODES, emotion)
    who = f"(0{speaker})" if (speaker, take) == ("1", 0) else f"({speaker}){'a' if (speaker, take) == ('5', 0) else ''}"
    return f"{emotion}/{letter}{take + 1:02d} {who}.wav", take


def _cafe(speaker: str, emotion: str, take: int) -> tuple[str, int]:
    letter, level = _code(cafe.CODES, emotion), 1 + take // 6
    folder = f"{_CAFE_FOLDERS[letter]}/{('Faible', 'Fort')[level - 1]}" if letter in _CAFE_FOLDERS else "Neutre"
    return f"{folder}/{speaker}-{letter}-{level}-{take % 6 + 1}.wav", take % 6


def _emodb(speaker: str, emotion: str, take: int) -> tuple[str, int]:
    place = take % len(_EMODB_TEXTS)
    version = "abcdef"[take // len(_EMODB_TEXTS)]
    return f"wav/{speaker}{_EMODB_TEXTS[place]}{_code(emodb.CODES, emotion)}{version}.wav", place


def _ravdess(speaker: str, emotion: str, take: int) -> tuple[str, int]:
    level, sentence, repetition = 1 + take // 4, 1 + take // 2 % 2, 1 + take % 2
    code = _code(ravdess.CODES, emotion)
    return f"Actor_{speaker}/03-01-{code}-{level:02d}-{sentence:02d}-{repetition:02d}-{speaker}.wav", sentence - 1


def _tess(speaker: str, emotion: str, take: int) -> tuple[str, int]:
    code, word = _code(tess.CODES, emotion), _WORDS[1 - take if emotion == "fear" and take < 2 else take]
    prefix = "OA" if (speaker, emotion, take) == ("OAF", "neutral", 0) else speaker
    return f"{speaker}_{code}/{prefix}_{word}_{code}.wav", take


def _savee(speaker: str, emotion: str, take: int) -> tuple[str, int]:
    return f"{speaker}/{_code(savee.CODES, emotion)}{take + 1:02d}.wav", take


def _shemo(speaker: str, emotion: str, take: int) -> tuple[str, int]:
    folder = {"F": "female", "M": "male"}[speaker[0]]
    return f"{folder}/{speaker}{_code(shemo.CODES, emotion)}{take + 1:02d}.wav", take


def _emovo(speaker: str, emotion: str, take: int) -> tuple[str, int]:
    place = take % len(_EMOVO_TEXTS)
    return f"{speaker}/{_code(emovo.CODES, emotion)}-{speaker}-{_EMOVO_TEXTS[place]}.wav", place


def iemocap_name(speaker: str, turn: int) -> str:
    """The utterance of a speaker's turn, counted from 0; eight to a dialog."""
    return f"{speaker[:5]}F_impro{turn // _DIALOG + 1:02d}_{speaker[5]}{turn % _DIALOG:03d}"


def iemocap_file(name: str) -> str:
    """Where the audio of an utterance is."""
    return f"Session{name[4]}/sentences/wav/{name.rpartition('_')[0]}/{name}.wav"


#: The layouts that go by the names of files, all but IEMOCAP's.
LAYOUTS = (crema_d, aesdd, cafe, emodb, ravdess, tess, savee, shemo, emovo)
#: Corpus -> where it puts its utterances; IEMOCAP counts turns, not takes.
PLACES: Mapping[str, Place] = {
    crema_d.LAYOUT.name: _crema_d,
    aesdd.LAYOUT.name: _aesdd,
    cafe.LAYOUT.name: _cafe,
    emodb.LAYOUT.name: _emodb,
    ravdess.LAYOUT.name: _ravdess,
    tess.LAYOUT.name: _tess,
    savee.LAYOUT.name: _savee,
    shemo.LAYOUT.name: _shemo,
    emovo.LAYOUT.name: _emovo,
}
