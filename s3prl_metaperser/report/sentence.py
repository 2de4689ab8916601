"""What the report says first: one sentence, and a line for each setting. Functions of the view alone.

Nothing is called as good as another, and no gain personal: what cannot be told apart is said to be that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from s3prl_metaperser.evaluation.compare import FEWEST_RATERS
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.report.tables import Value
from s3prl_metaperser.report.view import Gain, Panel, Row, View

#: So many names stand in a sentence.
NAMED = 6
MINUS = "\N{MINUS SIGN}"


def number(metric: Metric, printed: float, sign: bool = False) -> str:
    """A number in the metric's printed unit, with a real minus sign; a zero has no sign."""
    text = f"{abs(printed):.{metric.decimals}f}"
    if not float(text):
        return text
    return f"{MINUS if printed < 0 else '+' if sign else ''}{text}"


def interval(metric: Metric, gain: Gain) -> str:
    """``[+0.4, +2.4]``; an end that leaves out zero is never printed as zero."""

    def end(printed: float) -> str:
        shown = number(metric, printed, True)
        close = gain.told and not float(shown.replace(MINUS, "-"))
        return f"{MINUS if printed < 0 else '+'}{abs(printed):.{metric.decimals + 1}f}" if close else shown

    return f"[{end(gain.low)}, {end(gain.high)}]"


def listed(items: Iterable[str], most: int = NAMED) -> str:
    """``a, b and c``; of very many the first ones, and how many others."""
    names = list(items)
    if len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def headline(view: View) -> str:
    """Whether adapting helps, where, and by how much."""
    panels = [panel for panel in view.panels if not panel.trial]
    if not panels:
        return "These are numbers of a trial, which mean nothing; nothing is said about gains."
    if len(view.systems) == 1:
        return _of_one_system(view, panels)
    if not any(panel.verdicts for panel in panels):
        return _without_verdict(view, panels)
    gains = [(panel, row.zero) for panel in panels if (row := panel.row(panel.method)) and row.zero]
    if not gains:
        return _without_zero_shot(view, panels)
    return _of_many_settings(view, gains) if len(panels) > 2 else _of_few_settings(view, gains)


def _without_zero_shot(view: View, panels: Sequence[Panel]) -> str:
    with_method = [panel for panel in panels if panel.method]
    missing = f"the zero-shot system ({panels[0].lacking})" if with_method and panels[0].lacking else view.method
    if not with_method or panels[0].lacking:
        systems = f"{len(view.systems)} systems are compared"
        return f"{systems}; {missing} has no results, so nothing is said about gains over zero-shot."
    if len(with_method) == 1:
        return _panel_in_words(view, with_method[0])
    return f"{view.method} is compared with {len(view.systems) - 1} systems in {len(with_method)} settings."


def _of_one_system(view: View, panels: Sequence[Panel]) -> str:
    (name,) = view.systems
    scores = {p.scenario: r.level for p in panels for r in p.rows if isinstance(r.level, Value)}
    metric, (tested, *more) = panels[0].metric, panels[0].tested
    who = f"{len(more) + 1} {view.units}" if more else f"{view.unit} {tested}"
    where = {scenario: f" on {scenario} data" if len(scores) > 1 else "" for scenario in scores}
    said = [f"{number(metric, v.mean)} {metric.title}{where[scenario]}" for scenario, v in scores.items()]
    return f"{name} scores {listed(said)} for {who}; there is nothing to compare it with yet."


def _without_verdict(view: View, panels: Sequence[Panel]) -> str:
    tested, expected = max((len(p.tested), len(p.expected)) for p in panels)
    if tested >= FEWEST_RATERS:
        return f"No verdict: fewer than {FEWEST_RATERS} test {view.units} have results of two systems."
    of = f"{tested} of {expected} test {view.units} {'has' if tested == 1 else 'have'} results"
    return f"No verdict: {of}, and a verdict needs {FEWEST_RATERS}."


def _of_few_settings(view: View, gains: Sequence[tuple[Panel, Gain]]) -> str:
    more = [_amount(panel, gain) for panel, gain in gains if gain.verdict > 0]
    less = [_amount(panel, gain) for panel, gain in gains if gain.verdict < 0]
    level = [panel.scenario for panel, gain in gains if not gain.verdict and not gain.few]
    few = [panel.scenario for panel, gain in gains if gain.few]
    where = " or ".join(dict.fromkeys(level))
    adapting = f"dapting to the {view.unit}"
    if more and not less and not level:
        said = f"A{adapting} helps: {view.method} gains {listed(more)} over zero-shot"
    elif more or less:
        parts = [f"a{adapting} helps by {listed(more)}"] if more else []
        parts += [f"{'it' if more else f'a{adapting}'} costs {listed(less)}"] if less else []
        said = " and ".join(parts)
        said = said[0].upper() + said[1:] + (f"; on {where} data no gain over zero-shot is shown" if level else "")
    elif level:
        said = f"No gain from adapting is shown: on {where} data, {view.method} cannot be told apart from zero-shot"
    else:
        said = "No verdict"
    return said + (f"; on {' and '.join(few)} data too few {view.units} were tested" if few else "") + "."


