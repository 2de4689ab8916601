"""The test raters (or other units) behind a mean: each of a few, and of many how their scores are spread."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.evaluation.summary import Cell
from s3prl_metaperser.methods import zero_shot_of
from s3prl_metaperser.report.gathered import PLACE, Study, headline, k_of, units, value
from s3prl_metaperser.report.tables import ABSENT, MISSING, Column, Table, Value
from s3prl_metaperser.report.tables import Cell as TableCell

#: More raters than this are shown by quantiles; each has a row in a CSV file.
FEW = 12
#: A difference to zero-shot that counts as improved or worsened, in the metric's unit: 2 points of percent.
CLEARLY = 0.02
_QUANTILES = {"10 %": 0.1, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "90 %": 0.9}


def many(study: Study) -> bool:
    """Whether there are more raters than a table or figure has room for."""
    return len(study.test_raters) > FEW


def rater_table(study: Study) -> Table:
    """The primary metric of every test rater (or other unit), the worst one, and how many gain over zero-shot; of more
    than :data:`FEW`, how it is spread over them."""
    raters, metric = study.test_raters, study.metrics[0]
    if many(study):
        return _quantile_table(study, metric)
    rows = []
    for cell in study.main_cells:
        numbers = study.summary(cell)
        row: list[TableCell] = [cell.scenario, cell.upstream, cell.system]
        for rater in raters:
            tested = rater in numbers.per_rater
            row.append(value(metric, numbers.per_rater[rater].get(metric.name)) if tested else MISSING)
        worst, share = numbers.worst.get(metric.name), (numbers.improved or {}).get(metric.name)
        row.append(ABSENT if worst is None else Value(metric.scale * worst[1], note=worst[0], decimals=metric.decimals))
        comparable = share is not None and cell.system != zero_shot_of(cell.system, cell.scope)
        row.append(Value(100 * share, decimals=0) if comparable and share is not None else ABSENT)
        rows.append(row)
    return study.table(
        "raters",
        f"{headline(metric)} of each test {study.unit}{k_of(study)}",
        f"{units([metric])} Means over seeds, with 95 % intervals for further utterances of this {study.unit}. "
        f"Last column: share of {study.units} whose mean is better than that of the zero-shot system.",
        (*PLACE, *(Column(name, interval=True) for name in (*raters, f"worst {study.unit}")), Column("% improved")),
        rows,
    )


def gains(study: Study, cell: Cell, metric: Metric) -> dict[str, float] | None:
    """Rater -> how much better its mean is than that of the zero-shot system; None of that system itself, or without
    its results."""
    twin = dataclasses.replace(cell, system=zero_shot_of(cell.system, cell.scope) or "")
    if twin == cell or twin not in study.everything.summaries:
        return None
    sign = 1 if metric.higher_is_better else -1
    ours, theirs = study.summary(cell).per_rater, study.summary(twin).per_rater
    both = [r for r in ours if metric.name in ours[r] and metric.name in theirs.get(r, {})]
    return {rater: sign * (ours[rater][metric.name].mean - theirs[rater][metric.name].mean) for rater in both} or None


def _quantile_table(study: Study, metric: Metric) -> Table:
    rows = []
    for cell in study.main_cells:
        per_rater, row = study.summary(cell).per_rater, [cell.scenario, cell.upstream, cell.system]
        means = np.sort([own[metric.name].mean for own in per_rater.values() if metric.name in own])
        found = _spread(means if metric.higher_is_better else means[::-1])
        gained = np.array(list((gains(study, cell, metric) or {}).values()))
        shares = [(gained > 0), (gained > CLEARLY), (gained < -CLEARLY)]
        rows.append(
            [
                *row,
                str(len(means)),
                *(Value(metric.scale * one, decimals=metric.decimals) for one in found or ()),
                *([ABSENT] * (0 if found else 2 + len(_QUANTILES))),
                *(Value(100 * float(share.mean()), decimals=0) if len(gained) else ABSENT for share in shares),
            ]
        )
    by = f"{metric.shown(CLEARLY)} {metric.difference_unit}".rstrip()
    return study.table(
        "raters",
        f"{headline(metric)} over test {study.units}{k_of(study)}",
        f"{units([metric])} Means over seeds of each {study.unit}: the mean of the worst tenth of {study.units}, "
        "quantiles from worst to best, and the mean of the best tenth. Then the percentages that are better than "
        f"with the zero-shot system, better by more than {by}, and worse by more than {by}. Each {study.unit} has its "
        f"row in each_rater{study.suffix}.csv.",
        (
            *PLACE,
            *map(Column, (study.units, "worst tenth", *_QUANTILES, "best tenth")),
            *map(Column, ("% improved", f"% improved by {by}", f"% worsened by {by}")),
        ),
        rows,
    )


def _spread(means: np.ndarray) -> list[float]:
    """Of scores from worst to best: the worst tenth's mean, quantiles, the best tenth's mean; nothing of none."""
    if not len(means):
        return []
    tenth, places = math.ceil(len(means) / 10), np.array(list(_QUANTILES.values())) * (len(means) - 1)
    quantiles = np.interp(places, np.arange(len(means)), means).tolist()
    return [float(means[:tenth].mean()), *quantiles, float(means[-tenth:].mean())]


def each_rater(study: Study) -> Table:
    """A row for each test rater of each cell and metric: for a file, since there may be thousands."""
    rows: list[list[TableCell]] = []
    for cell in study.main_cells:
        for metric in study.metrics:
            gained = gains(study, cell, metric) or {}
            for rater, own in study.summary(cell).per_rater.items():
                gain = Value(metric.scale * gained[rater]) if rater in gained else ABSENT
                lead = [cell.scenario, cell.upstream, cell.system, rater, metric.title]
                rows.append([*lead, value(metric, own.get(metric.name)), gain])
    names = (study.unit, "metric")
    columns = (*PLACE, *map(Column, names), Column("mean", interval=True), Column("gain over zero-shot"))
    return study.table("each_rater", f"Each test {study.unit}", "", columns, rows)
