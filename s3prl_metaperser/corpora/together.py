"""Several corpora of acted emotions as one: each is a domain, and its name stands where a rater does.

Ids and speakers carry the corpus's name before them (``emodb/03a01Fa``), and labels are the five emotions that the
corpora share (:mod:`.emotions`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from s3prl_metaperser.corpora import acted_corpora, acted_corpus
from s3prl_metaperser.corpora.base import Corpus, Problem, Rating, Utterance
from s3prl_metaperser.corpora.emotions import FIVE
from s3prl_metaperser.corpora.reader import Reader
from s3prl_metaperser.errors import UserError, unknown_name
from s3prl_metaperser.storage.paths import user_path


def read(
    root: Path,
    *,
    roots: dict[str, str] | None = None,
    domains: tuple[str, ...] | None = None,
    merge: dict[str, dict[str, str]] | None = None,
) -> Corpus:
    """Read every corpus that has a folder of its name below ``root``, and those of ``roots``.

    Args:
        roots: corpus -> its folder, where that is not ``root/<name>``.
        domains: read these alone.
        merge: corpus -> own class -> one of the five emotions, or ``-``: changes of its map.

    Raises:
        UserError: a name that is no corpus of acted emotions, one that is not there, or none at all.
    """
    known, roots, merge = acted_corpora(), roots or {}, merge or {}
    for name in (*roots, *(domains or ()), *merge):
        if name not in known:
            raise unknown_name("corpus of acted emotions", name, known)
    places = {name: user_path(path) for name, path in roots.items()}
    below = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()} if root.is_dir() else {}
    if root not in places.values():
        places = {name: below[name.lower()] for name in known if name.lower() in below} | places
    wanted = [name for name in known if name in (places if domains is None else domains)]
    if missing := [name for name in wanted if name not in places]:
        raise UserError(f"{root} has no folder {missing[0]!r}. Put the corpus there, or name it in datarc.roots.")
    if not wanted:
        raise UserError(f"{root} has no folder of a corpus of acted emotions, such as {', '.join(known[:4])}.")
    return joined(root, (acted_corpus(name, places[name], merge.get(name)) for name in wanted))


def home(cache: Path, options: Mapping[str, object]) -> Path | None:
    """Without a root the first of ``roots``, beside which none is looked for; None without these, either."""
    roots = options.get("roots")
    return user_path(str(next(iter(roots.values())))) if isinstance(roots, Mapping) and roots else None


def joined(root: Path, corpora: Iterable[Corpus]) -> Corpus:
    """Corpora of the five emotions as one, in which each is a domain.

    Args:
        root: what the whole is said to be in.
    """
    utterances: list[Utterance] = []
    ratings: list[Rating] = []
    problems: list[Problem] = []
    dropped: Counter[str] = Counter()
    for corpus in corpora:
        for each in corpus.utterances:
            name, speaker = f"{corpus.name}/{each.id}", f"{corpus.name}/{each.speaker}"
            utterances.append(dataclasses.replace(each, id=name, speaker=speaker, session=corpus.name))
        ratings += [
            dataclasses.replace(each, utterance=f"{corpus.name}/{each.utterance}", rater=corpus.name)
            for each in corpus.ratings
        ]
        problems += corpus.problems
        dropped.update({f"{corpus.name}: {reason}": count for reason, count in corpus.dropped.items()})
    return Corpus(
        "acted_corpora",
        root,
        FIVE,
        tuple(sorted(utterances, key=lambda each: each.id)),
        tuple(sorted(ratings, key=lambda each: (each.utterance, each.rater))),
        dropped=dict(dropped),
        problems=tuple(problems),
    )


READER = Reader(
    read,
    home=home,
    terms="several corpora: each has its own terms (`metaperser list corpora`)",
)
