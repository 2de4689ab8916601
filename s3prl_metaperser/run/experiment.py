"""The experiment folder, laid out as s3prl does: log.log, TensorBoard events, states-<step>.ckpt, dev-best.ckpt."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import yaml

from s3prl_metaperser import parallel
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.storage.atomic import write_text
from s3prl_metaperser.storage.checkpoints import read_checkpoint, save_checkpoint
from s3prl_metaperser.storage.disk import clear_leftovers, writing
from s3prl_metaperser.storage.events import Events
from s3prl_metaperser.storage.locks import held
from s3prl_metaperser.storage.paths import new_previous, steps_of
from s3prl_metaperser.storage.provenance import differences

if TYPE_CHECKING:
    from s3prl_metaperser.run.opened import Checkpoint

BEST, LOCK = "dev-best.ckpt", ".lock"
#: The best so far before anything was evaluated.
NOTHING = {"loss": math.inf, "step": 0}


def one_writer(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold an experiment folder: one process writes to it, with those that torchrun has started beside it.

    Raises:
        Held: another process does.
    """
    if os.environ.get("RANK", "0") != "0":  # the leader holds it for all
        return contextlib.nullcontext()
    return held(folder / LOCK, f"The experiment folder {folder}")


@contextlib.contextmanager
def leaving_nothing_empty(folder: Path, new: bool) -> Iterator[None]:
    """Take a ``new`` folder away again where the block fails before it has written anything but its lock."""
    try:
        yield
    except BaseException:
        if new and os.environ.get("RANK", "0") == "0" and {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
        raise


class Experiment:
    """One experiment's files.

    Args:
        task: s3prl's name of the run, the prefix of TensorBoard's keys.
        constants: what every checkpoint holds besides the state (Args, Config, ...).
    """

    def __init__(self, folder: Path, task: str, constants: Mapping[str, Any]):
        self.folder, self.task, self.constants = folder, task, dict(constants)
        self._events: Events | None = None

    def note(self, line: str) -> None:
        """A line in log.log. Only the leader process writes, here and below."""
        if not parallel.is_leader():
            return
        path = self.folder / "log.log"
        with writing(path), open(path, "a+b") as log:
            _drop_torn_line(log)
            log.write(f"{line}\n".encode())

    def log(self, split: str, key: str, value: float, step: int) -> None:
        """One value, in log.log and, where it is finite, for TensorBoard."""
        self.log_steps(split, key, [(step, value)])

    def show_result(self, split: str, values: Mapping[str, float], step: int) -> None:
        """Values of an evaluation for TensorBoard, beside those of training, which stay."""
        if not parallel.is_leader():
            return
        events = Events(self.folder, None)
        for name, value in values.items():
            self._show(events, f"{split}-{name}", [(step, value)])
        events.close()

    def _show(self, events: Events, name: str, points: Sequence[tuple[int, float]]) -> None:
        for step, value in points:
            if math.isfinite(value):
                events.add(f"{self.task}/{name}", value, step)

    def log_steps(self, split: str, key: str, points: Sequence[tuple[int, float]]) -> None:
        """Values of several steps, as :meth:`log` does, in one write."""
        if not points or not parallel.is_leader():
            return
        if self._events is None:
            self._events = Events(self.folder, points[0][0])
        self._show(self._events, f"{split}-{key}", points)
        self.note("\n".join(f"{split} {key} at step {step}: {value}" for step, value in points))

    def close(self) -> None:
        """Close TensorBoard's events."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def resume_after(self, past: Checkpoint) -> tuple[dict[str, Any], bool]:
        """Restore the folder to its state after a checkpoint's steps, and say which options were changed.

        Partial files of a killed process are removed, and checkpoints of later steps are moved aside: this training
        will write its own. ``dev-best.ckpt`` may be of a later step than the checkpoint if the process was killed
        between writing the two; the one that the checkpoint names is restored. If that is gone, an unchanged training
        will reach the later one again, and one with changed options selects from its own steps.

        Returns:
            The best step so far to resume with, and whether options were changed.
        """
        changed = differences(past.content["Config"], self.constants["Config"])
        for phrase in changed:
            say(f"options changed at step {past.step}: {phrase}")
            self.note(f"Options changed at step {past.step}: {phrase}")
        best = dict(past.content.get("Best", NOTHING))
        if parallel.is_leader():
            with writing(self.folder):
                clear_leftovers(self.folder)
                best = self._restored(past.path, past.step, best, bool(changed))
                self._put_aside([path for number, path in steps_of(self.folder) if number > past.step])
        return parallel.gather(best)[0], bool(changed)

    def _restored(self, checkpoint: Path, step: int, best: dict[str, Any], changed: bool) -> dict[str, Any]:
        path = self.folder / BEST
        stored = read_checkpoint(path) if path.is_file() else None
        if (NOTHING if stored is None else stored.get("Best")) == best:
            return best
        for other in (checkpoint, checkpoint.with_name(BEST), checkpoint.with_name(f"states-{best['step']}.ckpt")):
            if other.is_file() and (content := read_checkpoint(other)).get("Best") == best == _of_itself(content):
                save_checkpoint(path, content)
                return best
        if stored is not None and int(stored["Step"]) > step and not changed:
            return best
        self._put_aside([path] if stored is not None else [])
        if best != NOTHING:
            say(f"{path.name} (step {best['step']}) is missing; it will be reselected from the remaining steps")
        return dict(NOTHING)

    def _put_aside(self, paths: list[Path]) -> None:
        if paths:
            aside = new_previous(self.folder)
            for path in paths:
                path.rename(aside / path.name)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """A checkpoint of this content, besides what all of them hold."""
        if parallel.is_leader():
            save_checkpoint(self.folder / name, {**self.constants, **content})

    def take_over(self, name: str, content: Mapping[str, Any]) -> None:
        """Another experiment's checkpoint, with what this one's say of themselves."""
        save_checkpoint(self.folder / name, {**content, **self.constants})

    def write_states(self, content: Mapping[str, Any], keep: int) -> None:
        """``states-<step>.ckpt``; of these the last ``keep`` stay."""
        self.write(f"states-{content['Step']}.ckpt", content)
        if parallel.is_leader():
            for _, path in steps_of(self.folder)[:-keep]:
                path.unlink()


def write_yaml(folder: Path, args: argparse.Namespace, config: Mapping[str, Any]) -> None:
    """``args_<time>.yaml`` and ``config_<time>.yaml``, as s3prl does."""
    clear_leftovers(folder)
    tag = time.strftime("%Y-%m-%d-%H-%M-%S")
    for name, content in (("args", vars(args)), ("config", config)):
        write_text(folder / f"{name}_{tag}.yaml", yaml.safe_dump(dict(content), sort_keys=False))


def _of_itself(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """A checkpoint's best step if that is the checkpoint itself."""
    best = content.get("Best")
    return best if isinstance(best, dict) and best.get("step") == content.get("Step") else None


def _drop_torn_line(log: BinaryIO, longest: int = 1 << 16) -> None:
    """Remove an incomplete last line (killed process, full disk), which could pass for a complete one."""
    size = log.seek(0, os.SEEK_END)
    start = log.seek(max(0, size - longest))
    if not (tail := log.read()).endswith(b"\n"):
        log.truncate(start + tail.rfind(b"\n") + 1)
    log.seek(0, os.SEEK_END)
