"""The report of domain generalisation: the target's numbers, what can be told apart, the paper's tables beside ours."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3prl_metaperser.config.yaml_files import read_yaml
from s3prl_metaperser.evaluation.calibration_scores import rater_calibration
from s3prl_metaperser.evaluation.collect import by_cell
from s3prl_metaperser.evaluation.compare import FEWEST_RATERS, Comparison
from s3prl_metaperser.evaluation.domain_scores import Averages, constant_accuracy, paired, recalls, speakers
from s3prl_metaperser.evaluation.metrics import ACCURACY, BALANCED_ACCURACY, MACRO_F1_UNION, NATS, Metric
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.result_keys import Cell
from s3prl_metaperser.evaluation.statistics import Interval
from s3prl_metaperser.generalise import BASELINE, GENERALISERS, nulls
from s3prl_metaperser.protocol.domains import FEWEST_SPEAKERS
from s3prl_metaperser.report.drawing import Drawing, colours, finished, legend_below, new_figure, style
from s3prl_metaperser.report.gathered import Gathered, value
from s3prl_metaperser.report.page import Section
from s3prl_metaperser.report.tables import ABSENT, MISSING, Column, Table, Value
from s3prl_metaperser.report.tables import Cell as TableCell
from s3prl_metaperser.storage import resources

UAR = BALANCED_ACCURACY
_SHOWN = (UAR, ACCURACY, MACRO_F1_UNION, NATS)
_TITLES = {UAR.name: "UAR", NATS.name: "NLL"}
_MEANS = ("UM", "WM", "GM")
#: Logged values that are drawn over training.
CURVE = "margin"


@dataclass(frozen=True)
class Place:
    """Where results stand together: one corpus or set of corpora, upstream and scope."""

    corpus: str
    upstream: str
    scope: str

    def __str__(self) -> str:
        return f"{self.corpus}, {self.upstream} ({self.scope})"


class Domains:
    """Results of domain generalisation, by place, scenario and system."""

    def __init__(self, gathered: Gathered):
        self.gathered = gathered
        self.files = by_cell(gathered.results)
        self.places = sorted({_place(cell) for cell in self.files}, key=str)

    def scenarios(self, place: Place) -> list[str]:
        """Those that have results, the paper's first."""
        found = {cell.scenario for cell in self.files if _place(cell) == place}
        known = [name for name in published()["scenarios"] if name in found]
        return known + sorted(found - set(known))

    def systems(self, place: Place) -> list[str]:
        """Those that have results, in the order of their registry."""
        found = {cell.system for cell in self.files if _place(cell) == place}
        known = [name for name in GENERALISERS.names() if name in found]
        return known + sorted(found - set(known))

    def cell(self, place: Place, scenario: str, system: str) -> Cell | None:
        """The cell of a place in the tables, where it has results."""
        found = (c for c in self.files if (_place(c), c.scenario, c.system) == (place, scenario, system))
        return next(found, None)

    def cells(self, place: Place) -> Iterator[tuple[str, str, Cell]]:
        """(scenario, system, cell), in the order of the tables."""
        for scenario in self.scenarios(place):
            for system in self.systems(place):
                if (cell := self.cell(place, scenario, system)) is not None:
                    yield scenario, system, cell

    def span(self, cell: Cell, metric: Metric) -> Interval | None:
        """A metric's mean over trials, with its interval."""
        return self.gathered.summaries[cell].intervals.get(metric.name)

    def shown(self, cell: Cell | None, metric: Metric, absent: TableCell = ABSENT) -> TableCell:
        """:meth:`span` as tables have it: the mean alone where so few speakers are tested that others may be anything.

        Args:
            absent: stands where there is no result.
        """
        span = None if cell is None else self.span(cell, metric)
        if cell is None or span is None:
            return absent
        if speakers(self.gathered.cells[cell]) < FEWEST_SPEAKERS:
            return Value(metric.scale * span.mean, decimals=metric.decimals)
        return value(metric, span)

    def key(self, name: str, place: Place) -> str:
        """A file name."""
        alone = len(self.places) == 1
        return f"{name}{self.gathered.suffix}" + ("" if alone else f"_{place.corpus}_{place.upstream}_{place.scope}")


def sections(gathered: Gathered) -> list[Section]:
    """The whole report but for where its numbers come from."""
    domains = Domains(gathered)
    found = [_verdicts(domains)]
    for place in domains.places:
        title = "Tables" if len(domains.places) == 1 else f"Tables: {place}"
        content: list[Table | Drawing] = [*_result_tables(domains, place), *_paper_tables(domains, place)]
        content += _margin(domains, place)
        found.append(Section(f"tables-{place}", title, content=content))
    return found


