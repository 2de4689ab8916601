"""The listening page as HTML, rendered here; every word that comes from outside is escaped.

A clip's name and predictions are shown only after it was ticked: both could tell a listener what to hear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from s3prl_metaperser.listener.leave_out import NAMES, Fit
from s3prl_metaperser.listener.session import ListeningSession, View
from s3prl_metaperser.protocol.labels import binarise

_SQUARE = '<svg viewBox="0 0 10 10" aria-hidden="true"><rect class="{}" width="10" height="10" rx="2"/></svg>'
_KEY = (
    f'<ul class="key"><li>{_SQUARE.format("average")}average listener</li><li>{_SQUARE.format("you")}you, as predicted'
    "</li></ul>"
)


def clip_page(
    session: ListeningSession, view: View, index: int, token: str, last: int | None, message: str = ""
) -> str:
    """The page of one clip.

    Args:
        token: to be sent back with every form.
        last: the clip that was ticked last, whose predictions are shown.
        message: what went wrong with the last form.
    """
    total, done = len(session.clips), len(view.ticks)
    usable = total - sum(index not in view.ticks for index in view.unreadable)
    told = f"The model adapts to you after every {session.every} labels. " if session.every > 1 else ""
    if done >= usable:
        told = "That is all of them; a label can still be changed. "
    problem = f'<p class="problem" role="alert">{escape(message)}</p>' if message else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Clip {index + 1} of {total} - what do you hear?</title>
<link rel="stylesheet" href="/page.css">
<script src="/page.js" defer></script>
</head>
<body>
<a class="skip" href="#label">Skip to the labels</a>
<header>
<h1>What do you hear?</h1>
<progress value="{done}" max="{usable}" aria-label="Clips ticked"></progress>
<p class="quiet">{done} of {usable} clips ticked by {escape(session.file.rater)}. {told}<span id="busy" role="status">{
        escape(busy_words(view))
    }</span></p>
</header>
<main>
{_clip(session, view, index, token, problem)}
<section id="news" aria-label="What the model has learned" data-version="{version(view)}" data-query="{_query(last)}">
{news(session, view, last, token)}
</section>
</main>
<footer>
<details><summary>All clips</summary>{_all_clips(session, view, index)}</details>
<p class="note">Labels are saved in {
        escape(str(session.file.path))
    } at once. Close this page whenever you like; the same
command goes on from there.</p>
</footer>
</body>
</html>
"""


def _clip(session: ListeningSession, view: View, index: int, token: str, problem: str) -> str:
    ticked = view.ticks.get(index, ())
    boxes = "".join(
        f'<label lang="en"><input type="checkbox" name="tick" value="{escape(name)}" aria-keyshortcuts="{number}"'
        f'{" checked" if name in ticked else ""}><kbd aria-hidden="true">{number}</kbd>{escape(name)}</label>'
        for number, name in enumerate(session.recognizer.classes, 1)
    )
    name = f' <span class="quiet">{escape(session.clips[index])}</span>' if ticked else ""
    total = len(session.clips)
    before, after = (index - 1) % total, (index + 1) % total
    if index in view.unreadable:
        return f"""<section class="clip" aria-labelledby="clip-title">
<h2 id="clip-title">Clip {index + 1} of {total}{name}</h2>
<p class="problem">This clip cannot be used: {escape(view.unreadable[index])}</p>
<div class="actions"><a class="button plain" href="/clip/{after}">Next</a>
<a class="button plain" href="/clip/{before}">Back</a></div>
</section>"""
    sound = f'<audio controls preload="auto" src="/audio/{index}" aria-label="Clip {index + 1}"></audio>'
    return f"""<section class="clip" aria-labelledby="clip-title">
<h2 id="clip-title">Clip {index + 1} of {total}{name}</h2>
{problem}{sound}
<form id="label" method="post" action="/clip/{index}">
<input type="hidden" name="token" value="{escape(token)}">
<fieldset><legend>This voice sounds ... (several may be ticked)</legend>
<div class="ticks">{boxes}</div></fieldset>
<p id="said" class="quiet" role="status" aria-live="polite"></p>
<div class="actions"><button class="main">Save and next <kbd aria-hidden="true">Enter</kbd></button>
<a class="button plain" href="/clip/{after}">Skip</a><a class="button plain" href="/clip/{before}">Back</a></div>
</form>
<p class="note keys">Keys: <kbd>1</kbd> to <kbd>{len(session.recognizer.classes)}</kbd> tick, <kbd>space</kbd> plays and
pauses, <kbd>Enter</kbd> saves.</p>
</section>"""


