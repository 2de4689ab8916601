"""The page's one table of scores: every system that has results, with the worst rater and how many gain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from s3prl_metaperser.evaluation.compare import FEWEST_RATERS
from s3prl_metaperser.evaluation.summary import Cell
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.gathered import Study, k_of, units, value
from s3prl_metaperser.report.rater_tables import gains
from s3prl_metaperser.report.tables import ABSENT, Column, Table, Value
from s3prl_metaperser.report.tables import Cell as TableCell


def scores_table(study: Study) -> Table:
    """Rows of this grid alone, best first in each setting, those of fewer raters last; the paper's numbers only where
    corpus, scope and K are its own. Which raters are lacking is said where rows differ in it; else the page says it
    once, in its facts."""
    rows = [(*_names(study, cell), *_numbers(study, cell)) for cell in _best_first(study)]
    columns = [Column("system"), *([Column("data")] if _several(study, "scenario") else [])]
    columns += [Column("upstream")] if _several(study, "upstream") else []
    for metric in study.metrics:
        beside = metric.name in _beside(study)
        columns.append(Column("ours", metric.title, True) if beside else Column(metric.title, interval=True))
        columns += [Column("paper", metric.title)] if beside else []
    if len(study.test_raters) > 1:
        columns += map(Column, (f"worst {study.unit}", f"{study.units} above zero-shot"))
    columns += [Column(study.units)] if _partial(study) else []
    compared = len({cell.system for cell in study.main_cells}) > 1
    warning = (
        f"Intervals that overlap do not mean that systems cannot be told apart: {study.units} differ more than systems "
        "do, and the figure above compares systems on the same clips."
    )
    return study.table(
        "scores",
        f"Scores{k_of(study)}",
        f"{units(study.metrics)} Means over seeds, then test {study.units}, with 95 % intervals for further "
        f"{study.units} and utterances, of one {study.unit} for its further utterances; none "
        f"of two {study.units}.{f' {warning}' if compared else ''}",
        columns,
        rows,
        grouped=0,
    )


def _best_first(study: Study) -> list[Cell]:
    primary, places = study.metrics[0], {block: at for at, block in enumerate(study.blocks)}

    most: dict[tuple[str, str], int] = {}
    for cell in study.main_cells:
        block = (cell.scenario, cell.upstream)
        most[block] = max(most.get(block, 0), len(study.summary(cell).per_rater))

    def place(cell: Cell) -> tuple[int, bool, float]:
        span, block = study.summary(cell).intervals.get(primary.name), (cell.scenario, cell.upstream)
        score = float("-inf") if span is None else span.mean if primary.higher_is_better else -span.mean
        return places[block], len(study.summary(cell).per_rater) < most[block], -score

    return sorted(study.main_cells, key=place)


def _names(study: Study, cell: Cell) -> Iterator[str]:
    yield study.name(cell)
    for name in ("scenario", "upstream"):
        if _several(study, name):
            yield getattr(cell, name)


def _numbers(study: Study, cell: Cell) -> Iterator[TableCell]:
    numbers, primary, table = study.summary(cell), study.metrics[0], next(iter(paper.spec().tables.values()))
    for metric in study.metrics:
        shown = value(metric, numbers.intervals.get(metric.name))
        if isinstance(shown, Value) and 1 < len(numbers.per_rater) < FEWEST_RATERS:
            shown = replace(shown, low=None, high=None)
        yield shown
        if metric.name in _beside(study):
            place = {"scenario": cell.scenario, "upstream": paper.paper_upstream(cell.upstream), "row": cell.system}
            yield paper.number(table, metric.name, **place)
    if len(study.test_raters) > 1:
        worst, gained = numbers.worst.get(primary.name), gains(study, cell, primary)
        yield Value(primary.scale * worst[1], note=worst[0], decimals=primary.decimals) if worst else ABSENT
        yield f"{sum(gain > 0 for gain in gained.values())} of {len(gained)}" if gained else ABSENT
    if _partial(study):
        yield f"{len(numbers.per_rater)} of {len(study.test_raters)}"


def _several(study: Study, name: str) -> bool:
    return len({getattr(cell, name) for cell in study.main_cells}) > 1


def _partial(study: Study) -> bool:
    return len({len(study.summary(cell).per_rater) for cell in study.main_cells}) > 1


def _beside(study: Study) -> tuple[str, ...]:
    """Metrics whose numbers of the paper may stand beside ours."""
    spec = paper.spec()
    alike = (study.corpus, study.scope, study.shots) == (spec.corpus, spec.scope, spec.shots)
    return spec.metrics if study.complete and alike else ()