@functools.cache
def published() -> dict[str, Any]:
    """The paper's tables, as data."""
    return read_yaml(resources.folder("benchmarks/paper") / "da_mldg.yaml")


# -- what can be told apart -------------------------------------------------------------------------------------------


def _verdicts(domains: Domains) -> Section:
    verdicts, lead, told = [], [], list[bool]()
    if any(result.option("evalrc", "verdicts") is False for result in domains.gathered.results):
        return Section("verdicts", "What can be told apart", ("Numbers of a trial that mean nothing: no verdicts.",))
    for place in domains.places:
        mine = {cell: domains.gathered.cells[cell] for cell in domains.files if _place(cell) == place}
        for metric in (UAR, ACCURACY):
            chance = max((gap for own in _gaps(domains, place, metric).values() for gap in own), default=0.0)
            by_scenario: dict[str, list[str]] = {}
            for each in paired(mine, BASELINE, metric.name, FEWEST_SPEAKERS):
                cell = next(c for c in mine if c.setting == each.setting)
                told += [each.told_apart and abs(each.difference.mean) > chance] * (metric is UAR)
                by_scenario.setdefault(each.setting.scenario, []).append(_verdict(each, speakers(mine[cell]), chance))
            title = f"{_title(metric)} against {BASELINE}{f' ({place})' if len(domains.places) > 1 else ''}"
            if by_scenario:
                verdicts.append((title, [(scenario, by_scenario[scenario]) for scenario in by_scenario]))
        lead += [f"{place}: {text}" if len(domains.places) > 1 else text for text in _about_nulls(domains, place)]
    opening = (
        "Differences on the same utterances in the same trials. Intervals are for further speakers of the target and "
        "further trials; p values are corrected over all systems and scenarios (Holm). Scenarios share sources and "
        "targets, so that means over scenarios have no interval.",
    )
    some = f"{sum(told)} of {len(told)} comparisons tell" if any(told) else f"None of {len(told)} comparisons tells"
    headline = f"{some} a system apart from {BASELINE} in {_title(UAR)}." if told else ""
    return Section("verdicts", "What can be told apart", (*opening, *lead), verdicts, headline=headline)


def _verdict(each: Comparison, many: int, chance: float) -> str:
    """One comparison in words, without its full stop.

    Args:
        many: speakers of the target.
        chance: the most that a null row differs by.
    """
    difference = f"the difference here is {each.metric.shown(each.difference.mean, '+')} points"
    if many < FEWEST_SPEAKERS:
        heard = f"the target has {many} speaker{'s' * (many != 1)} to test"
        return f"{each.first} and {each.second}: {heard}, so that nothing is said about others; {difference}"
    if each.too_few:
        trials = f"{len(each.raters)} trial{'s' * (len(each.raters) != 1)}"
        return (
            f"{each.first} and {each.second}: {trials} say too little (a verdict needs {FEWEST_RATERS}); {difference}"
        )
    if each.told_apart and abs(each.difference.mean) <= chance:
        largest = f"null rows differ by up to {each.metric.shown(chance)}"
        return f"{each.first} and {each.second} are not told apart: {difference}, and {largest}"
    return each.verdict


def _gaps(domains: Domains, place: Place, metric: Metric) -> dict[str, list[float]]:
    """Null row -> by how much it differs from what it repeats, in each scenario."""
    found: dict[str, list[float]] = {}
    for row, base in nulls().items():
        for scenario in domains.scenarios(place):
            pair = [domains.cell(place, scenario, name) for name in (row, base)]
            spans = [None if cell is None else domains.span(cell, metric) for cell in pair]
            if spans[0] is not None and spans[1] is not None:
                found.setdefault(row, []).append(abs(spans[0].mean - spans[1].mean))
    return found


def _about_nulls(domains: Domains, place: Place) -> Iterator[str]:
    """What rows that differ by chance alone, or by their rate, differ by."""
    gaps = _gaps(domains, place, UAR)
    said = [f"{row} by {100 * max(own):.1f} (mean {100 * sum(own) / len(own):.1f})" for row, own in gaps.items()]
    if said:
        yield (
            f"Null rows: in UAR these differ from what they repeat, over all scenarios at most, in points: "
            f"{'; '.join(said)}. What does not differ by more than all of them is not called better."
        )
    if missing := [row for row in nulls() if row not in gaps]:
        yield f"Null rows without results: {', '.join(missing)}. Without them no small difference can be judged."


