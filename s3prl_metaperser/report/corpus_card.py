"""A corpus's card for people: lines for a terminal, tables, and one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from s3prl_metaperser.corpora.agreement import FEWEST, SHUFFLED
from s3prl_metaperser.errors import listed, printable
from s3prl_metaperser.evaluation.before_training import QUERIES, Measure
from s3prl_metaperser.evaluation.corpus_card import OF_A_KIND, SHARED, CorpusCard
from s3prl_metaperser.evaluation.statistics import Interval
from s3prl_metaperser.report.page import Section, page
from s3prl_metaperser.report.sounds import Sounds
from s3prl_metaperser.report.tables import ABSENT, Cell, Column, Table, Value

#: So many names stand in a line, and so many raters in a table.
NAMED, LISTED = 6, 100
IN_TERMINAL = 20

#: Measure -> (words, factor, decimals, unit of a gain).
_MEASURES = {
    "right": ("right, %", 100, 1, "points of accuracy"),
    "surprise": ("nats of surprise", 1, 3, "nats of surprise"),
    "distance": ("points off", 1, 2, "points of the scale"),
    "level": ("right level, %", 100, 1, "points of right levels"),
}
FLOOR = (
    "The others' answers to the same clip are known, and K answers of the rater to other clips: a bias for each class "
    "(on a scale one offset) is learned from these. No audio, nothing trained. It is a floor of what there is to "
    "personalise: what a rater hears unlike others in some clips alone is not in it. 95 % intervals over raters."
)
HEARD = (
    "First clips on which raters agree most, a class each, then those that divide them most. Shares are of all answers."
)
TOLD = (
    "Agreement with another rater of the same clip above chance (on a scale the correlation with the others' mean), "
    "and how many standard deviations that is from the rater's own answers shuffled over the clips. Below "
    f"{SHUFFLED} nothing is told, at the 5 % level: inattention, another understanding of the labels, or few ratings. "
    "Listen before you leave somebody out."
)


def card_text(card: CorpusCard) -> str:
    """The whole card for a terminal."""
    tables = (personal_table(card), class_table(card), trait_table(card), rater_table(card, IN_TERMINAL))
    return "\n\n".join(["\n".join(first_lines(card)), *(_as_text(table) for table in tables if table.rows)])


def card_page(card: CorpusCard, heard: Sounds | None = None) -> str:
    """The whole card as one HTML page.

    Args:
        heard: clips to hear in it.
    """
    facts = [("Label set", card.label_set), ("Kind", card.kind), ("Clips", f"{card.clips:,}")]
    facts += [("Raters", f"{card.raters:,}"), ("Ratings", f"{card.ratings:,}")]
    lines = [printable(line, keep="") for line in first_lines(card)[1:]]
    sections = [Section("said", "What the ratings say", lead=lines)]
    if heard and heard.clips:
        sections.append(Section("sounds", "Clips to hear", lead=[HEARD], content=[heard]))
    for key, title, table in (
        ("personal", "What a rater's answers are worth", personal_table(card)),
        ("classes", "Answers", class_table(card)),
        ("traits", "Kinds of raters", trait_table(card)),
        ("raters", "Raters", rater_table(card)),
    ):
        if table.rows:
            shown, folded = ([], [table]) if key == "raters" else ([table], [])
            sections.append(Section(key, title, content=shown, folded=folded))
    return page(f"Card of {card.corpus}", facts, sections)


# -- lines ------------------------------------------------------------------------------------------------------------


def first_lines(card: CorpusCard) -> list[str]:
    """The ten lines that say the most."""
    classes = f"{len(card.classes)} {'levels' if card.kind == 'ordinal' else 'classes'}"
    lines = [
        f"{card.corpus} at {card.root}: {card.ratings:,} ratings of {card.clips:,} clips by {card.raters:,} raters; "
        f"label set {card.label_set} ({card.kind}, {classes})",
        f"ratings a clip: {_spread(card.ratings_per_clip)}; {card.single:,} clips have only one",
        f"ratings a rater: {_spread(card.ratings_per_rater)}; two raters share {card.shared['mean']:,.1f} clips in the "
        f"mean, {SHARED} or more in {card.shared['enough']:.0%} of pairs",
        _agreement(card),
        _answers(card),
        _others(card),
        _varies(card),
        _lasting(card),
        _worth(card),
        _told(card),
    ]
    return [printable(line, keep="") for line in lines]


def _spread(quantiles: dict[str, float]) -> str:
    low, high = quantiles["least"], quantiles["most"]
    if low == high:
        return f"{low:g} each"
    return f"{low:g} to {high:g}, median {quantiles['median']:g}"


def _agreement(card: CorpusCard) -> str:
    if card.alpha is None:
        return "agreement: cannot be said; no two raters share a clip, or all answers are equal"
    level = {"single": "nominal", "multi": "of ticks", "soft": "of shares", "ordinal": "interval"}[card.kind]
    equal = f"on {card.agreed:.0%} of the clips all answers are equal"
    return f"agreement: Krippendorff's alpha {card.alpha:.3f} ({level}; 1 is full, 0 is chance); {equal}"


def _answers(card: CorpusCard) -> str:
    by_class = {name: value for name, value in card.alpha_by_class.items() if value is not None}
    if by_class:
        return f"agreement on single classes: {_ranked(by_class, '{:.2f}')}"
    return f"answers: {_ranked(card.shares, '{:.0%}')}"


def _ranked(values: dict[str, float], form: str) -> str:
    ordered = sorted(values, key=lambda name: -values[name])
    words = [f"{name} {form.format(values[name])}" for name in ordered]
    if len(words) > 2 * NAMED:
        words = [*words[:NAMED], "...", *words[-2:]]
    return ", ".join(words)


def _others(card: CorpusCard) -> str:
    if card.others is None:
        return "the others of a clip: nobody shares one"
    if card.kind == "ordinal":
        return f"a rater is {_interval(card.others, 1, 2)} points of the scale from the mean of the others, in the mean"
    return f"the others' most frequent answer is a rater's own in {_interval(card.others, 100, 1)} % of ratings"


def _varies(card: CorpusCard) -> str:
    if not card.varies_with:
        return "what answers vary with: cannot be said"
    clip, rater = (max(card.varies_with[name], 0.0) for name in ("clip", "rater"))
    icc = " (ICC(2,1))" if card.kind == "ordinal" else ""
    return (
        f"answers vary with the clip to {clip:.0%}{icc}, with the rater's habit on any clip to {rater:.1%}; the rest, "
        f"{max(1 - clip - rater, 0.0):.0%}, is a rater's own hearing of single clips, and chance"
    )


def _lasting(card: CorpusCard) -> str:
    if card.lasting is None:
        fewest = 2 * FEWEST
        return f"do habits last? Cannot be said: {card.lasting_raters} raters have {fewest} ratings of shared clips"
    value = card.lasting
    words = "raters differ in a lasting way" if value > 0.5 else "they last a little" if value > 0.2 else "they do not"
    return f"do habits last? {words}: split-half reliability {value:.2f}, {card.lasting_raters:,} raters"


def _worth(card: CorpusCard) -> str:
    if not card.personal:
        return (
            f"worth of a rater's own answers: cannot be said; three raters with {QUERIES + 4} shared clips are needed"
        )
    best = card.personal[-1]
    gains = [f"{_interval(m.gain, *_MEASURES[m.name][1:3], '+')} {_MEASURES[m.name][3]}" for m in best.measures]
    likelier, better = (measure.gain for measure in best.measures)
    verdict = "there is something to personalise" if likelier.low > 0 else "no gain is told from zero"
    if likelier.low > 0 > better.high:
        verdict += ", though no more answers are right"
    elif better.low > 0 >= likelier.low:
        verdict += ", though more answers are right"
    return f"worth of {best.shots} own answers: {verdict}: {', '.join(gains)} (of {best.raters:,} raters; a floor)"


def _told(card: CorpusCard) -> str:
    judged = f"of {card.judged:,} with {FEWEST} ratings or more"
    if not card.tell_nothing:
        return f"raters who tell nothing: none {judged}"
    names = listed(card.tell_nothing, NAMED)
    count = f"{len(card.tell_nothing):,} {judged}"
    return f"raters who tell nothing: {count} agree no more than if their answers were shuffled: {names}"


def _interval(value: Interval, factor: float, decimals: int, sign: str = "") -> str:
    mean, low, high = (f"{factor * x:{sign}.{decimals}f}" for x in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


# -- tables -----------------------------------------------------------------------------------------------------------


def personal_table(card: CorpusCard) -> Table:
    """What K answers of a rater are worth, by K."""
    names = [measure.name for measure in card.personal[0].measures] if card.personal else []
    columns = [Column("own answers"), Column("raters")]
    for name in names:
        columns += [Column("without", _MEASURES[name][0], True), Column("gain", _MEASURES[name][0], True)]
    rows = [
        (str(each.shots), str(each.raters), *(cell for measure in each.measures for cell in _cells(measure)))
        for each in card.personal
    ]
    return Table("personal", "Own answers that are known", FLOOR, tuple(columns), tuple(rows))


def _cells(measure: Measure) -> list[Cell]:
    _, factor, decimals, _ = _MEASURES[measure.name]
    return [
        Value(factor * x.mean, factor * x.low, factor * x.high, decimals=decimals, signed=signed)
        for x, signed in ((measure.without, False), (measure.gain, True))
    ]


def class_table(card: CorpusCard) -> Table:
    """How often each class is answered, and how far raters agree on it."""
    scale = card.kind == "ordinal"
    columns = [Column("level" if scale else "class"), Column("share of answers, %")]
    columns += [] if scale else [Column("alpha")]
    rows = [
        (name, Value(100 * share), *(() if scale else (_optional(card.alpha_by_class[name], 3),)))
        for name, share in card.shares.items()
    ]
    ticks = "" if scale else f" Classes in an answer: {card.per_rating:g} in the mean."
    caption = f"Alpha is Krippendorff's of this class against all others.{ticks}" if not scale else "Of all ratings."
    return Table("classes", "Answers", caption, tuple(columns), tuple(rows))


def trait_table(card: CorpusCard) -> Table:
    """Raters who have something published in common."""
    caption = f"Mean agreement with others (as below) of raters who share a trait, {OF_A_KIND} or more."
    rows = [
        (trait, value, str(row["raters"]), Value(row["agreement"], decimals=2))
        for trait, values in card.by_trait.items()
        for value, row in values.items()
    ]
    columns = (Column("trait"), Column("value"), Column("raters"), Column("agreement"))
    return Table("traits", "Kinds of raters", caption, columns, tuple(rows))


def rater_table(card: CorpusCard, listed: int = LISTED) -> Table:
    """The raters, those first whose answers tell the least."""
    ordered = sorted(card.by_rater, key=lambda name: (card.by_rater[name]["score"] is None, _score(card, name), name))
    scale = card.kind == "ordinal"
    columns = [Column("rater"), Column("ratings"), Column("agreement"), Column("standard deviations from shuffled")]
    columns += [Column("mean"), Column("deviation")] if scale else []
    rows = []
    for name in ordered[:listed]:
        row = card.by_rater[name]
        cells: list[Cell] = [name, str(row["ratings"]), _optional(row["agreement"], 2), _optional(row["score"], 1)]
        cells += [Value(row["mean"], decimals=2), Value(row["deviation"], decimals=2)] if scale else []
        rows.append(tuple(cells))
    more = (f"The first {listed} of {len(ordered):,}; --json has all.",) if len(ordered) > listed else ()
    return Table("raters", "Raters, those first who tell the least", TOLD, tuple(columns), tuple(rows), notes=more)


def _score(card: CorpusCard, name: str) -> float:
    score = card.by_rater[name]["score"]
    return 0.0 if score is None else score


def _optional(value: float | None, decimals: int) -> Cell:
    return ABSENT if value is None else Value(value, decimals=decimals)


def _as_text(table: Table) -> str:
    rows = [tuple(column.full_name for column in table.columns), *(tuple(map(str, row)) for row in table.rows)]
    cells = [[printable(cell, keep="") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join([table.title, *(_line(row, widths) for row in cells), *table.notes])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
