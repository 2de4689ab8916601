"""What a paper needs of a report, ready to be copied: a methods paragraph, BibTeX, and a LaTeX table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from s3prl_metaperser.report import paper
from s3prl_metaperser.report.gathered import Study
from s3prl_metaperser.report.part import Part
from s3prl_metaperser.report.sentence import listed
from s3prl_metaperser.report.writers import latex


@dataclass(frozen=True)
class Copy:
    """A text with a button that copies it.

    Attributes:
        key: its anchor.
        prose: wrapped, in the page's own type.
    """

    kind: ClassVar[str] = "copy"

    key: str
    title: str
    text: str
    prose: bool = False


def copies(part: Part) -> list[Copy]:
    """The three of one corpus and scope."""
    study = part.study
    of = "" if len(study.everything.studies()) == 1 else f" ({study})"
    key = f"{study.corpus}-{study.scope}{study.everything.suffix}"
    return [
        Copy(f"methods-{key}", f"Methods paragraph{of}", methods_paragraph(part), prose=True),
        Copy(f"bibtex-{key}", f"BibTeX{of}", paper.spec().bibtex),
        Copy(f"latex-{key}", f"LaTeX table{of}", latex(part.scores)),
    ]


def methods_paragraph(part: Part) -> str:
    """What was done, in the words of a paper, from the results alone."""
    study = part.study
    cells = set(study.main_cells)
    results = [result for result in study.results if result.key in cells]
    first, metric = results[0], study.metrics[0]
    version, code = first.versions.get("s3prl-metaperser", ""), sorted({r.hashes.code[:12] for r in results})
    queries = sorted({r.counts.queries_used for r in results})
    trained = sorted({len(r.raters.train) for r in results})
    seeds = sorted({len(r.cell.seeds) for r in results})
    scenarios = list(dict.fromkeys(cell.scenario for cell in study.main_cells))
    upstreams = list(dict.fromkeys(cell.upstream for cell in study.main_cells))
    systems = list(dict.fromkeys(map(study.name, study.main_cells)))
    tested = {rater for result in results for rater in result.raters.tested}
    said = [
        f"We evaluated {listed(systems, 40)} with s3prl_metaperser {version} (code {listed(code)}) on {study.corpus}, "
        f"upstream {listed(upstreams, 40)} ({'frozen' if study.scope == 'frozen' else 'fine-tuned'}), "
        f"scenario{'s' * (len(scenarios) > 1)} {listed(scenarios)}, protocol {study.everything.protocol}.",
        f"Each of {len(tested)} test {study.units} was adapted to with K = {study.shots} utterances and "
        f"tested on Q = {_span(queries)} others, {_span(seeds)} seeds each; {_span(trained)} other {study.units} "
        "trained the model. Scores are means over seeds, then "
        f"{study.units}, with 95 % intervals for further {study.units} and utterances.",
        _tests(part, metric.title),
        *_lacking(study),
    ]
    return " ".join(said)


def _lacking(study: Study) -> list[str]:
    """A sentence on systems that were not tested on everybody; none where all were."""
    of = len(study.test_raters)
    found = [(cell, len(study.summary(cell).per_rater)) for cell in study.main_cells]
    few = [f"{study.name(cell)} ({cell.scenario}, {cell.upstream}) on {n}" for cell, n in found if n < of]
    return [f"Results are incomplete: of {of} test {study.units}, {listed(few, 40)}."] if few else []


def _tests(part: Part, metric: str) -> str:
    study: Study = part.study
    at = [c for q in part.questions for c in q.comparisons if c.metric.title == metric and not c.too_few]
    at = [c for c in at if study.method in (c.first, c.second)]
    families = sorted({c.family for c in at if c.setting.shots == study.shots})
    if not families:
        return f"No comparison was tested: fewer than three {study.units}, or one system."
    return (
        f"Systems were compared in {metric} by paired t tests on the same episodes, with a standard error that counts "
        f"{study.units} and shared utterances as crossed, and Holm's correction over the {_span(families)} comparisons "
        "of a setting; differences with a corrected p below 0.05 are stated."
    )


def _span(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
