"""Whether two folders of results hold the same numbers, to the bit: what a change of the code must not touch.

    python benchmarks/same_numbers.py BEFORE AFTER

Compares every ``result_*.json`` below both folders by its place: the cell, classes, raters, counts, each episode
(support, query, probabilities, ticks), metrics that stand in both, the selected step, the tuned choice and the
trajectory. Versions, seconds, memory, the schema and the hash of the code are left out.
The exit status is the number of results that differ (at most 99).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

#: Sections that have to be equal where both sides hold them.
NUMBERS = ("classes", "raters", "counts", "episodes", "metrics", "selected_step", "tuned", "trajectory", "engine")
#: Hashes of what went in and of the parameters that came out.
HASHES = ("corpus", "features", "upstream_checkpoint", "parameters", "episodes")


def found_below(folder: Path) -> dict[str, Path]:
    """Place without the hash of the options -> file."""
    return {
        str(path.relative_to(folder)): path for path in folder.rglob("result_*.json") if "previous" not in str(path)
    }


def by_cell(files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What identifies a cell -> its content; two files of one cell are an error."""
    found: dict[str, dict[str, Any]] = {}
    for place, path in files.items():
        content = json.loads(path.read_text(encoding="utf-8"))
        cell = content["cell"]
        names = ("corpus", "upstream", "scope", "scenario", "fold", "system", "split", "shots", "protocol")
        key = " ".join(str(cell[name]) for name in names)
        if key in found:
            raise SystemExit(f"{place}: a second result of the cell {key}")
        found[key] = content
    return found


def differences(before: Any, after: Any, where: str) -> list[str]:
    """Paths of values that differ; of dictionaries, keys that both have are compared."""
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


def main(arguments: list[str] | None = None) -> int:
    """Compare, print, and return how many results differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--part", action="store_true", help="AFTER holds only some of the cells: compare those")
    asked = parser.parse_args(arguments)
    before, after = by_cell(found_below(asked.before)), by_cell(found_below(asked.after))
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
    return min(wrong, 99)


if __name__ == "__main__":
    sys.exit(main())
