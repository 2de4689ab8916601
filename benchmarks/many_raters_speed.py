#!/usr/bin/env python
"""What many raters cost: seconds to the first outer step, of a step, and of testing 100 raters from one training.

    OMP_NUM_THREADS=1 python benchmarks/many_raters_speed.py [--features 1x240 13x768]

Ratings and features are synthetic and in memory: crowds of CREMA-D's size (2,443 raters, 7,442 utterances) and of the
demo crowd's (800 and 3,600). 100 raters are tested and 50 validate; an outer step has 32 raters, K=16 and second-order
gradients; 100 raters are tested in ten episodes each, after 50 steps of adaptation. Each crowd runs in a process of its
own. Seconds are of the processor, since other work on a machine changes the others.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import growth

#: Raters, utterances, ratings of each rater.
SMALL, LARGE = (800, 3600, 40), (2443, 7442, 30)
STEPS = 60
OPTIONS: dict[str, Any] = {
    "runner": {"total_steps": 1, "eval_step": 1},
    "downstream_expert": {
        "datarc": {"pools": {"test": 100, "validation": 50, "folds": 1, "minimum": 24}},
        "metarc": {"initialisation": True, "raters_per_step": 32, "shots": 16, "derivative_annealing": False},
        "evalrc": {"shots": 16, "queries": 24, "seeds": 10, "validation_seeds": 2, "steps": 50, "trajectory": []},
    },
}
#: What is tested -> the system, and what is changed for it.
TESTED: dict[str, tuple[str, dict[str, Any]]] = {
    "Meta-PerSER": ("Meta-PerSER", {}),
    "Linear-Few, SGD": ("Linear-Few", {"fewrc": {"optimizer": "SGD", "lr": 0.03}}),
    "Linear-Few, AdamW": ("Linear-Few", {}),
    "Linear-Zero+map": ("Linear-Zero+map", {}),
}
FIRST = next(iter(TESTED))
#: Cells that are open in this process, by what is tested.
HELD: dict[str, Any] = {}


def trained(name: str, layers: int, corpus, folder: Path) -> None:
    """Split, label tables, initialisation, validation, the first outer step, its validation and its checkpoint."""
    from s3prl_metaperser.config.options import merged
    from s3prl_metaperser.run.training import train

    system, changes = TESTED[name]
    own = folder / name
    own.mkdir()
    changes = {**changes, "datarc": {"cache_dir": str(folder / "cache")}}  # one initialisation
    changes["modelrc"] = {"standardize": layers == 1}  # as auto has it of upstreams with learned weights
    HELD[name] = growth.opened(corpus, own, system, merged(OPTIONS, {"downstream_expert": changes}), layers)
    train(HELD[name])


def outer_steps(corpus, folder: Path) -> None:
    """Draws batches, gathers features, and updates."""
    from s3prl_metaperser.run.outer_loop import OuterLoop, training_batches

    system, task = HELD[FIRST].system, HELD[FIRST].task
    loop = OuterLoop(system, system.initialise(task), task)
    for _, batch in training_batches(system.options, task, 0, STEPS):
        loop.update(batch)


def tested(name: str, corpus, folder: Path) -> None:
    """From a checkpoint to a result file."""
    from s3prl_metaperser.run.experiment import BEST
    from s3prl_metaperser.run.opened import Checkpoint
    from s3prl_metaperser.run.testing import evaluate

    evaluate(HELD.pop(name), Checkpoint.read(folder / name / BEST))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", nargs="+", default=["1x240", "13x768"], help="layers x size [1x240 13x768]")
    for shape in parser.parse_args().features:
        layers, size = map(int, shape.split("x"))
        of_step = {}
        for raters, utterances, each in (SMALL, LARGE):
            what: dict[str, Any] = {"first step": functools.partial(trained, FIRST, layers), "steps": outer_steps}
            if raters == SMALL[0]:
                for name in TESTED:
                    what |= {f"train {name}": functools.partial(trained, name, layers)} if name != FIRST else {}
                    what |= {f"test {name}": functools.partial(tested, name)}
            found = growth.measured(what, (raters, utterances, each), size)
            of_step[raters] = found["steps"] / STEPS
            print(
                f"[{layers}, {size}] {raters} raters, {raters * each} ratings: first outer step after "
                f"{found['first step']:.1f} s; a step {1000 * of_step[raters]:.1f} ms; peak {found['MiB']:.0f} MiB"
            )
            for name in TESTED:
                if (seconds := found.get(f"test {name}")) is not None:
                    print(f"[{layers}, {size}] 100 raters tested, 1,000 episodes, {name}: {seconds:.1f} s", flush=True)
        ratio = of_step[LARGE[0]] / of_step[SMALL[0]]
        print(f"[{layers}, {size}] a step at {LARGE[0]} raters is {ratio:.2f} of one at {SMALL[0]}", flush=True)


if __name__ == "__main__":
    main()
