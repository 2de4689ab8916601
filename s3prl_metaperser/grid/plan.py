"""What a grid will take, before anything runs: cells, what they share, disk, and time as far as it was measured.

Time comes from the cells that are done in the same folder of results, else from the figures of ``measured.yaml`` beside
this file, else, with ``-f``, from the seconds of one training step that the user gives. Without any of these nothing is
said of it.
"""

from __future__ import annotations

import functools
import shutil
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.grid import disk, effort
from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.grid.opened import OpenedGrid
from s3prl_metaperser.grid.results import CELL, STATES, read_small
from s3prl_metaperser.grid.stages import Stage, stages
from s3prl_metaperser.run.workspace import open_corpus

#: (upstream, scope, system) -> seconds; ``initialisation`` in place of a system.
Seconds = Mapping[tuple[str, str, str], float]


def plan_report(opened: OpenedGrid, seconds_per_step: float | None = None) -> dict[str, Any]:
    """The plan, as plain data.

    Args:
        seconds_per_step: of the upstream's forward and backward pass over 32 utterances, on the device to be used.

    Returns:
        ``grid``, ``results``; ``cells``: how many, by scope and by state; ``stages``: for ``features`` and
        ``initialisation`` how many ``needed`` by cells that are not done and how many of these ``exist``; ``disk``:
        bytes of ``results`` and ``cache`` to come (None where a size is not on record) and ``free``; ``time``: for
        each scope ``cells`` to run, ``estimated`` ones, their ``seconds`` together, and the ``basis`` of this.
    """
    standing = [opened.results.standing(cell) for cell in opened.cells]
    todo = [cell for cell, how in zip(opened.cells, standing, strict=True) if how.state != "done"]
    needed = stages(todo)
    missing = [stage for stage in needed if not stage.exists(opened.results.fingerprints.get(stage.cells[0].corpus))]
    return {
        "grid": str(opened.grid.path),
        "description": opened.grid.description,
        "results": str(opened.results.folder),
        "cells": {
            "all": len(opened.cells),
            "scopes": dict(Counter(cell.scope for cell in opened.cells)),
            "states": {state: sum(how.state == state for how in standing) for state in STATES},
        },
        "stages": {kind: _stages(kind, needed, missing) for kind in ("features", "initialisation")},
        "disk": _disk(opened, todo, missing),
        "time": {
            scope: _time([cell for cell in todo if cell.scope == scope], missing, opened, seconds_per_step)
            for scope in sorted({cell.scope for cell in opened.cells})
        },
    }


def format_plan(report: Mapping[str, Any]) -> str:
    """The plan as text."""
    cells, space = report["cells"], report["disk"]
    scopes = ", ".join(f"{count} {scope}" for scope, count in cells["scopes"].items())
    states = ", ".join(f"{count} {state}" for state, count in cells["states"].items())
    lines = [f"{report['grid']}: {report['description']}" if report["description"] else report["grid"]]
    lines += [f"cells            {cells['all']} ({scopes}); in {report['results']}: {states}"]
    for kind, found in report["stages"].items():
        lines.append(f"{kind:<16} {found['needed']} needed, {found['exist']} of them known to exist")
    lines += [
        f"disk, results    {_gigabytes(space['results'])}; {space['free'] / 1e9:.1f} GB are free there",
        f"disk, cache      {_gigabytes(space['cache'])}",
    ]
    for scope, found in report["time"].items():
        lines.append(f"time, {scope:<10} {_hours(found)}")
        lines += [f"{'':<16} {line}" for line in found["basis"]]
    return "\n".join(lines)


def _stages(kind: str, needed: Sequence[Stage], missing: Sequence[Stage]) -> dict[str, int]:
    mine = [stage for stage in needed if stage.kind == kind]
    return {"needed": len(mine), "exist": len([stage for stage in mine if stage not in missing])}


