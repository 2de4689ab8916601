"""How long the commands that are asked for often take to start, side by side for two checkouts.

    python benchmarks/start_up.py CHECKOUT [OTHER] [--rounds 7]

Each checkout is run by its own ``.venv/bin/python`` (or ``--python``). Rounds alternate between the checkouts, so that
a busy machine slows both alike; the ratio is that of the fastest rounds, CPU seconds of the whole process.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

CLI = "from s3prl_metaperser.cli import main; raise SystemExit(main({}))"
CASES = {
    "python alone": "pass",
    "import s3prl_metaperser": "import s3prl_metaperser",
    "metaperser --help": CLI.format(["--help"]),
    "metaperser list systems": CLI.format(["list", "systems"]),
    "metaperser list upstreams": CLI.format(["list", "upstreams"]),
    "metaperser plan wavlm_base": CLI.format(["plan", "wavlm_base"]),
    "metaperser status smoke.yaml": CLI.format(["status", "benchmarks/smoke.yaml"]),
    "import the launcher": "import s3prl_metaperser.s3prl_plugin.launcher",
    "import torch, patch the stack": "from s3prl_metaperser.s3prl_stack import compat; compat.apply()",
}
#: Where version 0.1.0 had these modules.
EARLIER = {
    "s3prl_metaperser.s3prl_plugin.launcher": "s3prl_metaperser.launcher",
    "from s3prl_metaperser.s3prl_stack import compat": "from s3prl_metaperser import compat",
}


def code_for(checkout: Path, code: str) -> str:
    """``code`` with the module names of that checkout."""
    if not (checkout / "s3prl_metaperser" / "s3prl_stack").is_dir():
        for new, old in EARLIER.items():
            code = code.replace(new, old)
    return code


def cpu_seconds(python: str, checkout: Path, code: str) -> float:
    """User and system time of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [python, "-W", "ignore", "-c", code_for(checkout, code)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout}: {code}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a table: a line per case, a column per checkout, and the ratio of the first to the second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--python", help="one interpreter for all checkouts")
    arguments = parser.parse_args()
    checkouts = [path.resolve() for path in arguments.checkouts]
    pythons = [arguments.python or str(path / ".venv" / "bin" / "python") for path in checkouts]
    print(f"{'CPU seconds':<32}" + "".join(f"{path.name:>12}" for path in checkouts) + f"{'ratio':>10}")
    for name, code in CASES.items():
        best = [float("inf")] * len(checkouts)
        for _ in range(arguments.rounds):
            for at, (python, path) in enumerate(zip(pythons, checkouts, strict=True)):
                best[at] = min(best[at], cpu_seconds(python, path, code))
        ratio = f"{best[0] / best[1]:>10.2f}" if len(best) == 2 else ""
        print(f"{name:<32}" + "".join(f"{seconds:>12.3f}" for seconds in best) + ratio, flush=True)


if __name__ == "__main__":
    sys.exit(main())
