"""All results of a report: their cells, their numbers, and what was expected and is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3prl_metaperser.corpora.iemocap import SUGGESTED
from s3prl_metaperser.evaluation.metrics import METRICS
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.evaluation.statistics import Scored
from s3prl_metaperser.evaluation.summary import Cell, Summary, group, load_results, summarise_all
from s3prl_metaperser.methods import DEFAULT_SYSTEM, facts_of, systems
from s3prl_metaperser.protocol.splits import SCENARIOS
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.tables import MISSING, Missing, Value

META = DEFAULT_SYSTEM
#: Part of the method -> its switch in ``metarc``.
SWITCHES = {part: option.rpartition(".")[2] for part, option in facts_of(META).parts.items()}


@dataclass(frozen=True)
class Study:
    """What one set of tables is about."""

    corpus: str
    scope: str

    def __str__(self) -> str:
        how = {"frozen": "frozen upstream", "finetuned": "fine-tuned upstream"}.get(self.scope, self.scope)
        return f"{self.corpus}, {how}"


@dataclass(frozen=True)
class Gathered:
    """Results, read and summarised.

    Attributes:
        results: as read from the files.
        cells: cell -> test rater -> episodes.
        summaries: cell -> its numbers.
        draws: bootstrap draws.
    """

    results: Sequence[Result]
    cells: Mapping[Cell, Mapping[str, Sequence[Scored]]]
    summaries: Mapping[Cell, Summary]
    draws: int

    @property
    def protocol(self) -> str:
        """``paper`` or ``tuned``; all results share it."""
        return next(iter(self.cells)).protocol

    def studies(self) -> list[Study]:
        """Corpus and scope of each set of tables.

        Where the only frozen system is the one that has a row among fine-tuned systems, it has no tables of its own:
        all but its rows would be missing for good.
        """
        every = {Study(cell.corpus, cell.scope) for cell in self.cells}
        return sorted((study for study in every if not self._is_guest(study)), key=lambda s: (s.corpus, s.scope))

    def _is_guest(self, study: Study) -> bool:
        """Whether all cells of a frozen study stand in the tables of the fine-tuned one of the same corpus."""
        mine = {(cell.corpus, cell.scope, cell.system) for cell in self.cells if cell.corpus == study.corpus}
        found = {system for _, scope, system in mine if scope == study.scope}
        others = {scope for _, scope, _ in mine}
        return study.scope == "frozen" and "finetuned" in others and found <= guests()

    def main_shots(self, study: Study) -> int:
        """K of Table 1: the paper's 32, or else the K with the most results."""
        counts = Counter(cell.shots for cell in self.of(study))
        if paper.TABLE1_SHOTS in counts:
            return paper.TABLE1_SHOTS
        return max(counts, key=lambda shots: (counts[shots], shots))

    def of(self, study: Study) -> list[Cell]:
        """The study's cells, and those of a frozen one that has no tables of its own."""
        scopes = {study.scope}
        if study.scope == "finetuned" and self._is_guest(Study(study.corpus, "frozen")):
            scopes.add("frozen")
        return [cell for cell in self.cells if cell.corpus == study.corpus and cell.scope in scopes]

    def find(self, study: Study, upstream: str, scenario: str, system: str, shots: int) -> Cell | None:
        """The cell that has results for this place in a table."""
        scopes = [study.scope, "frozen"] if facts_of(system).guest else [study.scope]
        for scope in scopes:
            cell = Cell(study.corpus, upstream, scope, scenario, system, shots, self.protocol)
            if cell in self.cells:
                return cell
        return None

    def blocks(self, study: Study) -> list[tuple[str, str]]:
        """(scenario, upstream) of a table's blocks: those with results first, then the rest of the paper's."""
        mine = {(cell.scenario, cell.upstream) for cell in self.of(study)}
        upstreams = sorted({upstream for _, upstream in mine}, key=_place_of_upstream)
        names = {paper.paper_upstream(upstream) for upstream in upstreams}
        upstreams += [upstream for upstream in paper.UPSTREAMS if upstream not in names]
        everything = [(scenario, upstream) for upstream in upstreams for scenario in SCENARIOS]
        return sorted(everything, key=lambda block: block not in mine)

    def systems(self, study: Study) -> list[str]:
        """Table 1's rows: the known systems, then others that have results; the ablation's are Table 2's."""
        known = table1_rows(study.scope)
        found = sorted({cell.system for cell in self.of(study)})
        return known + [name for name in found if name not in known and not is_ablation(name)]

    def switches(self, study: Study, shots: int) -> dict[Cell, frozenset[str]]:
        """Cells of Meta-PerSER and its variants with K ``shots`` -> which of the four parts were on, by their options.

        By cell, not by name: one name may stand for other options in another scenario or on another upstream.
        """
        found = {}
        for result in self.results:
            cell = result.key
            mine = (cell.corpus, cell.scope, cell.shots) == (study.corpus, study.scope, shots)
            if mine and cell.system.split(":")[0] == META:
                switches = {name: result.option("metarc", key, default=True) for name, key in SWITCHES.items()}
                found[cell] = frozenset(name for name, on in switches.items() if on)
        return found

    def value(self, cell: Cell | None, metric: str) -> Value | Missing:
        """A cell's number in points, with its interval and, where raters are lacking, how many there are."""
        if cell is None:
            return MISSING
        span = self.summaries[cell].intervals[metric]
        return Value(100 * span.mean, 100 * span.low, 100 * span.high, self.incomplete(cell))

    def incomplete(self, cell: Cell) -> str:
        """``2 of 5 raters`` where folds are missing, else nothing."""
        there, expected = len(self.cells[cell]), len(self.test_raters(cell.corpus))
        return f"{there} of {expected} raters" if there < expected else ""

    def test_raters(self, corpus: str) -> list[str]:
        """The raters that a complete cell of this corpus has tested."""
        mine = [result for result in self.results if result.cell.corpus == corpus]
        for result in mine:
            if named := result.option("datarc", "test_raters"):
                return list(named)
        tested = {result.cell.fold: result.raters.test for result in mine}
        if set(tested.values()) <= set(SUGGESTED.test_raters):
            return list(SUGGESTED.test_raters)
        validated = {result.raters.validation for result in mine}
        return [tested[fold] for fold in sorted(tested)] + sorted(validated - set(tested.values()))

    def option(self, corpus: str, *path: str, default: Any = None) -> Any:
        """An option below ``downstream_expert`` in the first result of a corpus."""
        result = next(r for r in self.results if r.cell.corpus == corpus)
        return result.option(*path, default=default)


