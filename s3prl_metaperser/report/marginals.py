"""Tables A1 and A2: how often each test rater ticks each class of a corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.paper import MarginalSpec
from s3prl_metaperser.report.tables import Cell, Column, Table, Value

_PER_UTTERANCE = "ticks per rated utterance"


def label_marginals(
    corpus: Corpus, raters: Sequence[str], sessions: Sequence[str] | None = None
) -> dict[str, tuple[dict[str, float], float]]:
    """Share of each class among a rater's ticks, in percent, and ticks per utterance that the rater rated.

    Args:
        raters: whose; one without a rating in these sessions is left out.
        sessions: only utterances of these sessions; None for all.
    """
    chosen = {u.id for u in corpus.utterances if sessions is None or u.session in sessions}
    found = {}
    for rater in raters:
        answers = [r.answer for r in corpus.ratings if r.rater == rater and r.utterance in chosen]
        if answers:
            counts = sum(map(corpus.label_set.counts, answers), np.zeros(len(corpus.classes)))
            shares = dict(zip(corpus.classes, (100 * counts / counts.sum()).tolist(), strict=True))
            found[rater] = (shares, float(counts.sum()) / len(answers))
    return found


def marginal_tables(corpus: Corpus, raters: Sequence[str], test_sessions: Sequence[str], name: str) -> list[Table]:
    """Of all sessions, and of the test sessions where the corpus has them.

    Args:
        name: the corpus's name in the results.
    """
    there = {u.session for u in corpus.utterances} & set(test_sessions)
    sessions = {"seen": None, "unseen": test_sessions}
    specs = paper.spec().marginals.items()
    return [
        _table(key, spec, corpus, raters, sessions[spec.scenario], paper.has_its_rows(name))
        for key, spec in specs
        if spec.scenario == "seen" or there
    ]


def _table(
    key: str, spec: MarginalSpec, corpus: Corpus, raters: Sequence[str], sessions: Sequence[str] | None, beside: bool
) -> Table:
    found = label_marginals(corpus, raters, sessions)
    rows: list[list[Cell]] = [[name] for name in corpus.classes]
    for rater, (shares, _) in found.items():
        for row, name in zip(rows, corpus.classes, strict=True):
            row += [Value(shares[name]), paper.marginal(key, rater, name)][: 1 + beside]
    if corpus.label_set.kind == "multi":
        rates: list[Cell] = [_PER_UTTERANCE]
        for rater, (_, rate) in found.items():
            rates += [Value(rate, decimals=2), paper.marginal(key, rater, "ticks_per_utterance")][: 1 + beside]
        rows.append(rates)
    where = "all sessions" if sessions is None else f"session {', '.join(sessions)}"
    without = [rater for rater in raters if rater not in found]
    title = f"what the test raters tick ({spec.scenario} data)"
    return Table(
        key=key,
        title=f"{spec.name}: {title}" if beside else title[0].upper() + title[1:],
        caption=f"Share of each class among a rater's ticks, in percent, over {where} of corpus {corpus.name}; last "
        "row: ticks per utterance that the rater rated."
        + (f" The paper's columns are of {paper.spec().corpus.upper()}." if beside else ""),
        columns=(
            Column("class"),
            *(
                Column(*names)
                for rater in found
                for names in ([("ours", rater), ("paper", rater)] if beside else [(rater,)])
            ),
        ),
        rows=tuple(tuple(row) for row in rows),
        notes=tuple(f"Rater {rater} rated nothing in {where}." for rater in without),
    )


def check_corpus(corpus: Corpus, expected: str) -> Corpus:
    """The corpus, if its labels are those that the results were made with.

    Raises:
        UserError: they are others.
    """
    found = corpus.fingerprint()
    if found != expected:
        raise UserError(
            f"Corpus {corpus.name!r} at {corpus.root} has labels with hash {found[:12]}, the results were made with "
            f"{expected[:12]}. Name the corpus that was evaluated, or leave out --corpus and --root."
        )
    return corpus
