"""The folder in which an engine keeps what is its own: ``.engine/<grid>`` beside the results.

- ``identities/<rule>/<job>.json``: what each job is to run with, written only when that changes.
- ``made/<rule>/<job>.json``: what it did run with; there only where all went well, and that is still what it is to run
  with.
- ``plan-<hash>.json``: the jobs of one call. ``logs``: what each job said. ``lock``: held while an engine works here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.grid.jobs import Job
from s3prl_metaperser.grid.results import Results
from s3prl_metaperser.storage.atomic import write_text

#: How long a process that was killed just now may take to be gone.
LOCK_SECONDS = 10.0
REPORT_NOTE = "made/report.json"
REPORT_PAGE = "report/report.html"


def rule_of(job: Job) -> str:
    """The Snakefile's rule of a job. Those that take a GPU have rules of their own, which a profile can name."""
    return f"{job.kind}_finetuned" if job.finetuned and job.kind != "features" else job.kind


class Workplace:
    """The folder of one grid's engine.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[int]:
        """Hold the folder; gives the open file that holds it, for a child process to hold it, too.

        The system takes the lock back from processes that are killed, so that none is ever left over.

        Raises:
            UserError: a living process holds it.
        """
        path = self.folder / "lock"
        with open(path, "a+", encoding="utf-8") as file:
            end = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        holder = path.read_text(encoding="utf-8").strip() or "another process"
                        raise UserError(
                            f"{self.folder}: in use by {holder}. "
                            "Wait until it is done, or end it; `metaperser status` says how far it is."
                        ) from None
                    time.sleep(0.2)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
            yield file.fileno()

    def bring_up_to_date(self, jobs: Sequence[Job], results: Results) -> None:
        """Say of each job what it is to run with, and what is done already, whoever did it.

        What a job shares counts as done, too, where no cell that is left needs it. The note of a job that is to run is
        taken away, and with one of a system the report's, from which Snakemake goes back to what is missing.
        """
        done = {cell.path for job in jobs for cell in job.cells if results.is_done(cell)}
        whole = (results.folder / REPORT_PAGE).is_file()
        for job in jobs:
            text = json.dumps(job.identity(results.fingerprints), indent=1, sort_keys=True) + "\n"
            needless = all(cell.path in done for cell in job.cells)
            if job.kind == "system":
                there = needless
                whole = whole and there
            else:
                there = needless or all(
                    stage.exists(results.fingerprints.get(stage.cells[0].corpus)) for stage in job.stages
                )
            self._note(job, text, there)
        if not whole:
            (self.folder / REPORT_NOTE).unlink(missing_ok=True)

    def write_plan(self, plan: dict[str, Any]) -> Path:
        """Keep the plan under its hash: a job of an earlier call that still waits in a queue finds its own."""
        text = json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
        path = self.folder / f"plan-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        if not path.exists():
            write_text(path, text)
        return path

    def copy_notes(self, folder: Path) -> Workplace:
        """The same notes in another folder, for a look at what would be done."""
        for name in ("identities", "made"):
            if (self.folder / name).is_dir():
                shutil.copytree(self.folder / name, folder / name)
        return Workplace(folder)

    def _note(self, job: Job, text: str, there: bool) -> None:
        identity = self.folder / "identities" / rule_of(job) / f"{job.name}.json"
        made = self.folder / "made" / rule_of(job) / f"{job.name}.json"
        if _read(identity) != text:
            write_text(identity, text)
        if not there:
            made.unlink(missing_ok=True)
        elif _read(made) != text:
            write_text(made, text)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