# -- tables of results ------------------------------------------------------------------------------------------------


def _result_tables(domains: Domains, place: Place) -> Iterator[Table]:
    rows, recall_rows = [], []
    for scenario, system, cell in domains.cells(place):
        files, trials = domains.files[cell], domains.gathered.cells[cell]
        diverged = sum(result.diverged is not None for result in files)
        spans = [domains.shown(cell, metric) for metric in _SHOWN]
        calibration = [rater_calibration(list(episodes)).ece for episodes in trials.values()]
        ece = Value(100 * sum(calibration) / len(calibration))
        rows.append((scenario, system, *spans, ece, str(len(files)), str(diverged) if diverged else "—"))
        of_classes: list[TableCell] = [ABSENT if each is None else Value(100 * each) for each in recalls(trials)]
        recall_rows.append((scenario, system, *of_classes))
    columns = [Column(_title(metric), interval=True) for metric in _SHOWN]
    yield _scenario_table(domains, place)
    yield Table(
        domains.key("domains", place),
        f"All systems ({place})",
        "UAR, accuracy, macro-F1 over the classes that occur, and class-wise calibration error (ECE) in percent; NLL "
        "in nats. Means over trials, with 95 % intervals for further speakers of the target and further trials; none "
        f"where it has fewer than {FEWEST_SPEAKERS} speakers. A trial that diverged counts with what it had learned "
        "until then.",
        (*map(Column, ("scenario", "system")), *columns, Column("ECE"), Column("trials"), Column("diverged")),
        tuple(rows),
        grouped=1,
    )
    classes = domains.gathered.results[0].classes
    yield Table(
        domains.key("recalls", place),
        f"Recall of each class ({place})",
        "Percent, means over trials; — where the target has no such class.",
        tuple(map(Column, ("scenario", "system", *classes))),
        tuple(recall_rows),
        grouped=1,
    )


def _scenario_table(domains: Domains, place: Place) -> Table:
    rows = []
    for scenario in domains.scenarios(place):
        cell = next(cell for name, _, cell in domains.cells(place) if name == scenario)
        files, trials = domains.files[cell], domains.gathered.cells[cell]
        queries = files[0].counts.queries_used
        constant = Value(100 * constant_accuracy(trials))
        row = (scenario, " + ".join(files[0].raters.train), target_of(files[0]), str(queries), str(speakers(trials)))
        rows.append((*row, constant))
    return Table(
        domains.key("scenarios", place),
        f"What is learned from and what is tested ({place})",
        "Constant: accuracy in percent of whoever knows nothing but the target's commonest class.",
        tuple(map(Column, ("scenario", "sources", "target", "utterances", "speakers", "constant"))),
        tuple(rows),
    )


# -- the paper's tables -----------------------------------------------------------------------------------------------


def _paper_tables(domains: Domains, place: Place) -> Iterator[Table]:
    """Tables I to IV beside ours, where there are results of their scenarios."""
    known, content = domains.scenarios(place), published()
    if any(name in known for name in content["table1"]):
        yield _table_one(domains, place)
    if any(name in known for name in content["table2"]["rows"]):
        table = content["table2"]
        printed = {name: (None, None, None, average) for name, average in table["average"].items()}
        yield _beside(domains, place, "table2", table["rows"], table["printed"], {}, averages=printed)
    if any(name in known for name in content["scenarios"]):
        for key in ("table3", "table4"):
            weights = dict(zip(content["scenarios"], content["utterances"], strict=True))
            printed = {name: (*three, None) for name, three in content[key].get("averages", {}).items()}
            yield _beside(domains, place, key, content["scenarios"], content[key]["printed"], weights, averages=printed)


_NAMES = {
    "table2": "Table II (English corpora)",
    "table3": "Table III (log-mel, ResNet18)",
    "table4": "Table IV (TRILLsson)",
}