def _disk(opened: OpenedGrid, todo: Sequence[Cell], missing: Sequence[Stage]) -> dict[str, Any]:
    utterances = {
        name: len(open_corpus(data).utterances)
        for name, data in opened.corpora().items()
        if name in opened.results.fingerprints
    }
    cache: list[int | None] = []
    for stage in missing:
        cell = stage.cells[0]
        if stage.kind == "initialisation":
            cache.append(disk.initialisation_bytes(cell))
        elif cell.finetuned or cell.corpus in utterances:
            cache.append(disk.features_bytes(cell, utterances.get(cell.corpus, 0)))
        else:
            cache.append(None)
    there = opened.results.folder.resolve()
    while not there.exists():
        there = there.parent
    return {
        "results": _sum([disk.cell_bytes(cell) for cell in todo]),
        "cache": _sum(cache),
        "free": shutil.disk_usage(there).free,
    }


def _time(
    cells: Sequence[Cell], missing: Sequence[Stage], opened: OpenedGrid, seconds_per_step: float | None
) -> dict[str, Any]:
    """Seconds of the cells of one scope and of the initialisations that they need."""
    measured, device = _measured(opened.results.folder)
    shared = [
        stage.cells[0]
        for stage in missing
        if stage.kind == "initialisation" and cells and stage.cells[0].scope == cells[0].scope
    ]
    seconds, estimated, basis = 0.0, 0, set()
    wanted = [(cell, "initialisation") for cell in shared] + [(cell, cell.system) for cell in cells]
    for cell, what in wanted:
        key = (cell.upstream.label, cell.scope, what)
        if key in measured:
            found, source = measured[key], f"cells done in {opened.results.folder}, on {device}"
        elif key in _shipped()[0] and cell.corpus == "demo" and cell.as_shipped():
            found, source = _shipped()[0][key], _shipped()[1]
        elif cell.finetuned and seconds_per_step is not None:
            passes = effort.initialisation(cell) if what == "initialisation" else _passes(cell)
            found = passes * seconds_per_step
            source = f"{seconds_per_step:g} s for a forward and backward pass over {effort.UNIT} utterances, as given"
        else:
            continue
        seconds += found
        estimated += what != "initialisation"
        basis.add(source)
    lines = [f"from {source}" for source in sorted(basis)]
    if estimated < len(cells):
        lines.append(f"{len(cells) - estimated} cell(s) are not estimated: no step time is known for them.")
        if cells[0].finetuned:
            lines.append(
                f"Measure one training step of the upstream on {effort.UNIT} utterances on your GPU and give it: "
                "--seconds-per-step S."
            )
    return {"cells": len(cells), "estimated": estimated, "seconds": seconds, "basis": lines}


def _passes(cell: Cell) -> float:
    return effort.training(cell) + effort.evaluation(cell)


def _measured(folder: Path) -> tuple[Seconds, str]:
    """Mean seconds of the cells that are done in a folder, on the device that ran most of them."""
    found: dict[str, dict[tuple[str, str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob(f"*/*/*/*/{CELL}")):
        content = read_small(path) or {}
        done, definition = content.get("done"), content.get("definition", {})
        if not done or done.get("resumed_at"):
            continue
        times, where = done["seconds"], (content.get("upstream", ""), definition.get("scope", ""))
        own = times["preparation"] + times["training"] + times["evaluation"]
        found[done["device"]][(*where, definition.get("system", ""))].append(own)
        if times.get("initialisation"):
            found[done["device"]][(*where, "initialisation")].append(times["initialisation"])
    if not found:
        return {}, ""
    device = max(found, key=lambda name: sum(map(len, found[name].values())))
    return {key: statistics.median(values) for key, values in found[device].items()}, device


@functools.cache
def _shipped() -> tuple[Seconds, str]:
    """Figures that come with the project."""
    content = read_yaml(Path(__file__).with_name("measured.yaml"))
    found = {(row["upstream"], row["scope"], row["system"]): row["seconds"] for row in content["seconds"]}
    return found, content["from"]


def _sum(sizes: Sequence[int | None]) -> int | None:
    return None if any(size is None for size in sizes) else sum(sizes)


def _gigabytes(size: int | None) -> str:
    if size is None:
        return "not estimated: the size of an upstream or of the corpus is not known"
    return f"{size / 1e9:.1f} GB to come" if size >= 1e8 else f"{size / 1e6:.0f} MB to come"


def _hours(found: Mapping[str, Any]) -> str:
    if not found["cells"]:
        return "nothing is left to run"
    if not found["estimated"]:
        return "not estimated"
    seconds = found["seconds"]
    text = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    return f"{text} on one device, for {found['estimated']} of {found['cells']} cells"
