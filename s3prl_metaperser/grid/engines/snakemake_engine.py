"""``metaperser run --engine snakemake``: a grid's jobs over cores, GPUs and nodes.

Snakemake decides what runs when. This module tells it what is left to do, makes sure that one engine works on a grid at
a time, and that nothing is left running when it ends. docs/grid_snakemake.md says how it behaves and what was measured.

Its folder is ``.engine/<grid>`` beside the results: ``lock``, held while an engine works there, and a folder of the
last call with ``plan.json``, ``snakemake.log``, ``logs`` (what each job printed) and Snakemake's own files. What is
done is read from the results alone, so the next call needs nothing of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.engines.profile import Profile, find_profile
from s3prl_metaperser.grid.jobs import Kind, jobs_left, resources
from s3prl_metaperser.grid.opened import OpenedGrid
from s3prl_metaperser.grid.results import RESULT
from s3prl_metaperser.progress import SECONDS, tqdm
from s3prl_metaperser.storage.locks import held
from s3prl_metaperser.storage.paths import cache_root
from s3prl_metaperser.upstream.prefetch import cores

SNAKEFILE = Path(__file__).with_name("Snakefile")
LOG, PAGE = "snakemake.log", "report/report.html"
#: How long a process that was killed just now may take to be gone.
LOCK_SECONDS = 10.0
#: How long Snakemake may take to end its jobs when interrupted; on a cluster it asks the scheduler.
GRACE_SECONDS = 60.0
RETRIES = 1
_RUN_ID = re.compile(r"SLURM run ID: (\S+)")
_TAIL_LINES = 30


@dataclass(frozen=True)
class Settings:
    """How a grid is run.

    Attributes:
        command: the options of ``metaperser run`` that every job has: which grid, corpus, options.
        cores: of this machine; None for all, or what the profile says.
        profile: its name or folder; None for this machine.
        stage: the last kind of jobs to run; None for the report, too.
        retries: further attempts of a job that failed; None for 1, or what the profile says.
    """

    command: Sequence[str]
    report: Sequence[str] = ()
    device: str = "cuda"
    cores: int | None = None
    profile: str | None = None
    stage: Kind | None = None
    folds_per_job: int | None = None
    retries: int | None = None
    keep_going: bool = True


def run_grid(opened: OpenedGrid, settings: Settings) -> int:
    """Run what is missing; returns Snakemake's exit status.

    Raises:
        UserError: Snakemake is not installed, another engine works on this grid, a bad profile, a corpus that cannot be
            read.
    """
    profile = _profile(settings)
    opened.results.make()
    opened.read_corpora(missing=True)
    folder = engine_folder(opened)
    with held_engine(folder):
        _clear(folder)
        call = folder / time.strftime(f"%Y-%m-%d-%H-%M-%S-{os.getpid()}")
        line = prepare(opened, settings, profile, call)
        if line is None:
            return 0
        with _snakemake(line, call / LOG) as process:
            print(f"Snakemake's log: {call / LOG}; logs of the jobs: {call / 'logs'}", file=sys.stderr)
            _watch(process, opened)
    if process.returncode and not any(opened.results.failure(cell) for cell in opened.cells):
        text = (call / LOG).read_text(encoding="utf-8", errors="replace")
        print("\n".join(text.splitlines()[-_TAIL_LINES:]), file=sys.stderr)
    return process.returncode


def dry_run(opened: OpenedGrid, settings: Settings) -> int:
    """Print what would run, and leave nothing behind."""
    profile = _profile(settings)
    with tempfile.TemporaryDirectory() as folder:
        line = prepare(opened, settings, profile, Path(folder))
        return 0 if line is None else subprocess.run([*line, "--dry-run"], check=False).returncode


def prepare(opened: OpenedGrid, settings: Settings, profile: Profile, call: Path) -> list[str] | None:
    """Write the plan into the folder of a call; gives Snakemake's command line, or None with nothing left to do."""
    gpus = [] if profile.executor else visible_gpus()
    plan = plan_of(opened, settings, gpus, elsewhere=profile.executor is not None)
    if not plan:
        print("Nothing to be done.", file=sys.stderr)
        return None
    call.mkdir(parents=True, exist_ok=True)
    (call / "plan.json").write_text(json.dumps(plan, indent=1, ensure_ascii=False), encoding="utf-8")
    return command_line(settings, profile, gpus, call)


