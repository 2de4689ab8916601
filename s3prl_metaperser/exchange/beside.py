"""Beside which of our own results another system's stand: those of the very same episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import STEPS, result_files
from s3prl_metaperser.evaluation.result import FIRST_TASK, Result
from s3prl_metaperser.evaluation.result_keys import Tuned
from s3prl_metaperser.exchange.folder import Part
from s3prl_metaperser.methods import FINETUNED_SYSTEMS, SYSTEMS, facts_of
from s3prl_metaperser.protocol.episodes import key_of
from s3prl_metaperser.storage.hashing import text_hash

#: The upstream of a system that has none of ours.
NO_UPSTREAM = "none"
#: (corpus hash, episodes hash) -> our own systems' results.
Beside = Mapping[tuple[str, str], list[Result]]


@dataclass(frozen=True)
class Place:
    """What a row of a table shares with those beside it.

    Attributes:
        options: what of the configuration it takes from them.
    """

    upstream: str = NO_UPSTREAM
    scope: Any = "frozen"
    protocol: str = "paper"
    training_seed: int = 0
    standardized: bool = False
    checkpoint: str = text_hash(NO_UPSTREAM)
    features: str = text_hash(NO_UPSTREAM)
    tuned: Tuned | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def results_beside(folder: Path) -> Beside:
    """Our own systems' results below a folder.

    Raises:
        UserError: no such folder, or a file that is none.
    """
    found: dict[tuple[str, str], list[Result]] = {}
    for path in result_files(folder):
        result = Result.read(path).compact()
        registry = FINETUNED_SYSTEMS if result.cell.scope == "finetuned" else SYSTEMS
        if result.task == FIRST_TASK and registry.knows(result.cell.system):
            found.setdefault((result.hashes.corpus, result.hashes.episodes), []).append(result)
    return found


def places(part: Part, beside: Beside | None, where: Path | None = None) -> list[Place]:
    """Every upstream, scope, protocol and training seed of the results that have a fold's episodes.

    Args:
        beside: None: there are none, and the system stands alone, or beside others of its kind.
        where: they come from, for errors.

    Raises:
        UserError: none has.
    """
    if beside is None:
        standardized = part.options["downstream_expert"]["modelrc"]["standardize"] is True
        return [Place(standardized=standardized, options={"evalrc": {"protocol": "paper"}})]
    results = beside.get((part.hashes.corpus, key_of(part.lists)), [])
    if not results:
        raise UserError(
            f"--beside {where}: no result has the episodes of {part}. Write the episodes of the very grid or "
            "experiment that made the results, or leave out --beside."
        )
    found: dict[Any, Place] = {}
    for result in sorted(results, key=lambda r: STEPS in facts_of(r.cell.system).fixed):
        cell = result.cell
        key = (cell.upstream, cell.scope, cell.protocol, cell.training_seed)
        tuned = None if result.tuned is None else replace(result.tuned, chosen={}, grid=())
        options = {
            "evalrc": {"protocol": cell.protocol, "steps": result.option("evalrc", "steps")},
            "modelrc": result.option("modelrc"),
        }
        hashes = (cell.standardized, result.hashes.upstream_checkpoint, result.hashes.features)
        found.setdefault(key, Place(*key, *hashes, tuned, options))
    return list(found.values())
