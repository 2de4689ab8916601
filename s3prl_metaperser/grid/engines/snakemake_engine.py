"""``metaperser run --engine snakemake``: a grid's jobs over cores, GPUs and nodes.

Snakemake decides what runs when; this module tells it what there is to do, and sees that there is one of it at a time
and that nothing is left at work when it ends. docs/grid_snakemake.md says how it behaves and what was measured.
"""

from __future__ import annotations

import contextlib
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

from tqdm import tqdm

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.engines.profile import Profile, find_profile
from s3prl_metaperser.grid.engines.workplace import REPORT_PAGE, Workplace, rule_of
from s3prl_metaperser.grid.jobs import Job, jobs_of, resources
from s3prl_metaperser.grid.opened import OpenedGrid
from s3prl_metaperser.grid.progress import LOG_SECONDS
from s3prl_metaperser.storage.paths import cache_root

SNAKEFILE = Path(__file__).with_name("Snakefile")
LOG = "snakemake.log"
#: How long Snakemake may take to end its jobs when it is told to; on a cluster it asks the scheduler.
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
        stage: ``features``, ``initialisation`` or ``system``: no further than this; None for the report, too.
        retries: further attempts of a job that failed; None for 1, or what the profile says.
        report: the arguments of ``metaperser report``.
    """

    command: Sequence[str]
    report: Sequence[str]
    device: str = "cuda"
    cores: int | None = None
    profile: str | None = None
    stage: str | None = None
    folds_per_job: int | None = None
    retries: int | None = None
    keep_going: bool = True


def require_snakemake() -> None:
    """Refuse where the extra is not installed.

    Raises:
        UserError: saying how to install it.
    """
    if find_spec("snakemake") is None:
        raise UserError(
            "--engine snakemake: Snakemake is not installed. Install it (Python 3.11 or newer): "
            "pip install 's3prl-metaperser[grid]'"
        )


def run_grid(opened: OpenedGrid, settings: Settings) -> int:
    """Run what is missing; returns Snakemake's exit status.

    Raises:
        UserError: Snakemake is not installed, another engine works on this grid, a bad profile, a corpus that cannot be
            read.
    """
    require_snakemake()
    profile = None if settings.profile is None else find_profile(settings.profile)
    opened.results.make()
    opened.check_corpora()
    place = Workplace(_folder(opened))
    with place.held() as lock:
        _end_left_over_jobs(place)
        line = _command_line(opened, settings, profile, place)
        with _snakemake(line, place.folder / LOG, lock) as process:
            print(
                f"Snakemake's log: {place.folder / LOG}; what each job says: {place.folder / 'logs'}", file=sys.stderr
            )
            _watch(process, opened)
    return process.returncode


def dry_run(opened: OpenedGrid, settings: Settings) -> int:
    """Print what would run and why, and leave nothing behind."""
    require_snakemake()
    profile = None if settings.profile is None else find_profile(settings.profile)
    with tempfile.TemporaryDirectory() as folder:
        known = _folder(opened)
        place = Workplace(known).copy_notes(Path(folder)) if known.is_dir() else Workplace(Path(folder))
        line = [*_command_line(opened, settings, profile, place), "--dry-run"]
        return subprocess.run(line, check=False).returncode


def visible_gpus() -> list[str]:
    """The GPUs of this machine as ``CUDA_VISIBLE_DEVICES`` names them; asked without torch."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number, _ in enumerate(re.findall(r"^GPU \d+:", listed.stdout, flags=re.MULTILINE))]


def last_words(opened: OpenedGrid) -> str:
    """The end of Snakemake's log."""
    text = (_folder(opened) / LOG).read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def plan_of(
    jobs: Sequence[Job], opened: OpenedGrid, settings: Settings, gpus: Sequence[str], elsewhere: bool
) -> dict[str, Any]:
    """What the Snakefile reads.

    Args:
        gpus: of this machine.
        elsewhere: whether jobs run on machines whose scheduler gives them their GPUs.
    """
    on_gpu = settings.device != "cpu" and (elsewhere or bool(gpus))
    launch = ["env", *_environment(opened), sys.executable, "-m", "s3prl_metaperser.grid.engines.job"]
    launch += ["--cwd", os.getcwd()]
    taking = ["--gpus", ",".join(gpus), "--gpu-locks", str(Path(tempfile.gettempdir()) / f"metaperser-{os.getuid()}")]
    found = {}
    for job in jobs:
        asked = resources(job, on_gpu)
        line = taking if asked.get("gpu") and len(gpus) > 1 and not elsewhere else []
        line = [*line, "--", "run", *settings.command, "--results", str(opened.results.folder.absolute())]
        line += ["--device", settings.device, "--stage", job.kind, "--only", job.only]
        found[job.name] = {
            "kind": job.kind,
            "rule": rule_of(job),
            "needs": list(job.needs),
            "resources": asked,
            "command": shlex.join(line),
        }
    results = opened.results.folder.absolute()
    report = ["--", "report", str(results), "--out", str((results / REPORT_PAGE).parent), *settings.report]
    return {
        "launch": shlex.join(launch),
        "jobs": found,
        "target": settings.stage or "report",
        "report": shlex.join(report),
    }


