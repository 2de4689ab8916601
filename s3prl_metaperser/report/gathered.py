"""All results of a report: their cells, their numbers, and what was expected and is not there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from s3prl_metaperser.evaluation.collect import by_cell
from s3prl_metaperser.evaluation.corpora_apart import reader_of
from s3prl_metaperser.evaluation.criteria import said
from s3prl_metaperser.evaluation.metrics import Metric, metric_for
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.statistics import Interval, Scored, intervals
from s3prl_metaperser.evaluation.summary import Cell, Summary, group, load_by_task, summarise_all
from s3prl_metaperser.methods import DEFAULT_SYSTEM, facts_of, systems, table2_rows
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.tables import ABSENT, Absent, Column, Row, Table, Value
from s3prl_metaperser.tasks import Task, task_of

META = DEFAULT_SYSTEM
#: Part of the method -> the option that switches it on.
PARTS = facts_of(META).parts
#: The leading columns of most tables.
BLOCK = (Column("scenario"), Column("upstream"))
#: A drawing takes half a second, and somebody to look at it: of more upstreams there are tables.
DRAWN = 6
PLACE = (*BLOCK, Column("system"))


@dataclass(frozen=True)
class Gathered:
    """Results, read and summarised.

    Attributes:
        task: what they are results of.
        results: as read from the files.
        cells: cell -> test rater -> episodes.
        summaries: cell -> its numbers.
        suffix: of file names and anchors, where the report has other tasks, too.
    """

    task: Task
    results: Sequence[Result]
    cells: Mapping[Cell, Mapping[str, Sequence[Scored]]]
    summaries: Mapping[Cell, Summary]
    suffix: str = ""

    def metrics(self, cell: Cell) -> tuple[Metric, ...]:
        """Those that the task reports of the cell's label set; the first is that of verdicts."""
        label_set = next(iter(self.cells[cell].values()))[0].label_set
        return tuple(metric_for(label_set, name) for name in self.task.metrics(label_set))

    @cached_property
    def files(self) -> dict[Cell, list[Result]]:
        """Cell -> its results, one a fold and replicate."""
        return by_cell(self.results)

    @property
    def protocol(self) -> str:
        """``paper`` or ``tuned``; all results share it."""
        return next(iter(self.cells)).protocol

    def studies(self) -> list[Study]:
        """Each corpus and scope.

        Where the only frozen systems are those that have a row among fine-tuned systems, they have no tables of their
        own: all but their rows would be missing for good.
        """
        found = sorted({(cell.corpus, cell.scope) for cell in self.cells})
        own = [(corpus, scope) for corpus, scope in found if scope != "frozen" or not self.only_guests(corpus)]
        return [
            Study(self, *names, suffix=self.suffix + ("_".join(("", *map(_slug, names))) if len(own) > 1 else ""))
            for names in own
        ]

    def only_guests(self, corpus: str) -> bool:
        """Whether all frozen cells of a corpus stand in the tables of its fine-tuned ones."""
        mine = {(cell.scope, cell.system) for cell in self.cells if cell.corpus == corpus}
        frozen = {system for scope, system in mine if scope == "frozen"}
        return any(scope == "finetuned" for scope, _ in mine) and frozen <= guests()

    def test_raters(self, corpus: str) -> list[str]:
        """The raters that a complete cell of this corpus has tested."""
        mine = [result for result in self.results if result.cell.corpus == corpus]
        for result in mine:
            if named := result.option("datarc", "test_raters"):
                return list(named)
        by_fold = {result.cell.fold: result.raters.tested for result in mine}
        tested = [rater for fold in sorted(by_fold) for rater in by_fold[fold]]
        if set(tested) <= set(paper.test_raters()):
            return paper.test_raters()
        if any(len(raters) > 1 for raters in by_fold.values()):
            return tested  # from pools: who validates one fold need not be tested in another
        validated = {rater for result in mine for rater in result.raters.validating}
        return tested + sorted(validated - set(tested))

    def option(self, corpus: str, *path: str, default: Any = None) -> Any:
        """An option below ``downstream_expert`` in the first result of a corpus."""
        result = next(r for r in self.results if r.cell.corpus == corpus)
        return result.option(*path, default=default)


