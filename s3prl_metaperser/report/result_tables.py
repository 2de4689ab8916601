"""Tables 1, 2 and A4 and Figure 2's data: ours with intervals, the paper's numbers beside them."""

from __future__ import annotations

from s3prl_metaperser.evaluation.statistics import intervals
from s3prl_metaperser.methods import table2_rows
from s3prl_metaperser.protocol.splits import SCENARIOS
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.gathered import META, SWITCHES, Gathered, Study, is_ablation, metric_columns
from s3prl_metaperser.report.tables import ABSENT, MISSING, Cell, Column, Table, Value

_INTERVALS = "Percent; means over seeds, then test raters, with 95 % intervals for further raters and utterances."


def result_tables(gathered: Gathered, study: Study, suffix: str) -> list[Table]:
    """Tables 1, 2, A4 and Figure 2's data of one corpus and scope."""
    makers = (table1, table2, table_a4, figure2)
    return [maker(gathered, study, suffix) for maker in makers]


def table1(gathered: Gathered, study: Study, suffix: str = "") -> Table:
    """Every system in both scenarios on every upstream."""
    shots = gathered.main_shots(study)
    rows = []
    for scenario, upstream in gathered.blocks(study):
        for system in gathered.systems(study):
            cell = gathered.find(study, upstream, scenario, system, shots)
            name = f"{system} (frozen)" if cell is not None and cell.scope != study.scope else system
            row: list[Cell] = [scenario, upstream, name]
            for metric, _ in metric_columns():
                printed = paper.table1(scenario, paper.paper_upstream(upstream), system, metric)
                row += [gathered.value(cell, metric), printed if shots == paper.TABLE1_SHOTS else ABSENT]
            rows.append(tuple(row))
    return Table(
        key=f"table1{suffix}",
        title=f"Table 1: all systems, K={shots} ({study})",
        caption=f"{_INTERVALS} {_beside(study)}",
        columns=(Column("scenario"), Column("upstream"), Column("system"), *_pairs()),
        rows=tuple(rows),
        grouped=2,
        notes=_shots_note(shots),
    )


def table2(gathered: Gathered, study: Study, suffix: str = "") -> Table:
    """The ablation: what INI, CSMT, DA and LSLR each add."""
    shots = gathered.main_shots(study)
    named = gathered.switches(study, shots)
    wanted = [frozenset(row) for row in table2_rows().values()]
    wanted += sorted({s for s in named.values() if s not in wanted}, key=lambda s: (len(s), sorted(s)))
    rows, unordered = [], []
    # The paper's ablation is of unseen data alone.
    with_variants = {(cell.scenario, cell.upstream) for cell in gathered.of(study) if is_ablation(cell.system)}
    for scenario, upstream in gathered.blocks(study):
        if scenario == "seen" and (scenario, upstream) not in with_variants:
            continue
        printed_name = paper.paper_upstream(upstream)
        for switches in wanted:
            here = [cell for cell in named if (cell.scenario, cell.upstream) == (scenario, upstream)]
            cells = [cell for cell in here if named[cell] == switches]
            cell = max(cells, key=lambda cell: len(cell.system), default=None)  # a row's own name before the method's
            words = " + ".join(name for name in SWITCHES if name in switches) or "none"
            row: list[Cell] = [scenario, upstream, words, *("✓" if name in switches else "" for name in SWITCHES)]
            printed_row = {frozenset(): "none", frozenset(SWITCHES): "all_four"}.get(switches, "")
            for metric, _ in metric_columns():
                printed = paper.table2(printed_row, scenario, printed_name, metric)
                row += [gathered.value(cell, metric), printed if shots == paper.TABLE1_SHOTS else ABSENT]
            rows.append(tuple(row))
        if scenario == "unseen" and printed_name in paper.UPSTREAMS:
            unordered.append(_unordered(upstream, printed_name))
    notes = [*_shots_note(shots)]
    if unordered:
        notes.append(
            "The paper's rows 2 to 5 are INI alone and INI with one of CSMT, DA and LSLR each, in an order that its "
            f"text does not preserve. In the printed order: {'; '.join(unordered)}."
        )
    return Table(
        key=f"table2{suffix}",
        title=f"Table 2: parts of Meta-PerSER, K={shots} ({study})",
        caption="INI: starts from SSL-E; CSMT: combined-set meta-training; DA: derivative annealing; LSLR: learned "
        f"rates. {_INTERVALS} {_beside(study)}",
        columns=(
            Column("scenario"),
            Column("upstream"),
            Column("parts"),
            *(Column(name) for name in SWITCHES),
            *_pairs(),
        ),
        rows=tuple(rows),
        grouped=2,
        notes=tuple(notes),
    )


