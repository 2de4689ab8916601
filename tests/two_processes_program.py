"""Two processes on one feature store, time and again; started by tests/test_crashes.py.

Arguments: an empty folder, rounds, and of how many of them one process is killed in its middle. Each process is a fork
of this one. Prints a JSON object: for each round how many utterances each process made, what its features hash to, and
the store's files.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
import tqdm

from s3prl_metaperser.corpora.base import Utterance
from s3prl_metaperser.corpora.contents import audio_hash
from s3prl_metaperser.upstream import store
from s3prl_metaperser.upstream.store import FeatureIdentity, PooledStore

torch.set_num_threads(1)
tqdm.tqdm.monitor_interval = 0  # no thread, so that forks are safe
store.SHARD_SIZE = 4
IDENTITY = FeatureIdentity("means", "0" * 64)


def pool(waves, utterances):
    time.sleep(0.002)
    return [torch.stack([w.mean(), w.std(), w.abs().max()])[None] for w in waves]


def utterances_in(folder: Path) -> list[Utterance]:
    found = []
    for number in range(18):
        path = folder / f"{number:02}.wav"
        noise = np.random.default_rng(number).normal(0, 0.1, 400 + 13 * number)
        soundfile.write(path, noise, 16000, subtype="FLOAT")
        found.append(Utterance(path.stem, path, "", "", (400 + 13 * number) / 16000))
    return found


def process(root: Path, utterances: list[Utterance], dies_after: int | None) -> tuple[int, int]:
    """A fork that makes the store; returns its id and a pipe to what it says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 1
    try:
        shards = 0
        write = PooledStore._write

        def counted(self, shard):
            nonlocal shards
            write(self, shard)
            shards += 1
            if shards == dies_after:
                os.kill(os.getpid(), signal.SIGKILL)

        PooledStore._write = counted
        keys = {u.id: audio_hash(u.path) for u in utterances}
        made = PooledStore(root, IDENTITY).make(utterances, keys, pool)
        values = PooledStore(root, IDENTITY).load(utterances, keys).values
        digest = hashlib.sha256(values.numpy().tobytes()).hexdigest()
        os.write(writing, json.dumps([made, digest]).encode())
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    work, rounds, killed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    utterances, found = utterances_in(work), []
    for number in range(rounds):
        root = work / f"round{number}"
        both = [
            process(root, utterances, dies_after=2 if number < killed and first else None) for first in (True, False)
        ]
        said = []
        for child, reading in both:
            with os.fdopen(reading, "rb") as pipe:
                text = pipe.read()
            said.append(json.loads(text) if text else None)
            os.waitpid(child, 0)
        files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}
        found.append({"said": said, "files": files})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
