"""Tables A1 and A2: how often each test rater ticks each class, of the corpus at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.report import paper
from s3prl_metaperser.report.tables import Column, Table, Value

_TABLES = {"seen": ("table_a1", "Table A1"), "unseen": ("table_a2", "Table A2")}
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
    ticks: dict[str, Counter] = {rater: Counter() for rater in raters}
    rated: Counter = Counter()
    for rating in corpus.ratings:
        if rating.rater in ticks and rating.utterance in chosen:
            ticks[rating.rater].update(rating.ticks)
            rated[rating.rater] += 1
    found = {}
    for rater in raters:
        if rated[rater]:
            total = sum(ticks[rater].values())
            shares = {name: 100 * ticks[rater][name] / total for name in corpus.classes}
            found[rater] = (shares, total / rated[rater])
    return found


def marginal_tables(corpus: Corpus, raters: Sequence[str], test_sessions: Sequence[str]) -> list[Table]:
    """Tables A1 (all sessions) and A2 (the test sessions; none where the corpus has no such sessions)."""
    tables = [_table("seen", corpus, raters, None)]
    if any(u.session in set(test_sessions) for u in corpus.utterances):
        tables.append(_table("unseen", corpus, raters, test_sessions))
    return tables


def _table(scenario: str, corpus: Corpus, raters: Sequence[str], sessions: Sequence[str] | None) -> Table:
    key, title = _TABLES[scenario]
    found = label_marginals(corpus, raters, sessions)
    columns = [Column("class")]
    columns += [Column(whose, rater) for rater in found for whose in ("ours", "paper")]
    rows = []
    for name in corpus.classes:
        row = [name]
        for rater, (shares, _) in found.items():
            row += [Value(shares[name]), paper.marginal(key, rater, name)]
        rows.append(tuple(row))
    row = [_PER_UTTERANCE]
    for rater, (_, rate) in found.items():
        row += [Value(rate, decimals=2), paper.marginal(key, rater, "ticks_per_utterance")]
    rows.append(tuple(row))
    where = "all sessions" if sessions is None else f"session {', '.join(sessions)}"
    without = [rater for rater in raters if rater not in found]
    return Table(
        key=key,
        title=f"{title}: what the test raters tick ({scenario} data)",
        caption=f"Share of each class among a rater's ticks, in percent, over {where} of corpus {corpus.name}; last "
        "row: ticks per utterance that the rater rated. The paper's columns are of IEMOCAP.",
        columns=tuple(columns),
        rows=tuple(rows),
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