def _of_many_settings(view: View, gains: Sequence[tuple[Panel, Gain]]) -> str:
    of = len(gains)
    more, less, few = (sum(test(gain) for _, gain in gains) for test in (_helps, _costs, lambda gain: gain.few))
    level = of - more - less - few
    if more:
        said = f"Adapting to the {view.unit} helps in {more} of {of} settings"
        said += f"; in {level} {view.method} cannot be told apart from zero-shot" if level else ""
    else:
        said = f"No gain from adapting is shown in any of {of} settings"
    said += f", and it costs in {less}" if less else ""
    return said + (f"; {few} have too few {view.units} for a verdict." if few else ".")


def _helps(gain: Gain) -> bool:
    return gain.verdict > 0


def _costs(gain: Gain) -> bool:
    return gain.verdict < 0


def _amount(panel: Panel, gain: Gain) -> str:
    unit = panel.metric.difference_unit or panel.metric.title
    return f"{number(panel.metric, abs(gain.mean))} {unit} on {panel.scenario} data"


def in_words(view: View) -> list[tuple[str, str]]:
    """(setting, what is told apart there), and how small a gain would go unseen; of few raters what there is."""
    found = [(panel.title, said) for panel in view.panels if (said := _panel_in_words(view, panel))]
    reach = [
        (panel.metric, (row.zero.high - row.zero.low) / 2)
        for panel in view.panels
        for row in panel.rows
        if row.zero and not row.zero.few and not row.floor and panel.verdicts
    ]
    if len({metric.name for metric, _ in reach}) == 1:
        metric, unseen = reach[0][0], median(half for _, half in reach)
        raters = sorted({len(panel.tested) for panel in view.panels if panel.verdicts})
        many = f"{raters[0]} to {raters[-1]}" if len(raters) > 1 else str(raters[0])
        about = f"{number(metric, unseen)} {metric.difference_unit or metric.title}"
        found.append(
            ("What could be seen", f"with {many} {view.units}, a gain over zero-shot of less than about {about} would "
             "go unseen.")
        )  # fmt: skip
    return found


def _panel_in_words(view: View, panel: Panel) -> str:
    if panel.trial:
        return "a trial, whose numbers mean nothing (evalrc.verdicts: false); no verdicts on them."
    if len(panel.rows) == 1:
        return _next_for_one(view, panel)
    if not panel.verdicts:
        return _single_raters(view, panel)
    rest = [row for row in panel.rows if row.method and not row.control]
    worse, better, level = (_named(panel, rest, verdict) for verdict in (-1, 1, 0))
    few = listed(row.name for row in rest if row.method and row.method.few)
    said = [f"ahead of {worse}"] if worse else []
    said += [f"behind {better}"] if better else []
    words = [f"is {' and '.join(said)}"] if said else []
    words += [f"cannot be told apart from {level}"] if level else []
    words += [f"has too few {view.units} in common with {few}"] if few else []
    return f"{view.method} {', and '.join(words)}." if words else ""


def _named(panel: Panel, rows: Sequence[Row], verdict: int) -> str:
    found = [(row.name, row.method) for row in rows if row.method and row.method.verdict == verdict]
    if not verdict:
        return listed(name for name, gain in found if not gain.few)
    return listed(f"{name} (by {number(panel.metric, abs(gain.mean))})" for name, gain in found)


def _next_for_one(view: View, panel: Panel) -> str:
    (row,) = panel.rows
    said = []
    if isinstance(row.before, Value) and isinstance(row.level, Value):
        moved = (row.level.mean - row.before.mean) * (1 if panel.metric.higher_is_better else -1)
        said.append(
            f"before adaptation it has {number(panel.metric, row.before.mean)} on the same clips: adapting gains "
            f"{number(panel.metric, moved, True)}."
        )
    else:
        said.append("One system alone says nothing about gains.")
    others = f"{panel.lacking} on the same folds" if panel.lacking else "another system on the same folds"
    said.append(f"Next: train and evaluate {others}; a verdict needs {FEWEST_RATERS} {view.units}.")
    return " ".join(said)


def _single_raters(view: View, panel: Panel) -> str:
    row = panel.row(panel.method)
    said = []
    if row and row.zero:
        each = listed((f"{number(panel.metric, d, True)} ({r})" for r, d in row.zero.per_rater.items()), 12)
        said.append(f"{view.method}'s gain over zero-shot in {panel.metric.title} is {each}.")
    compared = row.zero.per_rater if row and row.zero else panel.tested
    missing = [name for name in panel.expected if name not in compared]
    said.append(f"Nothing follows for other {view.units}.")
    said += [f"Next: run the folds of {listed(missing)}."] if missing else []
    return " ".join(said)