def gather(folder: Path, protocol: str | None = None, draws: int = 2000) -> Gathered:
    """Read every result below ``folder`` and compute its numbers.

    Raises:
        UserError: no results, or results that do not go together.
    """
    results = load_results(folder, protocol)
    cells = group(results)
    return Gathered(results, cells, summarise_all(cells, draws=draws), draws)


def is_ablation(system: str) -> bool:
    """Whether a system is a row of Table 2 (``Meta-PerSER:INI+DA``), and so none of Table 1."""
    return facts_of(system).variant_of == META


def guests() -> set[str]:
    """Systems that are frozen by definition: their rows among fine-tuned systems come from the frozen scope."""
    return {name for name in systems(finetuned=False).names() if facts_of(name).guest}


def table1_rows(scope: str) -> list[str]:
    """Table 1's rows in a scope, in the paper's order; the frozen scope has twins of the whole model's systems."""
    names = {*systems(scope == "finetuned").names(), *guests()}
    return sorted((n for n in names if facts_of(n).table1 is not None), key=lambda name: (facts_of(name).table1, name))


def metric_columns() -> list[tuple[str, str]]:
    """(key, short name) of the three metrics."""
    return [(metric, paper.METRIC_NAMES[metric]) for metric in METRICS]


def _place_of_upstream(name: str) -> tuple[int, str]:
    known = paper.paper_upstream(name)
    return (paper.UPSTREAMS.index(known) if known in paper.UPSTREAMS else len(paper.UPSTREAMS), name)
