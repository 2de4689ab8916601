"""Two processes that start the same command at the same moment, command after command; started by tests/test_locks.py.

Argument: an empty folder. Both processes of a pair are forks of this one. They meet where they ask for the command's
lock; the one that gets it goes on when the other has been refused, or has begun to wait. Prints a JSON object: command
-> what became of each process, and what the folder held afterwards.
"""

import contextlib
import io
import json
import multiprocessing
import os
import sys
from pathlib import Path

import torch
import tqdm
from small_demo import train_command
from small_grid import write_grid

from s3prl_metaperser import cli
from s3prl_metaperser.corpora.iemocap import LABEL_SET
from s3prl_metaperser.listener.ratings_file import RatingsFile
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.storage import locks

torch.set_num_threads(1)
tqdm.tqdm.monitor_interval = 0  # no thread, so that forks are safe
CONTEXT = multiprocessing.get_context("fork")
SAVES = 200


def meet(barrier, refused):
    """Make the first lock that is asked for a meeting place."""
    acquired, first = locks._acquired, True

    def meeting(lock, what, wait):
        nonlocal first
        if not first:
            return acquired(lock, what, wait)
        first = False
        barrier.wait(120)
        try:
            release = acquired(lock, what, wait)
        except locks.Held:
            refused.set()
            raise
        refused.wait(0.2 if wait else 120)
        return release

    locks._acquired = meeting


def child(queue, barrier, refused, action):
    said = io.StringIO()
    meet(barrier, refused)
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = action()
        except BaseException as error:
            status, _ = 99, said.write(f"{type(error).__name__}: {error}\n")
    queue.put({"status": status, "said": said.getvalue().strip().splitlines()[-1:], "process": os.getpid()})


def both(action):
    queue, barrier, refused = CONTEXT.Queue(), CONTEXT.Barrier(2), CONTEXT.Event()
    pair = [CONTEXT.Process(target=child, args=(queue, barrier, refused, action)) for _ in range(2)]
    for process in pair:
        process.start()
    ended = sorted((queue.get(timeout=240) for _ in pair), key=lambda one: one["status"])
    for process in pair:
        process.join()
    return ended


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def save_many(path, who):
    table = RatingsFile(path, path.parent, LABEL_SET, who)
    for number in range(SAVES):
        table.save(f"{who}{number}.wav", ("happy",))


def main():
    work = Path(sys.argv[1])
    corpus, exp, model = work / "corpus", work / "exp", work / "model"
    demo = Path(os.environ["METAPERSER_CACHE"]) / "demo" / "paper-120-seed0"
    grid, ratings, results = write_grid(work, systems={"frozen": ["Linear-Zero"]}), work / "r.csv", work / "results"

    def ran(*arguments):
        return lambda: cli.main([str(each) for each in arguments])

    def trained(*arguments):
        return lambda: launcher.main([str(each) for each in arguments])

    training = train_command(exp, "-v", "Linear-Few")
    trained("-d", "personalized_emotion", *train_command(work / "first", "-v", "Linear-Zero"))()  # fills the cache
    found = {}
    found["demo-corpus"] = both(ran("demo-corpus", corpus, "--utterances", 10))
    found["train"] = both(trained(*training))
    found["train -a"] = both(trained(*training, "-a"))
    found["evaluate"] = both(trained("-m", "evaluate", "-e", exp))
    found["train anew"] = both(trained(*training))
    found["run"] = both(ran("run", grid, "--device", "cpu"))
    found["report"] = both(ran("report", results, "--out", work / "report"))
    found["export"] = both(ran("export", exp, "--out", model))
    clips = sorted(demo.rglob("*.wav"))[:6]
    labels = [f"{path.relative_to(demo)},{'happy' if n % 2 else 'sad'}" for n, path in enumerate(clips)]
    ratings.write_text("\n".join(["file,label", *labels, ""]))
    adapting = ("--ratings", ratings, "--root", demo, "--folds", 0, "--out", work / "listener")
    found["adapt"] = both(ran("adapt", model, *adapting))
    found["predict"] = both(ran("predict", model, *clips[:2], "--csv", "--out", work / "predicted.csv"))
    saving = [CONTEXT.Process(target=save_many, args=(work / "own.csv", who)) for who in ("a", "b")]
    for process in saving:
        process.start()
    for process in saving:
        process.join()
    rows = (work / "own.csv").read_text().splitlines()[1:]
    print(json.dumps({"ended": found, "files": files(work), "rows": rows}))


if __name__ == "__main__":
    main()
