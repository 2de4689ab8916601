"""What adapting to one listener costs, beside what it gains: time, and what is kept of a listener."""

from __future__ import annotations

from s3prl_metaperser.report.gathered import PLACE, Study
from s3prl_metaperser.report.tables import ABSENT, Column, Row, Table, Value


def cost_table(study: Study) -> Table | None:
    """A row for each cell whose results say what adaptation costs; None without one."""
    rows: list[Row] = []
    for cell in sorted(cell for cell in study.cells if cell.shots == study.shots):
        results = [result for result in study.everything.files[cell] if result.adapt_seconds is not None]
        seconds = [result.adapt_seconds for result in results if result.adapt_seconds is not None]
        kept = [result.listener_numbers for result in results if result.listener_numbers is not None]
        if not results:
            continue
        milliseconds = Value(1000 * sum(seconds) / len(seconds))
        rows.append((cell.scenario, cell.upstream, cell.system, milliseconds, f"{max(kept):,}" if kept else ABSENT))
    if not rows:
        return None
    return study.table(
        "cost",
        f"What adapting to a listener costs, K={study.shots}",
        "Milliseconds of adapting to one listener's K samples on the machine of the run, features at hand; of episodes "
        "that are adapted together each one's share. And how many numbers adaptation has changed or added, which is "
        "what is kept of a listener beside the model.",
        (*PLACE, *map(Column, ("milliseconds", "numbers kept"))),
        rows,
    )
