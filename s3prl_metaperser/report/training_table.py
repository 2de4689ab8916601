"""What meta-training had done to the states that were tested, computed from the results: a row that had no chance to
show a part of the method says so."""

from __future__ import annotations

from collections.abc import Iterator

from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.summary import Cell
from s3prl_metaperser.methods import facts_of
from s3prl_metaperser.methods.outer_steps import OuterSteps, outer_steps
from s3prl_metaperser.report.gathered import PLACE, Study
from s3prl_metaperser.report.tables import ABSENT, Absent, Column, Table, Value


def trained(study: Study) -> dict[Cell, list[tuple[Result, OuterSteps]]]:
    """The cells whose systems meta-train, with each fold's result and outer steps."""
    found: dict[Cell, list[tuple[Result, OuterSteps]]] = {}
    for cell in sorted(cell for cell in study.cells if cell.shots == study.shots):
        for result in sorted(study.everything.files[cell], key=lambda result: result.cell.fold):
            steps = outer_steps(facts_of(cell.system), result.options, result.selected_step)
            if steps is not None:
                found.setdefault(cell, []).append((result, steps))
    return found


def training_table(study: Study) -> Table | None:
    """A row for each cell that meta-trains; None without one."""
    rows = []
    for cell, folds in trained(study).items():
        steps = [each for _, each in folds]
        totals = ", ".join(map(str, sorted({each.total for each in steps})))
        selected = f"{', '.join(str(each.selected) for each in steps)} of {totals}"
        second = ", ".join(str(each.second_order) for each in steps)
        rows.append(
            (cell.scenario, cell.upstream, cell.system, selected, second, _moved(folds), _worse_than_step_0(folds))
        )
    if not rows:
        return None
    return study.table(
        "training",
        f"What meta-training had done to the states that were tested, K={study.shots}",
        "By fold: the selected outer step, and how many of the steps up to it had a second-order gradient (with "
        "derivative annealing none in the first part of training). Learned inner rates: mean distance from their "
        "initial value, in percent. Last column: folds whose validation loss was lower before the first outer step; "
        "“—”: not on record, as in results of version 0.1.0, or nothing learned.",
        (*PLACE, *map(Column, ("selected outer steps", "second-order", "rates moved, %", "step 0 was better"))),
        rows,
        notes=annealing_notes(study),
    )


def annealing_notes(study: Study) -> Iterator[str]:
    """Which rows say nothing about derivative annealing, since training was selected before it ended."""
    meta_trained = trained(study)
    for scenario, upstream in study.blocks:
        vacuous, some = [], []
        for cell, folds in meta_trained.items():
            if (cell.scenario, cell.upstream) != (scenario, upstream) or not folds[0][1].annealed:
                continue
            early = sum(steps.vacuous for _, steps in folds)
            if early == len(folds):
                vacuous.append(cell.system)
            elif early:
                some.append(f"{cell.system} in {early} of {len(folds)} folds")
        if vacuous or some:
            parts = [f"{', '.join(vacuous)} in every fold"] if vacuous else []
            yield (
                f"Derivative annealing ({scenario}, {upstream}): up to the selected step no second-order gradient was "
                f"taken by {'; '.join([*parts, *some])}. There the tested state is one of first-order training alone, "
                "and says nothing about derivative annealing."
            )


def _moved(folds: list[tuple[Result, OuterSteps]]) -> Value | Absent:
    moved = [r.selected.rates_moved for r, _ in folds if r.selected and r.selected.rates_moved is not None]
    return Value(100 * sum(moved) / len(moved)) if moved else ABSENT


def _worse_than_step_0(folds: list[tuple[Result, OuterSteps]]) -> str | Absent:
    known = [r.selected for r, _ in folds if r.selected and None not in (r.selected.loss, r.selected.initial_loss)]
    worse = sum(s.initial_loss < s.loss for s in known if s.initial_loss is not None and s.loss is not None)
    return f"{worse} of {len(known)}" if known else ABSENT