def news(session: ListeningSession, view: View, last: int | None, token: str) -> str:
    """What the model predicts before and after, as a part of the page."""
    parts = ["<h2>You and the average listener</h2>"]
    if view.problem:
        parts.append(f'<p class="problem">Adaptation failed: {escape(view.problem)}</p>')
    if view.unreadable:
        named = escape(", ".join(session.clips[index] for index in list(view.unreadable)[:3]))
        more = " and others" if len(view.unreadable) > 3 else ""
        parts.append(f'<p class="problem">Cannot be used: {named}{more}.</p>')
    if not view.adapted:
        left = max(session.every - len(view.ticks), 0)
        what = f"after {left} more label{'s' if left != 1 else ''}" if left else "as soon as the clips are read"
        parts.append(
            f"<p>The model has not adapted to you yet: it will, {what}. What it predicts for a clip is shown only "
            "after you have ticked it, so that it cannot tell you what to hear.</p>"
        )
    else:
        parts += _compared(session, view)
    if view.pending and view.ticks and not view.busy:
        noun = "labels are" if view.pending > 1 else "label is"
        parts.append(
            '<form class="actions" method="post" action="/adapt">'
            f'<input type="hidden" name="token" value="{escape(token)}">'
            f'<button class="plain">Adapt now ({view.pending} {noun} new)</button></form>'
        )
    if last is not None and last in view.ticks and last in view.average:
        parts.append(_last(session, view, last))
    parts.append(_examples(session, view))
    if view.fit is not None:
        parts.append(_fit(view.fit))
    parts.append(
        '<p class="note">The average listener is the model before it adapts: what it learned from all of its training '
        "raters. Percentages are predicted shares of nine classes and add up to 100; above "
        f"{100 / len(session.recognizer.classes):.0f} a class counts as ticked.</p>"
    )
    return "\n".join(parts)


def _compared(session: ListeningSession, view: View) -> list[str]:
    """Mean shares of each class, on clips that adaptation has not seen where there are any."""
    fresh = [index for index in view.adapted if index not in view.ticks]
    chosen = fresh or list(view.adapted)
    where = (
        f"{len(chosen)} clips that you have not ticked"
        if fresh
        else f"the {len(chosen)} clips, all of which you ticked"
    )
    average = np.mean([view.average[index] for index in chosen], axis=0)
    adapted = np.mean([view.adapted[index] for index in chosen], axis=0)
    names = session.recognizer.classes
    changes = sorted(((_change(*pair), escape(name)) for *pair, name in zip(average, adapted, names, strict=True)))
    more = [f"{name} ({change:+d})" for change, name in reversed(changes) if change > 1][:3]
    less = [f"{name} ({change:+d})" for change, name in changes if change < -1][:3]
    told = "; ".join(f"{word} {', '.join(part)}" for word, part in (("more", more), ("less", less)) if part)
    sentence = f"Adapted to {view.used} of your labels, the model expects you to hear {told} than the average listener"
    if not told:
        sentence = (
            f"Adapted to {view.used} of your labels, the model expects you to hear what the average listener does"
        )
    return [
        f"<p>{sentence}, in points, on {where}.</p>",
        _KEY,
        _table(names, average, adapted, None, f"Mean prediction on {where}, in percent"),
    ]


def _last(session: ListeningSession, view: View, last: int) -> str:
    names, ticks = session.recognizer.classes, view.ticks[last]
    guess = view.foretold.get(last) if view.used else None
    if last in view.left_out:
        guess, how = view.left_out[last], "the model adapted to your other labels"
    else:
        how = "the model as it was before you ticked it"
    shown = view.average[last] if guess is None else guess
    words = f"For you {how} says {_words(names, shown)}. " if guess is not None else ""
    return (
        f"<h3>Clip {last + 1}, which you ticked last</h3><p>{escape(session.clips[last])}: you hear "
        f'<span class="mine">{escape(", ".join(ticks))}</span>. The average listener: '
        f"{_words(names, view.average[last])}. {words}</p>"
        + _table(names, view.average[last], guess, ticks, "Predictions for this clip, in percent")
    )


def _table(
    names: Sequence[str], average: np.ndarray, you: np.ndarray | None, ticks: Sequence[str] | None, caption: str
) -> str:
    rows, top = [], _top(average, you)
    for place, name in enumerate(names):
        mine = ticks is not None and name in ticks
        label = (
            f'<span class="mine">{escape(name)} &#10003;<span class="skip"> ticked by you</span></span>'
            if mine
            else escape(name)
        )
        other = None if you is None else you[place]
        cells = f'<td class="number">{100 * average[place]:.0f}</td>'
        if other is not None:
            change = _change(average[place], other)
            moved = f"{change:+d}" if change else "0"
            cells += f'<td class="number">{100 * other:.0f}</td><td class="number wide">{moved}</td>'
        bars = _bars(average[place] / top, None if other is None else other / top)
        rows.append(f'<tr><th scope="row">{label}</th><td class="bars">{bars}</td>{cells}</tr>')
    head = '<th scope="col">class</th><td></td><th scope="col" class="number">average</th>'
    if you is not None:
        head += '<th scope="col" class="number">you</th><th scope="col" class="number wide">change</th>'
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _change(average: float, you: float) -> int:
    """In points, of the percentages as they are shown."""
    return round(100 * float(you)) - round(100 * float(average))


