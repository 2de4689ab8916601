"""What an upstream heard before: results on the same corpora are not on unheard speech, and say so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from s3prl_metaperser.config.validator import read
from s3prl_metaperser.s3prl_stack.hub_index import load_upstream_config


@dataclass(frozen=True)
class TrainedOn:
    """The file ``CKPT.yaml`` beside a checkpoint of one's own.

    Attributes:
        trained_on: corpus, by its registered name where it has one -> in which way, such as ``emotion labels``.
    """

    trained_on: Mapping[str, str] = field(default_factory=dict)


def trained_on(name: str, ckpt: str | None = None) -> dict[str, str]:
    """Corpus -> in which way an upstream was trained on it, by ``upstream_configs/NAME.yaml`` and by ``CKPT.yaml``.

    Raises:
        UserError: one of the files is damaged.
    """
    pinned, beside = load_upstream_config(name), Path(f"{ckpt}.yaml")
    own = read(TrainedOn, beside).trained_on if ckpt and beside.is_file() else {}
    return {**(pinned.trained_on if pinned else {}), **own}


def heard_before(name: str, ckpt: str | None, corpora: Collection[str]) -> tuple[str, ...]:
    """A line for each of the corpora that the upstream was trained on, for a result's doubts."""
    known = trained_on(name, ckpt)
    return tuple(
        f"the upstream {name} was trained on {corpus} ({known[corpus]}): what is tested on is not unheard speech"
        for corpus in sorted(set(corpora) & set(known))
    )
