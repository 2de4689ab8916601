"""One listener's labelled clips from a ``ratings.csv``, read as a corpus is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from s3prl_metaperser.corpora import read_labels
from s3prl_metaperser.corpora.base import Problem
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.corpora.people import Who
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.labels import ListenerLabels, for_listeners
from s3prl_metaperser.storage.hashing import file_hash

#: Whose labels they are where ratings.csv has no column that says so.
NAMELESS = "listener"


@dataclass(frozen=True)
class LabelledClips:
    """One listener's labelled clips.

    Attributes:
        rater: who.
        clips: K audio files, sorted.
        labels: the answer to each.
        dropped: reason -> how many ratings or ticks of the file were left out for it.
        problems: what is odd about the file, such as columns that are not used.
    """

    rater: str
    clips: tuple[Path, ...]
    labels: ListenerLabels
    dropped: dict[str, int]
    problems: tuple[Problem, ...] = ()

    def copies(self) -> list[tuple[Path, Path]]:
        """(clip, the earlier one whose content it has) of each clip that is a copy of another."""
        first: dict[str, Path] = {}
        return [(clip, first[key]) for clip in self.clips if first.setdefault(key := file_hash(clip), clip) != clip]


def read_ratings(
    path: Path,
    label_set: LabelSet,
    *,
    root: Path | None = None,
    rater: str | None = None,
    outside: bool = False,
    rater_column: str | None = None,
    alike_raters: Literal["error", "one", "distinct"] = "error",
    all_one: bool = False,
    duplicates: Literal["error", "union", "first"] = "error",
    unknown_labels: Literal["error", "drop"] | None = None,
    **options: Any,
) -> LabelledClips:
    """Read one listener's labels.

    Args:
        path: ``file,rater,label``; the rater's column may be missing where all labels are one listener's. Or what an
            annotation tool exports, as the readers of corpora read it.
        label_set: the model's; labels are looked up in it.
        root: the folder that files are relative to; by default that of ``path``.
        rater: whose labels; needed where the file has several raters'.
        outside: whether files may lie outside that folder.
        rater_column: the column that says who rated, where it has none of the known names.
        alike_raters: what raters are whose names differ only by case, Unicode form or leading zeros; see :class:`.Who`.
        all_one: all labels are one listener's (``rater``, by default "listener"), whatever columns there are.
        duplicates, unknown_labels: as in :func:`.ratings_csv.read`; an unknown label is an error by default.
        options: further ones of the tool's reader, such as ``answer``.

    Raises:
        UserError: as :func:`.read_labels`; or no such rater, or audio of this rater's that cannot be read.
    """
    who = Who(rater_column, None if rater is None else (rater,), alike_raters, listener=NAMELESS, all_one=all_one)
    if all_one:
        who = replace(who, raters=None, listener=rater or NAMELESS)
    corpus = read_labels(
        path,
        for_listeners(label_set),
        audio=root,
        who=who,
        outside=outside,
        duplicates=duplicates,
        unknown_labels=unknown_labels,
        **options,
    )
    summary = corpus.rater_summary()
    if len(summary) > 1:
        known = ", ".join(f"{name} ({entry['utterances']} clips)" for name, entry in sorted(summary.items()))
        raise UserError(f"{path} has {len(summary)} raters: {known}. Choose one with --rater.")
    [rater] = summary
    mine = {rating.utterance: rating.answer for rating in corpus.ratings if rating.rater == rater}
    utterances = [corpus.utterance(name) for name in sorted(mine)]
    bad = [utterance.path for utterance in utterances if math.isnan(utterance.seconds)]
    if bad:
        why = {problem.path: problem.what for problem in corpus.problems}
        raise UserError(_unreadable(path, root, bad, len(mine), [why.get(str(file), "cannot be read") for file in bad]))
    labels = ListenerLabels(label_set, tuple(mine[utterance.id] for utterance in utterances))
    paths = tuple(utterance.path for utterance in utterances)
    return LabelledClips(rater, paths, labels, dict(corpus.dropped), corpus.problems)


def _unreadable(path: Path, root: Path | None, bad: Sequence[Path], total: int, why: Sequence[str]) -> str:
    shown = "\n  ".join(f"{file}: {reason}" for file, reason in zip(bad[:5], why[:5], strict=True))
    more = f"\n  and {len(bad) - 5} more" if len(bad) > 5 else ""
    hint = (
        ""
        if root
        else f"Files are looked for in {path if path.is_dir() else path.parent}; --root names another folder."
    )
    return f"{path}: {len(bad)} of {total} rated files cannot be read:\n  {shown}{more}\n{hint}"