@dataclass(frozen=True)
class Study:
    """What one set of tables is about: the results of one corpus and scope.

    Attributes:
        everything: the results of the report.
        suffix: of its tables' and figures' file names.
    """

    everything: Gathered
    corpus: str
    scope: str
    suffix: str = ""

    def __str__(self) -> str:
        how = {"frozen": "frozen upstream", "finetuned": "fine-tuned upstream"}.get(self.scope, self.scope)
        return f"{self.corpus}, {how}"

    def table(
        self,
        key: str,
        title: str,
        caption: str,
        columns: Iterable[Column],
        rows: Iterable[Iterable],
        grouped: int = 2,
        notes: Iterable[str] = (),
    ) -> Table:
        """A table of this study."""
        made: tuple[Row, ...] = tuple(tuple(row) for row in rows)
        caption = " ".join(filter(None, (caption, self.selection, self.replicates)))
        return Table(f"{key}{self.suffix}", f"{title} ({self})", caption, tuple(columns), made, grouped, tuple(notes))

    @cached_property
    def replicates(self) -> str:
        """Over which training seeds and corpora drawn anew means are; empty where there is one of each."""
        mine = self.results
        folds = {(r.key, r.cell.fold) for r in mine}
        if len(folds) == len(mine):
            return ""
        seeds, corpora = {r.cell.training_seed for r in mine}, {r.hashes.corpus for r in mine}
        over = [f"training seeds {', '.join(map(str, sorted(seeds)))}"] if len(seeds) > 1 else []
        over += [f"{len(corpora)} corpora drawn with other seeds"] if len(corpora) > 1 else []
        fewer = "" if len(mine) == len(folds) * len(seeds) * len(corpora) else " (not all of them in every fold)"
        return f"Means are over {' and '.join(over)}, too{fewer}; intervals count how these differ." if over else ""

    @cached_property
    def selection(self) -> str:
        """By which criterion outer steps and the choices of the protocol ``tuned`` were selected; empty where nothing
        was."""
        by_criterion: dict[str, set[str]] = {}
        for result in self.results:
            if facts_of(result.cell.system).trains or result.tuned is not None:
                words = said(result.option("metarc", "criterion", default="loss"), result.answers)
                by_criterion.setdefault(words, set()).add(result.cell.system)
        named = sorted(by_criterion)
        if len(named) > 1:
            named = [f"{words} ({', '.join(sorted(by_criterion[words]))})" for words in named]
        return f"Selected by {'; '.join(named)}." if named else ""

    @property
    def complete(self) -> bool:
        """Whether its tables have every row and number of the paper's."""
        return paper.spec().task == self.everything.task.name and paper.has_its_rows(reader_of(self.corpus))

    @cached_property
    def cells(self) -> list[Cell]:
        """Its cells, and those of a frozen study that has no tables of its own."""
        with_guests = self.scope == "finetuned" and self.everything.only_guests(self.corpus)
        scopes = {self.scope, "frozen"} if with_guests else {self.scope}
        return [cell for cell in self.everything.cells if cell.corpus == self.corpus and cell.scope in scopes]

    @cached_property
    def results(self) -> list[Result]:
        """Those of its cells."""
        return [result for cell in self.cells for result in self.everything.files[cell]]

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the corpus's label set; the first is that of verdicts and of tables with room for one."""
        return self.everything.metrics(self.cells[0])

    @cached_property
    def trial(self) -> bool:
        """Whether a result says that its numbers mean nothing (``evalrc.verdicts``)."""
        return any(result.option("evalrc", "verdicts") is False for result in self.results)

    @property
    def method(self) -> str:
        """The system that the others are held against: the task's default one."""
        return self.everything.task.default_system

    @property
    def unit(self) -> str:
        """What a mean is taken over: ``rater``."""
        return self.everything.task.unit

    @property
    def units(self) -> str:
        """The same in the plural."""
        return self.everything.task.units

    @cached_property
    def shots(self) -> int:
        """K of the tables that have one: the paper's, or else the K with the most results."""
        counts = Counter(cell.shots for cell in self.cells)
        if paper.spec().shots in counts:
            return paper.spec().shots
        return max(counts, key=lambda shots: (counts[shots], shots))

    @cached_property
    def scenarios(self) -> list[str]:
        """The paper's scenarios, where the tables have its rows, then others with results."""
        known = list(paper.spec().scenarios) if self.complete else []
        return known + sorted({cell.scenario for cell in self.cells} - set(known))

    @cached_property
    def blocks(self) -> list[tuple[str, str]]:
        """(scenario, upstream) of a table's blocks: those with results first, then the rest of the paper's."""
        mine = {(cell.scenario, cell.upstream) for cell in self.cells}
        upstreams = sorted({upstream for _, upstream in mine}, key=paper.place_of_upstream)
        if self.complete:
            names = {paper.paper_upstream(upstream) for upstream in upstreams}
            upstreams += [upstream for upstream in paper.spec().upstreams if upstream not in names]
        every = [(scenario, upstream) for upstream in upstreams for scenario in self.scenarios]
        return sorted((block for block in every if self.complete or block in mine), key=lambda block: block not in mine)

    @cached_property
    def drawn(self) -> list[str]:
        """Upstreams whose figures are drawn: the first :data:`DRAWN` that have results."""
        mine = {cell.upstream for cell in self.cells}
        return [name for name in dict.fromkeys(upstream for _, upstream in self.blocks) if name in mine][:DRAWN]

    @cached_property
    def systems(self) -> list[str]:
        """Rows of a table of all systems: the paper's, then others that have results; variants have their own table."""
        found = sorted({cell.system for cell in self.cells})
        known = [name for name in table1_rows(self.scope) if self.complete or name in found]
        return known + [n for n in found if n not in known and (not is_ablation(n) or n in self.whole)]

    @cached_property
    def whole(self) -> set[str]:
        """Variants of the method with every part on (``Meta-PerSER:all``), where the method itself is run with a part
        off: then they are other systems, with rows and comparisons of their own."""
        own = [r for r in self.results if r.cell.system == META]
        partial = any(not r.option(*option.split(".")[1:], default=True) for r in own for option in PARTS.values())
        variants = {cell.system for cell in self.cells if is_ablation(cell.system)} if partial else set()
        return {name for name in variants if all(facts_of(name).fixed.get(option) is True for option in PARTS.values())}

    @cached_property
    def main_cells(self) -> list[Cell]:
        """The cells of the table of all systems that have results, block by block in the order of its rows."""
        places = [(upstream, scenario, system) for scenario, upstream in self.blocks for system in self.systems]
        found = (self.find(*place, self.shots) for place in places)
        return list(dict.fromkeys(cell for cell in found if cell is not None))

    @cached_property
    def switches(self) -> dict[Cell, frozenset[str]]:
        """Cells of Meta-PerSER and its variants with K ``shots`` -> which of its parts were on, by their options.

        By cell, not by name: one name may stand for other options in another scenario or on another upstream.
        """
        found = {}
        for result in self.everything.results:
            cell = result.key
            mine = (cell.corpus, cell.scope, cell.shots) == (self.corpus, self.scope, self.shots)
            if mine and META in (cell.system, facts_of(cell.system).variant_of):
                on = {part: result.option(*option.split(".")[1:], default=True) for part, option in PARTS.items()}
                found[cell] = frozenset(part for part, value in on.items() if value)
        return found

    def find(self, upstream: str, scenario: str, system: str, shots: int) -> Cell | None:
        """The cell that has results for this place in a table."""
        scopes = [self.scope, "frozen"] if facts_of(system).guest else [self.scope]
        for scope in scopes:
            cell = Cell(self.corpus, upstream, scope, scenario, system, shots, self.everything.protocol)
            if cell in self.everything.cells:
                return cell
        return None

    def name(self, cell: Cell) -> str:
        """A cell's system as tables have it: with its scope, where that is another one than the table's."""
        return cell.system if cell.scope == self.scope else f"{cell.system} ({cell.scope})"

    def summary(self, cell: Cell) -> Summary:
        """A cell's numbers."""
        return self.everything.summaries[cell]

    def spans(self, cells: Sequence[Cell]) -> tuple[Mapping[str, Interval] | None, str]:
        """Metric -> the mean over cells with its interval, and which raters are lacking; None without cells.

        With equally many episodes, pooling a rater's episodes is that mean; with other numbers there is none.
        """
        if not cells:
            return None, ""
        if len(cells) == 1:
            return self.summary(cells[0]).intervals, self.incomplete(cells[0])
        episodes = [self.everything.cells[cell] for cell in cells]
        raters = [rater for rater in episodes[0] if all(rater in own for own in episodes)]
        if not raters or len({len(own[rater]) for own in episodes for rater in raters}) > 1:
            return None, ""
        pooled = {rater: [episode for own in episodes for episode in own[rater]] for rater in raters}
        return intervals(pooled), self._lacking(len(raters))

    @cached_property
    def test_raters(self) -> list[str]:
        """The raters that a complete cell has tested."""
        return self.everything.test_raters(self.corpus)

    def incomplete(self, cell: Cell) -> str:
        """``2 of 5 raters`` where folds are missing, else nothing."""
        return self._lacking(len(self.everything.cells[cell]))

    def _lacking(self, tested: int) -> str:
        expected = len(self.test_raters)
        return f"{tested} of {expected} {self.units}" if tested < expected else ""