def table_a4(gathered: Gathered, study: Study, suffix: str = "") -> Table:
    """Meta-PerSER by the number of support samples K."""
    shots = sorted({*paper.SHOTS, *(cell.shots for cell in gathered.of(study) if cell.system == META)})
    rows = []
    for scenario, upstream in gathered.blocks(study):
        for k in shots:
            cell = gathered.find(study, upstream, scenario, META, k)
            row: list[Cell] = [scenario, upstream, str(k)]
            for metric, _ in metric_columns():
                printed = paper.table_a4(scenario, paper.paper_upstream(upstream), k, metric)
                row += [gathered.value(cell, metric), printed]
            rows.append(tuple(row))
    return Table(
        key=f"table_a4{suffix}",
        title=f"Table A4: Meta-PerSER by number of support samples K ({study})",
        caption=f"{_INTERVALS} {_beside(study)}",
        columns=(Column("scenario"), Column("upstream"), Column("K"), *_pairs()),
        rows=tuple(rows),
        grouped=2,
    )


def figure2(gathered: Gathered, study: Study, suffix: str = "") -> Table:
    """Table A4 averaged over upstreams."""
    mine = [cell for cell in gathered.of(study) if cell.system == META]
    shots = sorted({*paper.SHOTS, *(cell.shots for cell in mine)})
    rows, notes = [], []
    for scenario in SCENARIOS:
        upstreams = _upstreams_with_every_k([cell for cell in mine if cell.scenario == scenario])
        for k in shots:
            row: list[Cell] = [scenario, str(k)]
            spans = _averaged(gathered, study, scenario, k, upstreams)
            for metric, _ in metric_columns():
                row += [spans[metric] if spans else MISSING, paper.figure2(scenario, k, metric)]
            rows.append(tuple(row))
        if upstreams:
            notes.append(f"{scenario}: ours is averaged over {', '.join(upstreams)}.")
    return Table(
        key=f"figure2{suffix}",
        title=f"Figure 2's data: Meta-PerSER by K, averaged over upstreams ({study})",
        caption=f"{_INTERVALS} Ours is averaged over the upstreams that have a result for every K that any has. "
        f"{_beside(study)}",
        columns=(Column("scenario"), Column("K"), *_pairs()),
        rows=tuple(rows),
        grouped=1,
        notes=tuple(notes),
    )


def _averaged(gathered: Gathered, study: Study, scenario: str, k: int, upstreams: list[str]) -> dict[str, Value] | None:
    """Numbers averaged over upstreams: with equally many episodes, pooling a rater's episodes is that average."""
    cells = [gathered.find(study, upstream, scenario, META, k) for upstream in upstreams]
    if not cells or None in cells:
        return None
    raters = [rater for rater in gathered.cells[cells[0]] if all(rater in gathered.cells[cell] for cell in cells)]
    pooled = {rater: [e for cell in cells for e in gathered.cells[cell][rater]] for rater in raters}
    sizes = {len(gathered.cells[cell][rater]) for cell in cells for rater in raters}
    if not raters or len(sizes) > 1:
        return None
    expected = len(gathered.test_raters(study.corpus))
    note = f"{len(raters)} of {expected} raters" if len(raters) < expected else ""
    spans = intervals(pooled, gathered.draws)
    return {name: Value(100 * s.mean, 100 * s.low, 100 * s.high, note) for name, s in spans.items()}


def _upstreams_with_every_k(cells) -> list[str]:
    every = {cell.shots for cell in cells}
    names = sorted({cell.upstream for cell in cells})
    return [name for name in names if {cell.shots for cell in cells if cell.upstream == name} == every]


def _pairs() -> list[Column]:
    return [Column(whose, name, whose == "ours") for _, name in metric_columns() for whose in ("ours", "paper")]


def _beside(study: Study) -> str:
    differs = []
    if study.corpus != paper.CORPUS:
        differs.append(f"the corpus here is {study.corpus}")
    if study.scope != paper.SCOPE:
        differs.append("the upstream here is frozen")
    told = "The paper's numbers are of IEMOCAP, with the whole model fine-tuned"
    if not differs:
        return f"{told}. “—”: the paper has no such number."
    return f"{told}; {' and '.join(differs)}, so they stand beside ours for orientation only. “—”: the paper has none."


def _shots_note(shots: int) -> tuple[str, ...]:
    if shots == paper.TABLE1_SHOTS:
        return ()
    return (f"K={shots} here and {paper.TABLE1_SHOTS} in the paper, so that none of its numbers stand beside ours.",)


def _unordered(upstream: str, printed_name: str) -> str:
    parts = []
    for metric, name in metric_columns():
        parts.append(f"{name} {', '.join(f'{value:.1f}' for value in paper.table2_unordered(printed_name, metric))}")
    return f"{upstream}: {'; '.join(parts)}".replace("; ", " / ")
