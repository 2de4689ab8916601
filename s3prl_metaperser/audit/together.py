"""What must be true of results that are compared with each other."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence

from s3prl_metaperser.audit.findings import Findings
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import check_compatible, corpus_of, pairs
from s3prl_metaperser.evaluation.corpora_apart import told_apart
from s3prl_metaperser.evaluation.result import Result
from s3prl_metaperser.tasks import task_of


def check_together(results: Sequence[Result], findings: Findings) -> None:
    """Check results against each other.

    In every (corpus, scenario, fold, K, split) all systems, upstreams and scopes are tested on the same episodes of the
    same rater, or a paired comparison would not be one.
    """
    before, results = len(findings.found), told_apart(results)

    def each(by: Callable[[Result], Hashable], compare: Callable[[Result, Result, Findings], None]) -> None:
        for first, other in pairs(results, by):
            findings.file = str(other.file)
            compare(other, first, findings)

    place = operator.attrgetter(*(f"cell.{name}" for name in ("corpus", "scenario", "fold", "shots", "split")))
    each(lambda r: (r.task, corpus_of(r), place(r)), _paired)
    each(lambda r: (r.task, r.key, r.cell.fold, r.cell.split, r.cell.training_seed, r.hashes.corpus), _second)
    each(lambda r: (r.task, r.key, r.raters.test, r.cell.split), _other_fold)
    if len(findings.found) == before:  # what a report would refuse, with a message of its own
        findings.file = ""
        for kind in sorted({(r.task, r.cell.split, r.cell.protocol) for r in results}):
            chosen = [r for r in results if (r.task, r.cell.split, r.cell.protocol) == kind]
            findings.checks += len(chosen)
            try:
                check_compatible(chosen, task_of(kind[0]).free_options())
            except UserError as error:
                findings.check(False, "", str(error))


def _paired(result: Result, first: Result, findings: Findings) -> None:
    of = f"that of {first.file}, with which it is compared,"
    findings.equal(result.hashes.corpus, first.hashes.corpus, "hashes.corpus", of)
    if None not in (result.hashes.audio, first.hashes.audio):
        findings.equal(result.hashes.audio, first.hashes.audio, "hashes.audio", of)
    findings.equal(result.raters.test, first.raters.test, "raters.test", of)
    findings.equal(result.cell.queries, first.cell.queries, "cell.queries", of)
    findings.equal(result.cell.seeds, first.cell.seeds, "cell.seeds", of)
    findings.equal(result.hashes.episodes, first.hashes.episodes, "hashes.episodes", of)
    known = {(episode.rater, episode.seed): episode for episode in first.episodes}
    for index, episode in enumerate(result.episodes):
        other = known.get((episode.rater, episode.seed), episode)
        findings.equal(episode.support, other.support, f"episodes[{index}].support", of)
        findings.equal(episode.query, other.query, f"episodes[{index}].query", of)
        mine, same = (dict(zip(e.query, e.ticks, strict=True)) for e in (episode, other))
        equal = all(mine[u] == same[u] for u in mine.keys() & same.keys())
        findings.check(equal, f"episodes[{index}].ticks", f"differ from {of}")


def _second(result: Result, first: Result, findings: Findings) -> None:
    findings.check(False, "cell", f"{first.file} is of the same cell and fold: {result.key}")


def _other_fold(result: Result, first: Result, findings: Findings) -> None:
    findings.equal(result.cell.fold, first.cell.fold, "cell.fold", f"the fold of this test rater in {first.file}")