def gather(folder: Path, protocol: str | None = None) -> list[Gathered]:
    """Read every result below ``folder`` and compute its numbers, task by task.

    Raises:
        UserError: no results, results that do not go together, or those of a task that is not installed.
    """
    found = []
    by_task = load_by_task(folder, protocol, lambda name: task_of(name).free_options())
    for name, results in by_task.items():
        task, cells = task_of(name), group(results)
        suffix = f"_{name}" if len(by_task) > 1 else ""
        found.append(Gathered(task, results, cells, summarise_all(cells), suffix))
    return found


def _slug(name: str) -> str:
    """A name as a part of a file's name: ``demo (raters opposed)`` is ``demo-raters-opposed``."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def is_ablation(system: str) -> bool:
    """Whether a system is a row of Table 2 (``Meta-PerSER:INI+DA``), and so none of Table 1."""
    return facts_of(system).variant_of == META


def first_part() -> str:
    """The variant of the method that has its first part alone: what the others are held against."""
    return next(name for name, on in table2_rows().items() if len(on) == 1)


def guests() -> set[str]:
    """Systems that are frozen by definition: their rows among fine-tuned systems come from the frozen scope."""
    return {name for name in systems(finetuned=False).names() if facts_of(name).guest}


def table1_rows(scope: str) -> list[str]:
    """Table 1's rows in a scope, in the paper's order; the frozen scope has twins of the whole model's systems."""
    places = {name: facts_of(name).table1 for name in {*systems(scope == "finetuned").names(), *guests()}}
    known = {name: place for name, place in places.items() if place is not None}
    return sorted(known, key=lambda name: (known[name], name))


def value(metric: Metric, span: Interval | None, note: str = "", *, signed: bool = False) -> Value | Absent:
    """A number as tables have it: with its interval, and what a reader must know of it."""
    if span is None:
        return ABSENT
    notes = [note, f"undefined in {span.undefined} episodes" if span.undefined else ""]
    low, mean, high = (metric.scale * getattr(span, part) for part in ("low", "mean", "high"))
    return Value(mean, low, high, "; ".join(filter(None, notes)), decimals=metric.decimals, signed=signed)


def units(metrics: Sequence[Metric]) -> str:
    """How to read the metrics' numbers, for a caption."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        unit = metric.unit if metric.unit not in ("", metric.title) else ""
        direction = "higher is better" if metric.higher_is_better else "lower is better"
        found.setdefault(", ".join(filter(None, (unit, direction))), []).append(metric.title)
    return "; ".join(f"{', '.join(titles)}: {words}" for words, titles in found.items()) + "."


def k_of(study: Study) -> str:
    """``, K=32`` at the end of a title; nothing where there are no support samples."""
    return f", K={study.shots}" if study.shots else ""


def headline(metric: Metric) -> str:
    """A metric's title at the start of a sentence."""
    return metric.title[0].upper() + metric.title[1:]
