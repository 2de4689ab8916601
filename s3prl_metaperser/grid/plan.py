"""What a grid will take, before anything runs: cells, what they share, disk, and time as far as it was measured.

Time comes from the cells that are done in the same folder of results, else from the figures of ``measured.yaml`` beside
this file, else, with ``-f``, from the seconds of one training step that the user gives. Without any of these no time is
stated.
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
from s3prl_metaperser.grid import cost
from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.grid.opened import OpenedGrid
from s3prl_metaperser.grid.results import CELL, STATES, read_small
from s3prl_metaperser.grid.stages import Stage, missing, stages

#: (upstream, scope, system), ``initialisation`` in place of a system.
Key = tuple[str, str, str]


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
    lacking = missing(needed, opened.results.fingerprints)
    count, left = (Counter(stage.kind for stage in some) for some in (needed, lacking))
    times = _Times(opened, seconds_per_step)
    return {
        "grid": str(opened.grid.path),
        "description": opened.grid.description,
        "results": str(opened.results.folder),
        "cells": {
            "all": len(opened.cells),
            "scopes": dict(Counter(cell.scope for cell in opened.cells)),
            "states": {state: sum(how.state == state for how in standing) for state in STATES},
        },
        "stages": {
            kind: {"needed": count[kind], "exist": count[kind] - left[kind]} for kind in ("features", "initialisation")
        },
        "disk": _disk(opened, todo, lacking),
        "time": {
            scope: times.of(
                [cell for cell in todo if cell.scope == scope],
                [s.cells[0] for s in lacking if s.kind == "initialisation" and s.cells[0].scope == scope],
            )
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
        lines.append(f"{kind:<16} {found['needed']} needed, {found['exist']} known to exist")
    lines += [
        f"disk, results    {_gigabytes(space['results'])}; {space['free'] / 1e9:.1f} GB free",
        f"disk, cache      {_gigabytes(space['cache'])}",
    ]
    for scope, found in report["time"].items():
        lines.append(f"time, {scope:<10} {_hours(found)}")
        lines += [f"{'':<16} {line}" for line in found["basis"]]
    return "\n".join(lines)


def _disk(opened: OpenedGrid, todo: Sequence[Cell], lacking: Sequence[Stage]) -> dict[str, int | None]:
    sizes = {"initialisation": cost.initialisation_bytes, "features": cost.features_bytes}
    folder = opened.results.folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return {
        "results": _sum([cost.cell_bytes(cell, opened.sizes(cell)) for cell in todo]),
        "cache": _sum([sizes[stage.kind](stage.cells[0], opened.sizes(stage.cells[0])) for stage in lacking]),
        "free": shutil.disk_usage(folder).free,
    }


class _Times:
    """Where seconds are known from."""

    def __init__(self, opened: OpenedGrid, seconds_per_step: float | None):
        self.opened, self.seconds_per_step = opened, seconds_per_step
        self.measured, self.device = _measured(opened.results.folder)

    def of(self, cells: Sequence[Cell], shared: Sequence[Cell]) -> dict[str, Any]:
        """Seconds of the cells of one scope, and of the initialisations that they need, one of whose cells is given."""
        seconds, estimated, basis = 0.0, 0, set()
        for cell, system in [*((cell, "initialisation") for cell in shared), *((cell, cell.system) for cell in cells)]:
            if (found := self._one(cell, system)) is not None:
                seconds += found[0]
                estimated += system != "initialisation"
                basis.add(found[1])
        lines = [f"from {source}" for source in sorted(basis)]
        if estimated < len(cells):
            lines.append(f"{len(cells) - estimated} cell(s) are not estimated: no step time is known for them.")
            if cells[0].finetuned:
                lines.append(
                    f"Measure one training step of the upstream on {cost.UNIT} utterances on your GPU and give it: "
                    "--seconds-per-step S."
                )
        return {"cells": len(cells), "estimated": estimated, "seconds": seconds, "basis": lines}

    def _one(self, cell: Cell, system: str) -> tuple[float, str] | None:
        """Seconds, and where they are from."""
        key = (cell.upstream.label, cell.scope, system)
        shipped, source, corpus = _shipped()
        if key in self.measured:
            return self.measured[key], f"cells done in {self.opened.results.folder}, on {self.device}"
        if key in shipped and cell.corpus == corpus and cell.as_shipped():
            return shipped[key], source
        if not cell.finetuned or self.seconds_per_step is None:
            return None
        sizes = self.opened.sizes(cell)
        passes = cost.initialisation_passes(cell) if system == "initialisation" else cost.passes(cell, sizes)
        source = f"{self.seconds_per_step:g} s per forward and backward pass over {cost.UNIT} utterances, as given"
        if sizes.utterances is None:
            source += f"; {sizes.raters} training raters assumed, since the corpus is not at hand"
        return passes * self.seconds_per_step, source


def _measured(folder: Path) -> tuple[Mapping[Key, float], str]:
    """Median seconds of the cells that are done in a folder, on the device that ran most of them."""
    found: dict[str, dict[Key, list[float]]] = defaultdict(lambda: defaultdict(list))
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
def _shipped() -> tuple[Mapping[Key, float], str, str]:
    """Figures that come with the project, where they are from, and the corpus that they are for."""
    content = read_yaml(Path(__file__).with_name("measured.yaml"))
    found = {(row["upstream"], row["scope"], row["system"]): row["seconds"] for row in content["seconds"]}
    return found, content["from"], content["corpus"]


def _sum(sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _gigabytes(size: int | None) -> str:
    if size is None:
        return "not estimated: the size of an upstream or of the corpus is not known"
    return f"{size / 1e9:.1f} GB to come" if size >= 1e8 else f"{size / 1e6:.0f} MB to come"


def _hours(found: Mapping[str, Any]) -> str:
    if not found["cells"]:
        return "nothing left to run"
    if not found["estimated"]:
        return "not estimated"
    seconds = found["seconds"]
    text = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    return f"{text} on one device, for {found['estimated']} of {found['cells']} cells"