def plan_of(opened: OpenedGrid, settings: Settings, gpus: Sequence[str], elsewhere: bool) -> dict[str, dict[str, Any]]:
    """What the Snakefile reads: each job's rule, needs, resources, and its command.

    Args:
        elsewhere: whether jobs run on machines whose scheduler gives them their GPUs.
    """
    jobs = jobs_left(opened.cells, opened.results, settings.folds_per_job, settings.stage or "system")
    on_gpu = settings.device != "cpu" and (elsewhere or bool(gpus))
    results = opened.results.folder.absolute()
    taking = ["--gpus", ",".join(gpus), "--gpu-locks", str(Path(tempfile.gettempdir()) / f"metaperser-{os.getuid()}")]

    def planned(rule: str, needs: Sequence[str], asked: dict[str, int], *command: str) -> dict[str, Any]:
        line = ["env", *_environment(), sys.executable, "-m", "s3prl_metaperser.grid.engines.tied"]
        line += taking if asked.get("gpu") and len(gpus) > 1 and not elsewhere else []
        line += [sys.executable, "-m", "s3prl_metaperser.cli", *command]
        given = {"cwd": shlex.quote(os.getcwd()), "command": shlex.join(line)}
        return {"rule": rule, "needs": list(needs), "resources": asked, **given}

    plan = {}
    for job in jobs:
        line = ["run", *settings.command, "--results", str(results), "--device", settings.device]
        line += ["--stage", job.kind, "--only", job.only]
        plan[job.name] = planned(job.rule, job.needs, resources(job, on_gpu), *line)
    if settings.stage is None and (plan or _outdated(opened)):
        line = ["report", str(results), "--out", str((results / PAGE).parent), *settings.report]
        plan["report"] = planned("report", list(plan), {"threads": 1}, *line)
    return plan


def command_line(settings: Settings, profile: Profile, gpus: Sequence[str], call: Path) -> list[str]:
    """Snakemake's, in the folder of a call. What the profile says is left to it."""
    given = profile.settings
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(call.absolute())]
    line += ["--workflow-profile", "none", "--profile", str(profile.path or "none"), *profile.without_accounting()]
    line += [] if "scheduler" in given else ["--scheduler", "greedy"]
    line += [] if "show-failed-logs" in given else ["--show-failed-logs"]
    line += ["--keep-going"] if settings.keep_going else []
    if settings.retries is not None or "retries" not in given:
        line += ["--retries", str(RETRIES if settings.retries is None else settings.retries)]
    if settings.cores is not None or not (profile.executor or "cores" in given):
        line += ["--cores", str(settings.cores or cores())]
    if not profile.executor and "resources" not in given:
        line += ["--resources", f"gpu={len(gpus)}"]
    if profile.executor == "slurm" and "slurm-logdir" not in given:
        line += ["--slurm-logdir", str((call / "slurm").absolute())]
    return line


def visible_gpus() -> list[str]:
    """The GPUs of this machine as ``CUDA_VISIBLE_DEVICES`` names them; asked without torch."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number, _ in enumerate(re.findall(r"^GPU \d+:", listed.stdout, flags=re.MULTILINE))]


def engine_folder(opened: OpenedGrid) -> Path:
    """Where the engine keeps what is its own."""
    return opened.results.folder / ".engine" / opened.grid.path.stem


def held_engine(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the engine's folder, once an engine that was ended has let go of it.

    Raises:
        Held: a living process holds it.
    """
    return held(folder / "lock", f"{folder} (`metaperser status` shows its progress)", wait=LOCK_SECONDS)


def _profile(settings: Settings) -> Profile:
    if find_spec("snakemake") is None:
        raise UserError(
            "--engine snakemake: Snakemake is not installed. Install it (Python 3.11 or newer): "
            "pip install 's3prl-metaperser[grid]'"
        )
    return find_profile(settings.profile)


def _clear(folder: Path) -> None:
    """Remove what earlier calls left, and cancel their jobs in Slurm's queue, which would work beside this call's."""
    for log in folder.rglob(LOG):
        for run in _RUN_ID.findall(log.read_text(encoding="utf-8", errors="replace")):
            with contextlib.suppress(FileNotFoundError):
                subprocess.run(["scancel", "--me", "--name", run], check=False, capture_output=True)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _outdated(opened: OpenedGrid) -> bool:
    """Whether the report is missing, or older than a result that it should show."""
    page = opened.results.folder / PAGE
    files = [opened.results.of(cell) / RESULT for cell in opened.cells]
    return not page.is_file() or any(f.is_file() and f.stat().st_mtime > page.stat().st_mtime for f in files)


def _environment() -> list[str]:
    """What a job must have wherever it runs."""
    named = {"METAPERSER_CACHE": str(cache_root())}
    if path := os.environ.get("PYTHONPATH"):
        named["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in path.split(os.pathsep) if entry)
    return [f"{name}={value}" for name, value in named.items()]


@contextlib.contextmanager
def _snakemake(line: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Snakemake, ended with all its jobs when the block ends early."""
    tied = [sys.executable, "-m", "s3prl_metaperser.grid.engines.tied", "--parent", str(os.getpid())]
    earlier = {
        number: signal.signal(number, _interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN  # nohup
    }
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [*tied, *line],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches Snakemake once, from here
        )
    try:
        yield process
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)  # on SIGTERM it would wait for its jobs, and at times for ever
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _interrupt(*signal_and_frame: object) -> None:
    raise KeyboardInterrupt


def _watch(process: subprocess.Popen[bytes], opened: OpenedGrid) -> None:
    """A bar over cells while Snakemake runs."""
    left = [cell for cell in opened.cells if not opened.results.is_done(cell)]
    seconds = max(1.0 if sys.stderr.isatty() else SECONDS, 0.01 * len(left))
    with tqdm(total=len(left), unit="cell", dynamic_ncols=True, disable=not left, file=sys.stderr) as bar:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            remaining = [cell for cell in left if not opened.results.is_done(cell)]
            bar.update(len(left) - len(remaining))
            left = remaining
