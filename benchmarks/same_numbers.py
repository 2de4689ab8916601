"""Whether two folders of results hold the same numbers, to the bit: what a change of the code must not touch.

    python benchmarks/same_numbers.py BEFORE AFTER

Compares every ``result_*.json`` below both folders by its place: the cell, classes, raters, counts, each episode
(support, query, probabilities, ticks), metrics that stand in both, the selected step, the tuned choice and the
trajectory. Versions, seconds, memory, the schema and the hash of the code are left out, and so are intervals where the
schemas differ: those of schema 3 come from random draws. The tensors of every ``*.safetensors`` below both
(initialisations, exported models) are compared by place as well.
``benchmarks/reference.sh OUT`` makes such a folder. The exit status is the number of results and files that differ (at
most 99).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

#: Sections that have to be equal where both sides hold them.
NUMBERS = ("classes", "raters", "counts", "episodes", "metrics", "selected_step", "tuned", "trajectory", "engine")
#: Hashes of what went in and of the parameters that came out.
HASHES = ("corpus", "features", "upstream_checkpoint", "parameters", "episodes")


def by_cell(folder: Path) -> dict[str, dict[str, Any]]:
    """Top folder and what identifies a cell -> its content; two files of one cell are an error."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("result_*.json")):
        place = path.relative_to(folder)
        if any(part.startswith("previous") for part in place.parts):
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        names = ("corpus", "upstream", "scope", "scenario", "fold", "system", "split", "shots", "protocol")
        key = " ".join([place.parts[0], *(str(content["cell"][name]) for name in names)])
        if key in found:
            raise SystemExit(f"{place}: a second result of the cell {key}")
        found[key] = content
    return found


def without_intervals(content: dict[str, Any]) -> dict[str, Any]:
    """A result with the means of its metrics alone."""
    return {**content, "metrics": {name: span["mean"] for name, span in content["metrics"].items()}}


def differences(before: Any, after: Any, where: str) -> list[str]:
    """Paths of values that differ; dictionaries are compared on their common keys."""
    if isinstance(before, dict) and isinstance(after, dict):
        missing = [f"{where}.{key} is gone" for key in before.keys() - after.keys()]
        return missing + [
            text
            for key in before.keys() & after.keys()
            for text in differences(before[key], after[key], f"{where}.{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            t for i, (a, b) in enumerate(zip(before, after, strict=True)) for t in differences(a, b, f"{where}[{i}]")
        ]
    return [] if before == after else [f"{where}: {str(before)[:60]} -> {str(after)[:60]}"]


def different_tensors(before: Path, after: Path) -> tuple[int, list[str]]:
    """How many files of tensors stand in both folders, and those that differ, with what."""
    files = sorted({str(path.relative_to(before)) for path in before.rglob("*.safetensors")})
    both = [place for place in files if (after / place).is_file()]
    wrong = []
    for place in both:
        old, new = load_file(before / place), load_file(after / place)
        names = [name for name in old.keys() | new.keys() if not _equal(old.get(name), new.get(name))]
        if names:
            wrong.append(f"{place}: {', '.join(sorted(names)[:3])}")
    return len(both), wrong


def _equal(old: np.ndarray | None, new: np.ndarray | None) -> bool:
    if old is None or new is None:
        return False
    return old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes()


def main(arguments: list[str] | None = None) -> int:
    """Compare, print, and return how many results differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--part", action="store_true", help="AFTER holds only some of the cells: compare those")
    asked = parser.parse_args(arguments)
    before, after = by_cell(asked.before), by_cell(asked.after)
    if asked.part:
        before = {key: content for key, content in before.items() if key in after}
    if not before:
        raise SystemExit(f"{asked.after}: none of the cells of {asked.before}")
    wrong, probabilities = 0, 0
    for key, old in sorted(before.items()):
        if key not in after:
            print(f"DIFFERENT {key}: no result")
            wrong += 1
            continue
        new = after[key]
        if old["schema"] != new["schema"]:
            old, new = without_intervals(old), without_intervals(new)
        told = [t for name in NUMBERS for t in differences(old.get(name), new.get(name), name)]
        told += [t for h in HASHES for t in differences(old["hashes"].get(h), new["hashes"].get(h), f"hashes.{h}")]
        told += differences(old["cell"], new["cell"], "cell")
        probabilities += sum(len(row) for episode in old["episodes"] for row in episode["probabilities"])
        if told:
            wrong += 1
            print(f"DIFFERENT {key}")
            for text in told[:5]:
                print(f"    {text}")
    more = sorted(after.keys() - before.keys())
    equal = len(before) - wrong
    print(
        f"{len(before)} results, {probabilities:,} probabilities: {equal} equal to the bit, {wrong} different"
        + (f"; {len(more)} only after: {', '.join(more[:3])}" if more else "")
    )
    files, unequal = different_tensors(asked.before, asked.after)
    for text in unequal:
        print(f"DIFFERENT {text}")
    if files:
        print(f"{files} files of tensors in both: {files - len(unequal)} equal to the bit, {len(unequal)} different")
    return min(wrong + len(unequal), 99)


if __name__ == "__main__":
    sys.exit(main())