def _top(average: np.ndarray, you: np.ndarray | None) -> float:
    """What the longest bar stands for: quarters, so that tables can be compared at a glance."""
    highest = float(np.max(average if you is None else np.maximum(average, you)))
    return min(1.0, np.ceil(4 * highest) / 4)


def _bars(average: float, you: float | None) -> str:
    bars = f'<rect class="average" x="0" y="1" width="{100 * average:.1f}" height="10"/>'
    if you is not None:
        bars += f'<rect class="you" x="0" y="13" width="{100 * you:.1f}" height="10"/>'
    return (
        '<svg viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="track" d="M0 0V24" vector-effect="non-scaling-stroke"/>{bars}</svg>'
    )


def _examples(session: ListeningSession, view: View) -> str:
    """Ticked clips on which the prediction for this listener, made without the clip, is farthest from the average's."""
    names, known = session.recognizer.classes, [index for index in view.left_out if index in view.ticks]
    if not known:
        return ""
    apart = {index: float(np.abs(view.left_out[index] - view.average[index]).sum()) for index in known}
    rows = "".join(
        f'<tr><th scope="row"><a href="/clip/{index}">{index + 1}</a></th>'
        f"<td>{escape(', '.join(view.ticks[index]))}</td>"
        f"<td>{_words(names, view.average[index])}</td><td>{_words(names, view.left_out[index])}</td></tr>"
        for index in sorted(known, key=lambda index: -apart[index])[:5]
    )
    return (
        '<h3>Where you differ most</h3><div class="scroll"><table><caption>Of the clips that you ticked; predicted for '
        'you without the clip itself</caption><thead><tr><th scope="col">clip</th><th scope="col">you ticked</th>'
        '<th scope="col">average listener</th><th scope="col">predicted for you</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _fit(fit: Fit) -> str:
    rows = "".join(
        f'<tr><th scope="row">{NAMES[name]}</th>{_pair(fit.unadapted, fit.adapted, name)}</tr>'
        for name in ("macro_f1", "micro_f1", "unweighted_accuracy", "loss")
    )
    few = " With so few clips this says little." if fit.clips < 16 else ""
    return (
        f'<details><summary>How well it fits you, on {fit.clips} clips</summary><p class="note">Each of your clips is '
        f'predicted by the model adapted to the others.{few}</p><table><thead><tr><th scope="col">measure</th>'
        '<th scope="col" class="number">average listener</th><th scope="col" class="number">you</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )


def _pair(before: Mapping[str, float], after: Mapping[str, float], name: str) -> str:
    shown = [f"{v[name]:.2f}" if name == "loss" else f"{100 * v[name]:.0f} %" for v in (before, after)]
    return "".join(f'<td class="number">{value}</td>' for value in shown)


def _all_clips(session: ListeningSession, view: View, current: int) -> str:
    items = []
    for index in range(len(session.clips)):
        done = index in view.ticks
        words = f"clip {index + 1}, {'ticked' if done else 'not ticked'}"
        here = ' aria-current="page"' if index == current else ""
        kind = ' class="done"' if done else ""
        items.append(f'<li><a href="/clip/{index}" aria-label="{words}"{here}{kind}>{index + 1}</a></li>')
    return f'<ol class="clips">{"".join(items)}</ol>'


def _words(names: Sequence[str], probabilities: np.ndarray) -> str:
    """The ticked classes, the most probable first, with percentages."""
    chosen = binarise(probabilities)
    order = [i for i in np.argsort(-probabilities, kind="stable") if chosen[i]]
    return (
        ", ".join(f"{escape(names[i])}&nbsp;{100 * probabilities[i]:.0f}&nbsp;%" for i in order)
        or "nothing in particular"
    )


def busy_words(view: View) -> str:
    """What the worker does, for the page's head."""
    return {"": "", "adapting": "Adapting to you ..."}.get(view.busy, "Listening to the clips ...")


def version(view: View) -> str:
    """Changes whenever the news do."""
    sizes = (view.used, len(view.ticks), len(view.adapted), view.pending, len(view.unreadable), int(bool(view.problem)))
    return "-".join(map(str, sizes))


def _query(last: int | None) -> str:
    return "" if last is None else f"?last={last}"
