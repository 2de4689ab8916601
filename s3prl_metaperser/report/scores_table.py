"""The page's one table of scores: every system that has results, with the worst rater and how many gain."""

from __future__ import annotations

from s3prl_metaperser.report import paper
from s3prl_metaperser.report.gathered import Study, k_of, units, value
from s3prl_metaperser.report.rater_tables import gains
from s3prl_metaperser.report.tables import ABSENT, Cell, Column, Row, Table, Value


def scores_table(study: Study) -> Table:
    """Rows of this grid alone, best first in each setting; the paper's numbers only where corpus, scope and K are its
    own."""
    spec = paper.spec()
    beside = study.complete and (study.corpus, study.scope, study.shots) == (spec.corpus, spec.scope, spec.shots)
    several = {name: len({getattr(cell, name) for cell in study.main_cells}) > 1 for name in ("scenario", "upstream")}
    table, primary = next(iter(spec.tables.values())), study.metrics[0]
    many, rows = len(study.test_raters) > 1, list[Row]()
    for scenario, upstream in study.blocks:
        found = []
        for cell in (c for c in study.main_cells if (c.scenario, c.upstream) == (scenario, upstream)):
            numbers, row = study.summary(cell), [study.name(cell)]
            row += [text for name, text in (("scenario", scenario), ("upstream", upstream)) if several[name]]
            cells: list[Cell] = list(row)
            for metric in study.metrics:
                cells.append(value(metric, numbers.intervals.get(metric.name), study.incomplete(cell)))
                if beside and metric.name in spec.metrics:
                    place = {"scenario": scenario, "upstream": paper.paper_upstream(upstream), "row": cell.system}
                    cells.append(paper.number(table, metric.name, **place))
            if many:
                worst, gained = numbers.worst.get(primary.name), gains(study, cell, primary)
                least = Value(primary.scale * worst[1], note=worst[0], decimals=primary.decimals) if worst else ABSENT
                cells.append(least)
                cells.append(f"{sum(g > 0 for g in gained.values())} of {len(gained)}" if gained else ABSENT)
            mean = numbers.intervals[primary.name].mean if primary.name in numbers.intervals else None
            found.append((mean, tuple(cells)))
        sign = -1 if primary.higher_is_better else 1
        rows += [row for _, row in sorted(found, key=lambda pair: (pair[0] is None, sign * (pair[0] or 0)))]
    columns = [Column("system"), *([Column("data")] if several["scenario"] else [])]
    columns += [Column("upstream")] if several["upstream"] else []
    for metric in study.metrics:
        columns.append(Column(metric.title, interval=True))
        columns += [Column("paper", metric.title)] if beside and metric.name in spec.metrics else []
    columns += [Column(f"worst {study.unit}"), Column(f"{study.units} above zero-shot")] if many else []
    return study.table(
        "scores",
        f"Scores{k_of(study)}",
        f"{units(study.metrics)} Means over seeds, then test {study.units}, with 95 % intervals for further "
        f"{study.units} and utterances. Intervals that overlap do not mean that systems cannot be told apart: "
        f"{study.units} differ more than systems do, and the figure above compares systems on the same clips.",
        columns,
        rows,
        grouped=0,
    )
