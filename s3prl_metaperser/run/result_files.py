"""Result files in an experiment folder: a file a cell, and nothing is overwritten without a word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.options import flat, options_that_affect
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.run.experiment import BEST
from s3prl_metaperser.run.opened import Checkpoint
from s3prl_metaperser.run.shown_commands import launcher
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.storage.hashing import text_hash
from s3prl_metaperser.storage.paths import new_previous, steps_of

#: A longer description of what was changed is replaced by its hash.
_LONGEST = 100


def result_name(
    split: str, checkpoint: Checkpoint, config: Mapping[str, Any], system: str, folder: Path | None = None
) -> str:
    """``result_test.json`` for the trained cell's own result; others say what was changed: ``result_test-shots8.json``.

    Args:
        system: as which it is evaluated, with something else on its outputs, say.
        folder: where it is written, by default beside the checkpoint. In a folder of its own (``-p``) a result needs no
            other name: that is how it gets into a report.
    """
    changed = []
    beside = folder is None or folder.resolve() == checkpoint.path.parent.resolve()
    if checkpoint.resumed and beside:
        free = options_that_affect("speed", "files", "summary")
        then = dict(flat(checkpoint.content["Config"]))
        now = {name: value for name, value in flat(config) if name not in free}
        changed = [
            f"-{name.rpartition('.')[2]}{_said(value)}" for name, value in now.items() if then.get(name, value) != value
        ]
        if system != checkpoint.content.get("System", system):
            changed.insert(0, f"-system{_said(system)}")
        if checkpoint.path.name != BEST and (checkpoint.path.parent / BEST).is_file():
            changed.append(f"-step{checkpoint.step}")
    text = "".join(changed)
    if len(text) > _LONGEST:
        text = f"-{text_hash(text)[:12]}"
    return f"result_{split}{text}.json"


def unfinished(checkpoint: Checkpoint, total: int) -> tuple[str, ...]:
    """For a result's doubts, a line where the training that chose its best step has not ended, which is said."""
    states = steps_of(checkpoint.path.parent)
    ended = not states or states[-1][0] >= total or checkpoint.content.get("Diverged")
    if ended or not checkpoint.resumed or checkpoint.path.name != BEST:
        return ()
    doubt = f"the training had not ended: step {states[-1][0]} of {total}"
    say(f"NOTE: {doubt}. To go on with it: {launcher('-m', 'train', '-e', checkpoint.path.parent)}")
    return (doubt,)


def write_result(folder: Path, name: str, result: Result) -> Path:
    """Write a result; another one in its place is moved to a folder ``previous-<time>`` beside, which is said."""
    path = folder / name
    if path.is_file() and not _same(path, result):
        aside = new_previous(folder)
        path.rename(aside / name)
        say(f"{name} held another result, which is now in {aside.name}/")
    result.write(path)
    return path


def _same(path: Path, result: Result) -> bool:
    """Whether a file holds a result of the same cell with the same predictions."""
    try:
        other = Result.read(path)
    except UserError:
        return False
    return other.cell == result.cell and other.episodes == result.episodes


def _said(value: Any) -> str:
    text = "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    text = re.sub(r"[^\w.+]+", "-", text)
    return text if text[:1].isdigit() else f"-{text}"
