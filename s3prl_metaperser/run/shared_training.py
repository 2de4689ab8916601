"""One training for systems that differ in nothing but how they use the K samples (``X+map`` and ``X``, say).

A note in the cache says which experiment folder holds the state of a training, under a key of all that the training
depends on. A cell whose system is trained as another one takes that state over in place of training to the same bits;
a system under its own name always trains, so that running it again shows whether it comes out the same.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from s3prl_metaperser import parallel
from s3prl_metaperser.config.options import flat, options_that_affect
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.methods import systems, trained_as
from s3prl_metaperser.methods.initialisation import CODE, WITHIN
from s3prl_metaperser.methods.state import packed_hash
from s3prl_metaperser.run.experiment import BEST
from s3prl_metaperser.run.opened import OpenCell
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.storage.atomic import write_json
from s3prl_metaperser.storage.checkpoints import read_checkpoint
from s3prl_metaperser.storage.json_files import read_json
from s3prl_metaperser.storage.locks import PATIENCE, held
from s3prl_metaperser.storage.paths import steps_of
from s3prl_metaperser.storage.provenance import digest
from s3prl_metaperser.storage.sources import PACKAGE, code_of

#: Options by which meta-testing goes and training does not.
_TESTING = ("downstream_expert.evalrc.protocol", "downstream_expert.evalrc.seeds")


@contextlib.contextmanager
def trained_once(opened: OpenCell) -> Iterator[int | None]:
    """Hold the training of a cell while it is trained, and note afterwards where its state is.

    Yields:
        None where the cell is to be trained; where its state was taken over into its folder, the outer steps done.
    """
    note = _note(opened)
    if note is None:
        yield None
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    lock = held(note.with_suffix(".lock"), f"training of {opened.cell.system}", wait=PATIENCE)
    with lock if parallel.is_leader() else contextlib.nullcontext():
        taken = None
        if opened.cell.system != trained_as(opened.cell.system):
            taken = parallel.gather(_take_over(opened, note) if parallel.is_leader() else None)[0]
        yield taken
        if taken is None and parallel.is_leader():
            best = opened.cell.folder / BEST
            write_json(note, {"folder": str(best.parent.resolve()), "parameters": packed_hash(read_checkpoint(best))})


def _take_over(opened: OpenCell, note: Path) -> int | None:
    """Write another experiment's checkpoints into the cell's folder under its own name."""
    found = _noted(note)
    if found is None:
        return None
    folder, contents = found
    for name, content in contents.items():
        opened.experiment.take_over(name, {key: value for key, value in content.items() if key != "OutputPriors"})
    opened.keep_priors(opened.cell.folder / BEST)
    line = f"{opened.cell.system} is trained as {trained_as(opened.cell.system)}: its state is that of {folder}"
    say(line)
    opened.experiment.note(line)
    return max(int(content["Step"]) for content in contents.values())


def _noted(note: Path) -> tuple[str, dict[str, dict[str, Any]]] | None:
    """The folder that a note names and its checkpoints, if they are still those that it was written for."""
    try:
        said = read_json(note)
        folder = Path(said["folder"])
        paths = [folder / BEST, *(path for _, path in steps_of(folder)[-1:])]
        contents = {path.name: read_checkpoint(path) for path in paths}
        same = packed_hash(contents[BEST]) == said["parameters"]
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None
    return (str(folder), contents) if same and len(contents) > 1 else None


def _note(opened: OpenCell) -> Path | None:
    """Where it is noted; None for a system that learns nothing, or whose code is not this package's."""
    system = systems(opened.cell.upstream.finetuned).get(trained_as(opened.cell.system))
    package = f"{PACKAGE.name}."
    if not (system.facts and system.facts.learns and system.__module__.startswith(package)):
        return None
    return (
        opened.task.cache / "trained" / f"{digest(_parts(opened, system.__module__.removeprefix(package)))[:24]}.json"
    )


def _parts(opened: OpenCell, module: str) -> Mapping[str, Any]:
    """All that the state of a training depends on."""
    free = {*options_that_affect("speed", "files", "summary"), *_TESTING}
    return {
        "task": opened.task.identity,
        "system": trained_as(opened.cell.system),
        "scope": opened.scope.name,
        "seed": opened.cell.seed,
        "options": {name: value for name, value in flat(opened.options.as_config()) if name not in free},
        "code": code_of((module, "run.training", *CODE), ("run.outer_loop", "evaluation", *WITHIN)),
        "device": opened.cell.device.partition(":")[0],
        "versions": [torch.__version__, sys.version],
    }
