"""speechocean762: five experts' scores of each sentence of learners of English, in ``resource/scores-detail.json``.

Each score is a list of five numbers. That a place in the list is one person throughout is not said by the corpus; it is
taken so here, and noted. Speakers are in ``train/utt2spk`` and ``test/utt2spk``. https://www.openslr.org/101
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.corpora.folders import files_below
from s3prl_metaperser.corpora.label_sets import ACCURACY, FLUENCY, PROSODIC
from s3prl_metaperser.corpora.rated_files import UNKNOWN_SPEAKER, Place
from s3prl_metaperser.corpora.rated_rows import RatedRows
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.storage.paths import user_path

SCORES = "scores-detail.json"
EXPERTS = 5
ANSWERS = {"accuracy": ACCURACY, "fluency": FLUENCY, "prosodic": PROSODIC}


def read(
    root: Path, *, answer: Literal["accuracy", "fluency", "prosodic"] = "fluency", outside: bool = False
) -> Corpus:
    """Read the experts of speechocean762.

    Args:
        root: the folder with ``resource`` and ``WAVE``.
        answer: which score of the sentence, from 0 to 10.
        outside: whether files may be outside the folder, behind links.

    Raises:
        UserError: no scores, a list that is not of five, or a number out of scale.
    """
    root = user_path(root)
    path = next((each for each in (root / "resource" / SCORES, root / SCORES) if each.is_file()), None)
    if path is None:
        raise UserError(f"{root / 'resource' / SCORES} does not exist. Give the folder of speechocean762.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Unpack it again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: no scores by utterance. Unpack it again.")
    rows = RatedRows(path, ANSWERS[answer], Place(root, outside))
    files = {each.stem: each.relative_to(root).as_posix() for each in files_below(root).audio}
    speakers, described = _speakers(root), {}
    for utterance, scores in content.items():
        given = scores.get(answer) if isinstance(scores, dict) else None
        if not isinstance(given, list) or len(given) != EXPERTS:
            raise UserError(f"{path}:{utterance}: {answer} is {shown(given)}, expected a list of {EXPERTS} numbers.")
        file = files.get(utterance, f"{utterance}.WAV")
        described[file] = (speakers.get(utterance, UNKNOWN_SPEAKER), "")
        for number, score in enumerate(given, 1):
            rows.add(utterance, file, f"expert{number}", str(score))
    taken = f"place 1 to {EXPERTS} of each list is taken for one expert throughout"
    rows.note(path, f"{taken}; the corpus does not say so.")
    return rows.corpus("speechocean762", described=described, root=root)


def _speakers(root: Path) -> dict[str, str]:
    """Utterance -> speaker, of both parts."""
    found: dict[str, str] = {}
    for path in (root / part / "utt2spk" for part in ("train", "test")):
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found |= {words[0]: words[1] for line in lines if len(words := line.split()) == 2}
    return found


READER = Reader(
    read,
    terms="speechocean762 is under CC BY 4.0: name its authors",
    redistributable=True,
)
