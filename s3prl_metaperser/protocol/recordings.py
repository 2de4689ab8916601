"""One recording under two names: a leak wherever a split takes it for two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.errors import UserError, listed
from s3prl_metaperser.protocol.splits import Split, in_role

_ADVICE = (
    "Remove one name of each, or set datarc.equal_audio: 'first' keeps the first name in the alphabet and leaves the "
    "others out with their ratings, 'allow' takes them for two recordings."
)


def equal_recordings(sounds: Mapping[str, str], utterances: Iterable[str]) -> list[list[str]]:
    """Utterances that sound the same, each group sorted.

    Args:
        sounds: utterance id -> digest of what is heard (:attr:`.Contents.sounds`); an empty one equals nothing.
        utterances: to look at.
    """
    groups: dict[str, list[str]] = {}
    for utterance in sorted(set(utterances)):
        if sound := sounds.get(utterance):
            groups.setdefault(sound, []).append(utterance)
    return [group for group in groups.values() if len(group) > 1]


def recording_leaks(split: Split, sounds: Mapping[str, str]) -> Iterator[tuple[str, list[list[str]]]]:
    """What would be wrong with a split if equal sounds are one recording: what happens, and the utterances.

    A rater's own two utterances of one recording can be support and query of one episode. Utterances that are tested on
    and those that are learned from are told apart by name in the scenarios that claim new ones; so are those of a
    session that is held out for validation.
    """
    trained, validated, tested = (
        {rating.utterance for rating in part} for part in (split.train, split.validation, split.test)
    )
    for role in ("test", "validation"):
        own = {rater: [r.utterance for r in rated] for rater, rated in split.ratings_of(role).items()}
        doubled = {rater: groups for rater, used in own.items() if (groups := equal_recordings(sounds, used))}
        if doubled:
            several = {tuple(group): group for groups in doubled.values() for group in groups}
            who = in_role(f"{role} rater", list(doubled))
            yield f"can be both support and query of one episode of {who}", list(several.values())
    held_out = tested if split.scenario == "unseen" else set(split.queries or ())
    if found := _across(sounds, held_out, trained | validated):
        yield "would be tested on and learned from", found
    if split.validation_session is not None and (found := _across(sounds, validated, trained)):
        yield "would be validated on and trained on", found


def refuse_equal_recordings(corpus: Corpus, split: Split, sounds: Mapping[str, str]) -> None:
    """Refuse a split through which a recording leaks under another name.

    Raises:
        UserError: naming recordings, and the option that drops or allows them.
    """
    leaks = list(recording_leaks(split, sounds))
    if not leaks:
        return
    lines = [f"{_recordings(len(groups))} {what}: {_listed(corpus, groups)}" for what, groups in leaks]
    shown = "\n  ".join(lines)
    raise UserError(
        f"Corpus {corpus.name!r} has recordings under more than one name, which {split.scenario}/{split.fold} would "
        f"take for different ones:\n  {shown}\n{_ADVICE}"
    )


def _across(sounds: Mapping[str, str], one: set[str], other: set[str]) -> list[list[str]]:
    return [group for group in equal_recordings(sounds, one | other) if one & {*group} and other & {*group}]


def _recordings(count: int) -> str:
    return f"{count} recording{'s' * (count > 1)}"


def _listed(corpus: Corpus, groups: Sequence[Sequence[str]]) -> str:
    return listed([" = ".join(_relative(corpus.utterance(u).path, corpus.root) for u in group) for group in groups])


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
