"""Who says what, where, and with which intended emotion: the plan of the demo corpus, before any sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s3prl_metaperser.corpora.iemocap import CLASSES
from s3prl_metaperser.demo.draws import generator

#: Arousal, valence and dominance of each class, 1 (low) to 5 (high); [C, 3] in the order of ``CLASSES``.
CENTROIDS = np.array(
    [
        [3.3, 2.1, 3.1],  # frustrated
        [4.3, 1.7, 4.3],  # angry
        [1.8, 2.0, 1.9],  # sad
        [2.7, 1.5, 3.9],  # disgust
        [4.3, 4.3, 3.6],  # excited
        [3.9, 1.8, 1.6],  # fear
        [2.4, 3.2, 3.1],  # neutral
        [4.1, 3.3, 2.2],  # surprise
        [3.0, 4.4, 3.4],  # happy
    ]
)

#: Spread of one utterance around its class's centroid, in points of the same scale (standard deviation).
SPREAD = 0.35

#: What is said carries no emotion of its own.
SENTENCES = (
    "The train leaves at nine.",
    "My sister called this morning.",
    "There is a letter on the table.",
    "They moved the meeting to Monday.",
    "You left your coat in the hall.",
    "The bus stops near the library.",
    "He said he would be here by noon.",
    "We painted the kitchen yesterday.",
    "The keys are next to the door.",
    "She is waiting at the station.",
    "I told him about the apartment.",
    "The window was open all night.",
    "They are building a road over there.",
    "Your brother is on the phone.",
    "I read about it in the paper.",
    "The shop closes in half an hour.",
    "We will see them after the game.",
    "It has been raining since noon.",
    "He put the box under the stairs.",
    "The neighbours have a new car.",
    "I have to be at work by seven.",
    "She took the dog to the river.",
    "The doctor wants to talk to you.",
    "They sent the forms back again.",
    "There are two people at the gate.",
    "You never told me about the trip.",
    "The lights went out at ten.",
    "He is going to sell the house.",
    "I found it behind the sofa.",
    "The teacher gave us more time.",
    "We are having soup for dinner.",
    "The plane landed an hour ago.",
)

SESSIONS = (1, 2, 3, 4, 5)
SPEAKERS = tuple(f"Ses{session:02d}{gender}" for session in SESSIONS for gender in "FM")
TURNS_PER_DIALOG = 15


@dataclass(frozen=True, slots=True)
class Turn:
    """A planned utterance.

    Attributes:
        utterance: id in IEMOCAP's form, e.g. ``Ses01F_impro01_M003`` (the last letter is the speaker's).
        dialog: e.g. ``Ses01F_impro01`` (the letter after the session names the side with the markers).
        speaker: e.g. ``Ses01M``.
        session: 1 to 5.
        intended: index of the intended emotion in ``CLASSES``.
        sentence: what is said.
        avd: arousal, valence and dominance of this utterance, 1 to 5 and a little beyond.
    """

    utterance: str
    dialog: str
    speaker: str
    session: int
    intended: int
    sentence: str
    avd: tuple[float, float, float]


def dialogs_of(session: int, utterances: int) -> list[str]:
    """Names of a session's dialogs, enough for about 15 utterances each where the layout has that many names.

    The layout knows eight improvisations for each of the two sides, session 1 seven.
    """
    names = [f"Ses{session:02d}{side}_impro{n:02d}" for n in range(1, 8 if session == 1 else 9) for side in "FM"]
    return names[: max(1, -(-utterances // TURNS_PER_DIALOG))]


def quota(prior: np.ndarray, total: int) -> np.ndarray:
    """Class counts [C] that sum to ``total``, nearest to ``prior`` [C] (largest remainders)."""
    exact = prior * total
    counts = np.floor(exact).astype(int)
    rest = np.argsort(-(exact - counts), kind="stable")[: total - int(counts.sum())]
    counts[rest] += 1
    return counts


def write_script(prior: np.ndarray, *, seed: int, utterances: int) -> list[Turn]:
    """The turns, in order of session, dialog and time.

    Args:
        prior: how often each emotion is intended [C], met as nearly as whole numbers can.
        seed: of every draw.
        utterances: how many turns in all five sessions together.
    """
    shuffle = generator(seed, "script")
    intended = np.repeat(np.arange(len(CLASSES)), quota(prior, utterances))
    shuffle.shuffle(intended)
    turns: list[Turn] = []
    for position, session in enumerate(SESSIONS):
        size = utterances // len(SESSIONS) + (position < utterances % len(SESSIONS))
        dialogs = dialogs_of(session, size)
        for number, members in enumerate(np.array_split(np.arange(size), len(dialogs))):
            count = {"F": 0, "M": 0}
            for k in range(len(members)):
                gender = "FM"[(k + number) % 2]
                name = f"{dialogs[number]}_{gender}{count[gender]:03d}"
                count[gender] += 1
                draw = generator(seed, "turn", name)
                emotion = int(intended[len(turns)])
                avd = CENTROIDS[emotion] + SPREAD * draw.standard_normal(3)
                turns.append(
                    Turn(
                        utterance=name,
                        dialog=dialogs[number],
                        speaker=f"Ses{session:02d}{gender}",
                        session=session,
                        intended=emotion,
                        sentence=SENTENCES[int(draw.integers(len(SENTENCES)))],
                        avd=(float(avd[0]), float(avd[1]), float(avd[2])),
                    )
                )
    return turns
