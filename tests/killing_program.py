"""Kills a run where it writes, and lets the next run go on; started by tests/test_crashes.py.

Arguments: a cache with the demo corpus, an empty folder, and where to kill a run, where the next one, and so on; or
``all``: one run at each place where a whole one writes. A place is named like ``in place: dev``, or, for the second of
this name in a run, ``in place: dev #2``. Each run is a fork of this process, in which everything is imported, so that a
kill costs no more than what is done again. The last line printed is a JSON list of what came of each series of kills.
"""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from s3prl_metaperser.s3prl_stack import compat

compat.apply()

import torch
import tqdm
from small_demo import stored, train_command
from small_grid import VOLATILE

from s3prl_metaperser.run.experiment import Experiment
from s3prl_metaperser.s3prl_plugin import launcher, runner  # noqa: F401 (imported before the forks)
from s3prl_metaperser.storage.checkpoints import read_checkpoint
from s3prl_metaperser.storage.events import Events

torch.set_num_threads(1)
tqdm.tqdm.monitor_interval = 0  # no thread, so that forks are safe

#: Evaluations, checkpoints and lines in the log at different steps.
STEPS = ("runner.eval_step=3", "runner.save_step=4", "runner.log_step=5", "runner.max_keep=2")


class Places:
    """Counts the places where something is written, and kills this process at one of them."""

    def __init__(self, target: str):
        self.target, self.seen = target, []

    def at(self, what: str, path: object, tear=lambda: None) -> None:
        above = Path(path).parts[Path(path).parts.index("cache") + 1] if "cache" in Path(path).parts else None
        name = f"{what} {above or re.split('[-_.]', Path(path).name.lstrip('.'))[0]}"
        self.seen.append(f"{name} #{1 + sum(each.startswith(f'{name} #') for each in self.seen)}")
        if self.seen[-1].removesuffix(" #1") == self.target.removesuffix(" #1"):
            tear()
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        fsync, replace, note, write = os.fsync, os.replace, Experiment.note, Events._write

        def watched_fsync(handle):
            path = os.readlink(f"/proc/self/fd/{handle}")
            self.at("half written:", path, lambda: os.truncate(path, os.path.getsize(path) // 2))
            fsync(handle)

        def watched_replace(source, target):
            self.at("not in place:", target)
            replace(source, target)
            self.at("in place:", target)

        def watched_note(experiment, line):
            log = experiment.folder / "log.log"
            half = line[: len(line) // 2].encode()
            self.at("half a line:", log, lambda: log.open("ab").write(half))
            note(experiment, line)

        def watched_write(events, **content):
            self.at(
                "half an event:", events._path, lambda: (events._file._writer.write(b"\1\2\3"), events._file.flush())
            )
            write(events, **content)

        os.fsync, os.replace, Experiment.note, Events._write = (
            watched_fsync,
            watched_replace,
            watched_note,
            watched_write,
        )


def chain(folder: Path) -> None:
    for arguments in ([*train_command(folder, options=STEPS), "-a"], ["-m", "evaluate", "-e", str(folder)]):
        if launcher.main(arguments) != 0:
            raise SystemExit(3)


def forked(folder: Path, target: str = "") -> tuple[int, list[str]]:
    """The status with which a run ended, and the places that it passed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.environ["METAPERSER_CACHE"] = str(folder.parent / "cache")
        status = 4
        try:
            places = Places(target)
            places.watch()
            chain(folder)
            os.write(writing, json.dumps(places.seen).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), json.loads(said) if said else []


def prepared(base: Path, work: Path) -> Path:
    """An experiment folder to be, beside a cache of its own with the corpus alone."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "cache").mkdir(parents=True)
    (work / "cache" / "demo").symlink_to(base / "demo")
    return work / "exp"


def outcome(folder: Path) -> dict:
    """What a run must end with, whatever happened on the way."""
    result = {k: v for k, v in stored(folder / "result_test.json").items() if k not in VOLATILE}
    checkpoints = {}
    for name in ("dev-best.ckpt", "states-12.ckpt", "states-8.ckpt"):
        content = read_checkpoint(folder / name)
        moments = [tensor.tolist() for entry in content["Optimizer"]["state"].values() for tensor in entry.values()]
        tensors = {k: v.tolist() for part in ("Downstream", "InnerRates") for k, v in content[part].items()}
        checkpoints[name] = [content["Step"], content["Best"], content["Epoch"], content["Losses"], moments, tensors]
    cache = folder.parent / "cache"
    found = [p.relative_to(cache) for p in cache.rglob("*") if p.suffix in (".safetensors", ".json")]
    kept = sorted(str(p) for p in found if p.parts[0] != "audio")  # named by where the corpus lies
    lines = (folder / "log.log").read_text().splitlines()
    logged = sorted({line for line in lines if line.startswith(("train loss", "dev loss", "test "))})
    return {"result": result, "checkpoints": checkpoints, "stored": kept, "logged": logged}


def differences(one, other, key: str = "") -> list[str]:
    """Where two outcomes differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for name in one for found in differences(one[name], other[name], f"{key}.{name}")]
    return [] if one == other else [key]


def main() -> None:
    base, work, wanted = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    whole = prepared(base, work / "whole")
    status, places = forked(whole)
    assert status == 0, "the undisturbed run failed"
    reference, found = outcome(whole), []
    for series in [[place] for place in places] if wanted == ["all"] else [wanted]:
        folder = prepared(base, work / "killed")
        killed = [forked(folder, place)[0] for place in series]
        again, _ = forked(folder)
        differs = differences(reference, outcome(folder)) if again == 0 else ["it did not end"]
        left = [str(path) for path in folder.parent.rglob(".*.part")]
        found.append({"places": series, "killed": killed, "again": again, "differs": differs, "left": left})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
