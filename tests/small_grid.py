"""A grid over the small demo corpus, written to a file."""

from pathlib import Path

import yaml
from small_demo import SMALL, stored

from s3prl_metaperser.grid.relevance import nested

VOLATILE = ("seconds", "adapt_seconds", "peak_memory_bytes")


def small_options(*more: str) -> dict:
    pairs = (item.split("=", 1) for item in [*SMALL, "downstream_expert.evalrc.trajectory=[]", *more])
    options = nested({name: yaml.safe_load(value) for name, value in pairs})
    del options["downstream_expert"]["evalrc"]["shots"]
    return options


def write_grid(folder: Path, *options: str, name: str = "tiny", **changes) -> Path:
    content = {
        "corpus": "demo",
        "results": str(folder / "results"),
        "upstreams": ["fbank_no_cmvn"],
        "systems": {"frozen": ["Random", "Linear-Few"]},
        "scenarios": ["seen"],
        "folds": ["fold1"],
        "shots": [8],
        "options": small_options(*options),
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def results_below(folder: Path) -> dict[str, dict]:
    found = {}
    for path in sorted(Path(folder).glob("*/*/*/*/result_test.json")):
        content = stored(path)
        found[str(path.parent.relative_to(folder))] = {k: v for k, v in content.items() if k not in VOLATILE}
    return found
