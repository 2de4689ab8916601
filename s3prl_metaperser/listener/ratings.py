"""One listener's labelled clips from a ``ratings.csv``, read as a corpus is, and what to think of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3prl_metaperser.corpora import ratings_csv
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.storage.hashing import file_hash

#: Whose labels they are where ratings.csv has no column that says so.
NAMELESS = "listener"

#: With fewer clips than this most classes have at most one example.
TOO_FEW = 8


@dataclass(frozen=True)
class ListenerRatings:
    """One listener's labels.

    Attributes:
        rater: who.
        clips: K audio files, sorted.
        ticks: the classes ticked for each.
        dropped: reason -> how many ratings or ticks of the file were left out for it.
    """

    rater: str
    clips: tuple[Path, ...]
    ticks: tuple[tuple[str, ...], ...]
    dropped: dict[str, int]


def read_ratings(
    path: Path, *, root: Path | None = None, rater: str | None = None, outside: bool = False
) -> ListenerRatings:
    """Read one listener's labels.

    Args:
        path: ``file,rater,label``; the rater's column may be missing where all labels are one listener's.
        root: the folder that files are relative to; by default that of ``path``.
        rater: whose labels; needed where the file has several raters'.
        outside: whether files may lie outside that folder.

    Raises:
        UserError: as :func:`.ratings_csv.read_table`; or no such rater, or audio of this rater's that cannot be read.
    """
    corpus = ratings_csv.read_table(path, audio=root, only_rater=NAMELESS, outside=outside)
    summary = corpus.rater_summary()
    if rater is None and len(summary) > 1:
        known = ", ".join(f"{name} ({entry['utterances']} clips)" for name, entry in sorted(summary.items()))
        raise UserError(f"{path} has {len(summary)} raters: {known}. Say whose labels to use with --rater.")
    if rater is not None and rater not in summary:
        raise unknown_name("rater", rater, summary)
    rater = rater or next(iter(summary))
    mine = sorted(corpus.ratings_of(rater).items())
    bad = [corpus.utterance(name).path for name, _ in mine if math.isnan(corpus.utterance(name).seconds)]
    if bad:
        told = {problem.path: problem.what for problem in corpus.problems}
        shown = "\n  ".join(f"{file}: {told.get(str(file), 'cannot be read')}" for file in bad[:5])
        more = f"\n  and {len(bad) - 5} more" if len(bad) > 5 else ""
        hint = "" if root else " Files are relative to the folder of the CSV file; --root names another."
        raise UserError(
            f"{path}: {len(bad)} of {len(mine)} rated files cannot be read:\n  {shown}{more}\n{hint.strip()}"
        )
    clips = tuple(corpus.utterance(name).path for name, _ in mine)
    return ListenerRatings(rater, clips, tuple(ticks for _, ticks in mine), dict(corpus.dropped))


def copies(clips: Sequence[Path]) -> list[tuple[Path, Path]]:
    """(clip, the earlier one whose content it has) of each clip that is a copy of another."""
    first: dict[str, Path] = {}
    return [(clip, first[key]) for clip in clips if first.setdefault(key := file_hash(clip), clip) != clip]


def warnings_about(ticks: Sequence[Sequence[str]], classes: Sequence[str], shots: int, copied: int = 0) -> list[str]:
    """What a listener's labels are too few or too much alike for, in words.

    Args:
        ticks: of K clips.
        shots: K of the model's training.
        copied: how many clips are :func:`copies`.
    """
    counts, found = Counter(name for names in ticks for name in names), []
    if len(ticks) < TOO_FEW:
        found.append(
            f"{len(ticks)} clip(s) are too few to learn a listener from: with fewer than {TOO_FEW} the adapted model "
            f"may well be worse than the one that is not adapted. It was trained to adapt to {shots}; label more."
        )
    elif len(ticks) < shots:
        found.append(f"{len(ticks)} clips are fewer than the {shots} that the model was trained to adapt to.")
    if copied:
        found.append(
            f"{copied} of the {len(ticks)} clips {'are copies' if copied > 1 else 'is a copy'} of another one: such a "
            "clip counts twice, and leave-out predicts it after it has seen its copy, so that its figures flatter or, "
            "where the two labels differ, mislead."
        )
    never = [name for name in classes if not counts[name]]
    if never and len(never) < len(classes):
        found.append(
            f"Never ticked: {', '.join(never)}. All that the model learns of such a class is that this listener did "
            "not tick it; it will be predicted less often, rightly or not."
        )
    if len(ticks) > 1 and len({tuple(names) for names in ticks}) == 1:
        found.append("All clips have the same label: the model can only learn to give that one always.")
    return found