def _beside(
    domains: Domains,
    place: Place,
    key: str,
    scenarios: Sequence[str],
    accuracy: Mapping[str, Sequence[float]],
    weights: Mapping[str, int],
    averages: Mapping[str, Sequence[float | None]],
) -> Table:
    """Accuracies of the paper and ours, and their averages: as printed, as the rows give them, and ours."""
    rows: list[tuple[TableCell, ...]] = []
    for system in dict.fromkeys([*accuracy, *domains.systems(place)]):
        if system in accuracy:
            printed = averages.get(system, (None,) * 4)
            plain = printed[3] if printed[3] is not None else printed[0]
            shown = [plain, printed[1], printed[2]]
            rows.append(
                (
                    system,
                    "paper",
                    *map(_of_paper, accuracy[system]),
                    *(ABSENT if v is None else _of_paper(v) for v in shown),
                )
            )
            counts = [weights.get(name, 1) for name in scenarios]
            rows.append((system, "from its rows", *[ABSENT] * len(scenarios), *_three(accuracy[system], counts)))
        cells = [domains.cell(place, scenario, system) for scenario in scenarios]
        spans = [None if cell is None else domains.span(cell, ACCURACY) for cell in cells]
        ours = [domains.shown(cell, ACCURACY, MISSING) for cell in cells]
        means: Sequence[TableCell] = [MISSING] * 3
        if all(span is not None for span in spans):
            counts = [domains.files[cell][0].counts.queries_used for cell in cells if cell is not None]
            means = _three([100 * span.mean for span in spans if span is not None], counts)
        if system in accuracy or any(span is not None for span in spans):
            rows.append((system, "ours", *ours, *means))
    return Table(
        domains.key(key, place),
        f"{_NAMES[key]} beside ours ({place})",
        "Accuracy in percent. UM, WM, GM: unweighted, weighted by utterances, geometric mean over scenarios. “From its "
        "rows” is recomputed from the printed accuracies; where it differs from the printed averages, those do not "
        "follow from the table.",
        (
            *(Column("system"), Column("whose")),
            *(Column(name, interval=True) for name in scenarios),
            *map(Column, _MEANS),
        ),
        tuple(rows),
        grouped=1,
    )


def _table_one(domains: Domains, place: Place) -> Table:
    rows = []
    for scenario, (mean, deviation) in published()["table1"].items():
        ours = domains.shown(domains.cell(place, scenario, BASELINE), ACCURACY, MISSING)
        rows.append((scenario, Value(mean, decimals=2), Value(deviation, decimals=2), ours))
    return Table(
        domains.key("table1", place),
        f"Table I's last column beside {BASELINE} ({place})",
        "Accuracy in percent, one corpus alone, its speakers apart. TESS has two speakers: what the paper prints is "
        "not to be had with the speakers apart.",
        (*map(Column, ("scenario", "paper", "its deviation")), Column("ours", interval=True)),
        tuple(rows),
    )


def _three(values: Sequence[float], weights: Sequence[float]) -> tuple[Value, ...]:
    found = Averages.of(values, weights)
    return tuple(Value(v, decimals=2) for v in (found.unweighted, found.weighted, found.geometric))


def _of_paper(number: float) -> Value:
    return Value(number, decimals=2)


# -- the margin over training -----------------------------------------------------------------------------------------


def _margin(domains: Domains, place: Place) -> Iterator[Drawing]:
    """The domain-shift margin, step by step, of the systems that have one."""
    found: dict[str, list[Sequence[tuple[float, float]]]] = {}
    for _, system, cell in domains.cells(place):
        for result in domains.files[cell]:
            if result.curves and CURVE in result.curves:
                found.setdefault(system, []).append(result.curves[CURVE])
    if not found:
        return
    with style():
        figure, axes = new_figure(1, 1, 3.4)
        ax, shades, handles = axes[0][0], colours(list(found)), []
        for system, curves in found.items():
            for curve in curves:
                steps, values = zip(*curve, strict=True)
                (line,) = ax.plot(steps, values, color=shades[system], alpha=0.45, linewidth=1)
            handles.append(line)
        ax.set_xlabel("step")
        ax.set_ylabel("domain-shift margin")
        legend_below(figure, handles, list(found))
        key, title = domains.key("margin", place), f"The domain-shift margin over training ({place})"
        rows = [
            (s, str(at), str(x), Value(y, decimals=3)) for s in found for at, c in enumerate(found[s]) for x, y in c
        ]
        columns = tuple(map(Column, ("system", "line", "step", "margin")))
        yield finished(
            figure,
            key,
            title,
            "Each line is one scenario and trial. With a margin near 0 the meta-test set hardly counts; it has no "
            "bound but generalrc.margin.largest.",
            Table(key, title, "", columns, tuple(rows)),
        )


def target_of(result: Result) -> str:
    """The corpus that a result was tested on: what stands before its utterances' names."""
    return result.episodes[0].query[0].partition("/")[0]


def _place(cell: Cell) -> Place:
    return Place(cell.corpus, cell.upstream, cell.scope)


def _title(metric: Metric) -> str:
    return _TITLES.get(metric.name, metric.title)