def _command_line(opened: OpenedGrid, settings: Settings, profile: Profile | None, place: Workplace) -> list[str]:
    given = {} if profile is None else profile.settings
    elsewhere = profile is not None and profile.executor is not None
    gpus = [] if elsewhere else visible_gpus()
    jobs = jobs_of(opened.cells, settings.folds_per_job)
    place.bring_up_to_date(jobs, opened.results)
    plan = place.write_plan(plan_of(jobs, opened, settings, gpus, elsewhere))
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    line += ["--directory", str(place.folder.absolute()), "--workflow-profile", "none"]
    # by its name in that folder: Snakemake reads the value as YAML, in which a path could mean something else
    line += ["--config", f"plan={plan.name}", "--rerun-triggers", "mtime"]
    line += ["--ignore-incomplete"]  # a note is the last that a job writes, at once: one that is there is whole
    # the folder's own lock is held instead: Snakemake's would have to be taken away by hand after kill -9
    line += ["--nolock"]
    if "scheduler" not in given:
        line += ["--scheduler", "greedy"]
    if "show-failed-logs" not in given:
        line += ["--show-failed-logs"]
    if settings.keep_going:
        line += ["--keep-going"]
    if settings.retries is not None or "retries" not in given:
        line += ["--retries", str(RETRIES if settings.retries is None else settings.retries)]
    if settings.cores is not None or not (elsewhere or "cores" in given):
        line += ["--cores", str(settings.cores or _all_cores())]
    if profile is None:
        return [*line, "--profile", "none", "--resources", f"gpu={len(gpus)}"]
    line += ["--profile", str(profile.path), *profile.without_accounting()]
    if not elsewhere and "resources" not in given:
        line += ["--resources", f"gpu={len(gpus)}"]
    if profile.executor == "slurm" and "slurm-logdir" not in given:
        line += ["--slurm-logdir", str((place.folder / "slurm").absolute())]
    return line


def _folder(opened: OpenedGrid) -> Path:
    return opened.results.folder / ".engine" / opened.grid.path.stem


def _environment(opened: OpenedGrid) -> list[str]:
    """What a job must have wherever it runs."""
    named = {"METAPERSER_CACHE": str(cache_root())}
    if path := os.environ.get("PYTHONPATH"):
        named["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in path.split(os.pathsep) if entry)
    return [f"{name}={value}" for name, value in named.items()]


def _all_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _snakemake(line: Sequence[str], log: Path, lock: int) -> Iterator[subprocess.Popen]:
    """Snakemake, ended with all its jobs when the block ends early."""
    tied = [sys.executable, "-m", "s3prl_metaperser.grid.engines.tied", str(os.getpid())]
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
            pass_fds=[lock],
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


def _interrupt(*signal_and_frame) -> None:
    raise KeyboardInterrupt


def _watch(process: subprocess.Popen, opened: OpenedGrid) -> None:
    """A bar over cells while Snakemake runs."""
    left = [cell for cell in opened.cells if not opened.results.is_done(cell)]
    seconds = max(1.0 if sys.stderr.isatty() else LOG_SECONDS, 0.01 * len(left))
    with tqdm(total=len(left), unit="cell", dynamic_ncols=True, disable=not left, file=sys.stderr) as bar:
        shown = time.monotonic()
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            if time.monotonic() - shown > seconds or process.returncode is not None:
                shown = time.monotonic()
                remaining = [cell for cell in left if not opened.results.is_done(cell)]
                bar.update(len(left) - len(remaining))
                left = remaining


def _end_left_over_jobs(place: Workplace) -> None:
    """Cancel what an engine that was killed left in Slurm's queue: it would work beside the jobs of this one."""
    log = place.folder / LOG
    if not log.is_file() or shutil.which("scancel") is None:
        return
    for run in _RUN_ID.findall(log.read_text(encoding="utf-8", errors="replace")):
        subprocess.run(["scancel", "--me", "--name", run], check=False, capture_output=True)
