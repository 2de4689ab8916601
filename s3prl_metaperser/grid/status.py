"""The state of a grid's cells, as text and as plain data; without torch."""

from __future__ import annotations

from collections import Counter
from typing import Any

from s3prl_metaperser.grid.cells import Cell
from s3prl_metaperser.grid.opened import OpenedGrid
from s3prl_metaperser.grid.results import ERROR, LOG, STATES, Standing
from s3prl_metaperser.grid.stages import missing, stages


def status_report(opened: OpenedGrid) -> dict[str, Any]:
    """State of every cell.

    Returns:
        ``grid``, ``results``, ``counts`` by state, and ``cells``, each with its axes, ``folder``, ``identity``,
        ``state``, and where there is one ``error`` (the first line) or ``note``.
    """
    cells = []
    for cell in opened.cells:
        standing = opened.results.standing(cell)
        entry = {
            "corpus": cell.corpus,
            "upstream": cell.upstream.label,
            "scope": cell.scope,
            "system": cell.system,
            **cell.axes,
            "protocol": cell.protocol,
            "seed": cell.seed,
            **({} if cell.corpus_seed is None else {"corpus_seed": cell.corpus_seed}),
            "data": cell.along("data"),
            "tested": cell.tested,
            "folder": str(opened.results.of(cell)),
            "identity": cell.identity,
            "state": standing.state,
        }
        entry |= {"begun": True} if standing.begun else {}
        entry |= {"error": standing.error} if standing.error else {}
        entry |= {"note": standing.note} if standing.note else {}
        cells.append(entry)
    counts = Counter(entry["state"] for entry in cells)
    return {
        "grid": str(opened.grid.path),
        "results": str(opened.results.folder),
        "counts": {state: counts[state] for state in STATES},
        "cells": cells,
    }


def format_status(report: dict[str, Any]) -> str:
    """The report as text: one line per system, then running and failed cells."""
    total = len(report["cells"])
    counts = ", ".join(f"{count} {state}" for state, count in report["counts"].items())
    lines = [f"{report['grid']}: {total} cells in {report['results']}: {counts}"]
    blocks: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for entry in report["cells"]:
        block = f"{entry['corpus']}, {entry['upstream']} ({entry['scope']}), {entry['data']}"
        blocks.setdefault(block, {}).setdefault(", ".join(filter(None, (entry["system"], entry["tested"]))), []).append(
            entry
        )
    for block, rows in blocks.items():
        lines += ["", block]
        lines += [f"  {row:<32} {_folds(entries)}" for row, entries in rows.items()]
    running = [entry for entry in report["cells"] if entry["state"] == "running"]
    failed = [entry for entry in report["cells"] if entry["state"] == "failed"]
    noted = Counter((entry["state"] == "done", entry["note"]) for entry in report["cells"] if "note" in entry)
    lines += [""] if running or failed or noted else []
    lines += [f"running: {entry['folder']}/{LOG}" for entry in running]
    for entry in failed:
        lines += [f"failed:  {entry['folder']}/{ERROR}", f"         {entry['error']}"]
    lines += [f"{n} result(s) {'count, but' if done else 'do not count:'} {note}" for (done, note), n in noted.items()]
    return "\n".join(lines)


def dry_run(opened: OpenedGrid, stage: str | None = None) -> str:
    """What ``metaperser run`` would do, as text."""
    lines = []
    if stage != "system":
        wanted = stages([cell for cell in opened.cells if opened.results.standing(cell).state != "done"])
        lacking = missing(wanted, opened.results.fingerprints)
        for one in wanted:
            if stage in (None, one.kind):
                lines.append(f"{'make' if one in lacking else 'exists':<8} {one.what}, for {len(one.cells)} cell(s)")
    if stage in (None, "system"):
        lines += [_would(cell, opened.results.standing(cell)) for cell in opened.cells]
    return "\n".join(lines)


def _would(cell: Cell, standing: Standing) -> str:
    verbs = {"done": "done", "running": "running", "failed": "again", "missing": "resume" if standing.begun else "run"}
    return f"{verbs[standing.state]:<8} {cell}"


def _folds(entries: list[dict[str, Any]]) -> str:
    counts = Counter(entry["state"] for entry in entries)
    others = [f"{counts[state]} {state}" for state in STATES if state != "done" and counts[state]]
    begun = sum(entry.get("begun", False) for entry in entries)
    others += [f"{begun} of these started"] if begun else []
    return f"{counts['done']}/{len(entries)} done" + (f" ({', '.join(others)})" if others else "")
