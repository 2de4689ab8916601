"""What a report opens with: the sentence in every state, the figure's groups and marks, and the page in a browser."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
from headless import CHROMIUM, browser
from test_report import write_own, write_results

from s3prl_metaperser.corpora.iemocap import SUGGESTED
from s3prl_metaperser.corpora.label_set import LabelSet
from s3prl_metaperser.evaluation.metrics import MACRO_F1, NATS
from s3prl_metaperser.evaluation.summary import load_results
from s3prl_metaperser.methods import systems
from s3prl_metaperser.report.alone import alone
from s3prl_metaperser.report.cite import methods_paragraph
from s3prl_metaperser.report.drawing import colours
from s3prl_metaperser.report.forest import Scale, forests
from s3prl_metaperser.report.gathered import gather
from s3prl_metaperser.report.page import _TEMPLATES
from s3prl_metaperser.report.sections import TaskReport
from s3prl_metaperser.report.sentence import headline, in_words, interval, number
from s3prl_metaperser.report.tables import Value
from s3prl_metaperser.report.view import Gain, Panel, Row, View
from s3prl_metaperser.report.write import PAGE, write_report

RATERS = ("a", "b", "c", "d", "e")


def gain(mean, reach=1.0, *, told=None, raters=RATERS):
    told = abs(mean) > reach if told is None else told
    return Gain(mean, mean - reach, mean + reach, told and len(raters) > 2, 9, dict.fromkeys(raters, mean))


def row(name, level, zero=None, method=None, **more):
    return Row(name, "#123456", Value(level), zero, method, **more)


def panel(over_zero, *others, scenario="seen", title=None, raters=RATERS, expected=RATERS, **more):
    method = row("Meta-PerSER", 29.5, over_zero)
    back = dataclasses.replace(over_zero, mean=-over_zero.mean, low=-over_zero.high, high=-over_zero.low)
    zero = row("Linear-Zero", 27.4, None, back)
    given = {"metric": MACRO_F1, "method": "Meta-PerSER", "zero": "Linear-Zero", "lacking": "", **more}
    title = title or f"{scenario.capitalize()} data"
    return Panel(title, scenario, rows=(method, zero, *others), tested=raters, expected=expected, **given)


def view(*panels):
    return View("Meta-PerSER", "rater", "raters", panels)


HELPS, COSTS, LEVEL = gain(3.1), gain(-2.2), gain(0.4)
STATES = {
    "gains everywhere": (
        (panel(HELPS), panel(gain(3.54), scenario="unseen")),
        "Adapting to the rater helps: Meta-PerSER gains 3.1 points on seen data and 3.5 points on unseen data over "
        "zero-shot.",
    ),
    "gains in one": (
        (panel(HELPS), panel(LEVEL, scenario="unseen")),
        "Adapting to the rater helps by 3.1 points on seen data; on unseen data no gain over zero-shot is shown.",
    ),
    "gains and costs": (
        (panel(HELPS), panel(COSTS, scenario="unseen")),
        "Adapting to the rater helps by 3.1 points on seen data and it costs 2.2 points on unseen data.",
    ),
    "costs": ((panel(COSTS),), "Adapting to the rater costs 2.2 points on seen data."),
    "nothing shown": (
        (panel(LEVEL), panel(gain(-0.1), scenario="unseen")),
        "No gain from adapting is shown: on seen or unseen data, Meta-PerSER cannot be told apart from zero-shot.",
    ),
    "nats": ((panel(gain(0.0512, 0.01), metric=NATS),), "Adapting to the rater helps: Meta-PerSER gains 0.051 nats on "
             "seen data over zero-shot."),
    "many settings": (
        tuple(panel(g, title=f"{n}") for n, g in enumerate((HELPS, HELPS, LEVEL, COSTS))),
        "Adapting to the rater helps in 2 of 4 settings; in 1 Meta-PerSER cannot be told apart from zero-shot, and it "
        "costs in 1.",
    ),
    "many settings, no gain": (
        tuple(panel(LEVEL, title=f"{n}") for n in range(6)),
        "No gain from adapting is shown in any of 6 settings.",
    ),
    "two raters": (
        (panel(gain(9.0, raters=("a", "b")), raters=("a", "b")),),
        "No verdict: 2 of 5 test raters have results, and a verdict needs 3.",
    ),
    "one scenario with too few": (
        (panel(HELPS), panel(gain(9.0, raters=("a", "b")), scenario="unseen", raters=("a", "b"))),
        "Adapting to the rater helps: Meta-PerSER gains 3.1 points on seen data over zero-shot; on unseen data too few "
        "raters were tested.",
    ),
    "a trial": ((panel(HELPS, trial=True),), "These are numbers of a trial, which mean nothing; nothing is said about "
                "gains."),
    "one system": (
        (dataclasses.replace(panel(HELPS), rows=(row("Meta-PerSER", 29.5),), zero="", lacking="Linear-Zero",
                             tested=("a",)),),
        "Meta-PerSER scores 29.5 macro-F1 for rater a; there is nothing to compare it with yet.",
    ),
    "no zero-shot": (
        (dataclasses.replace(panel(HELPS), rows=(row("Meta-PerSER", 29.5), row("Linear-Few", 25.0, None, COSTS)),
                             zero="", lacking="Linear-Zero"),),
        "2 systems are compared; the zero-shot system (Linear-Zero) has no results, so nothing is said about gains "
        "over zero-shot.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_the_first_sentence_is_right_in_every_state(state):
    panels, sentence = STATES[state]
    assert headline(view(*panels)) == sentence
    for forbidden in ("as good as", "no difference", "significant", "personal"):
        assert forbidden not in " ".join([sentence, *(text for _, text in in_words(view(*panels)))])


def test_words_name_what_is_told_apart_and_what_would_go_unseen():
    others = (
        row("Linear-Few", 25.7, gain(-1.7, 5), gain(-3.8, 4)),
        row("Random", 14.5, gain(-12.9, 2), gain(-15.0, 2)),
    )
    said = dict(in_words(view(panel(LEVEL, *others))))
    assert said["Seen data"] == (
        "Meta-PerSER is ahead of Random (by 15.0), and cannot be told apart from Linear-Zero and Linear-Few."
    )
    assert said["What could be seen"] == (
        "with 5 raters, a gain over zero-shot of less than about 2.0 points would go unseen."
    )
    few = dict(in_words(view(panel(gain(9.0, raters=("a", "b")), raters=("a", "b")))))
    assert few["Seen data"].endswith("Nothing follows for other raters. Next: run the folds of c, d and e.")
    other = dict(in_words(view(panel(gain(9.0, raters=("a",))))))  # the other system has results of all five
    assert other["Seen data"].endswith("Next: run the folds of b, c, d and e.")


def test_the_methods_paragraph_says_who_was_tested_on_how_many(tmp_path):
    write_own(tmp_path / "in", LabelSet("six", "single", tuple("abcdef")))

    def paragraph():
        (gathered,) = gather(tmp_path / "in")
        (part,) = TaskReport(gathered, tmp_path / "in").parts
        return methods_paragraph(part)

    whole = paragraph()
    assert "incomplete" not in whole
    missing = sorted((tmp_path / "in").glob("**/*.json"))[0]
    missing.unlink()
    assert re.search(r"Results are incomplete: of (\d) test raters, [\w-]+ \(.*\) on \d\.", paragraph())


def test_an_end_that_leaves_out_zero_is_never_printed_as_zero_and_a_zero_has_no_sign():
    assert interval(MACRO_F1, Gain(1.0, 0.04, 1.96, True, 9, {})) == "[+0.04, +2.0]"
    assert interval(MACRO_F1, Gain(0.9, -0.04, 1.84, False, 9, {})) == "[0.0, +1.8]"
    assert number(MACRO_F1, -2.25) == "\N{MINUS SIGN}2.2"


def test_groups_say_what_was_tested_and_controls_stand_below_zero_shot():
    others = (
        row("swapped labels", 26.0, None, gain(-3.5), control=True),
        row("Linear-Sim", 21.7, gain(-5.7), gain(-7.8)),
        row("Linear-Best", 33.0, gain(5.0), gain(4.0)),
    )
    (forest,) = forests(view(panel(LEVEL, *others)))
    groups = [(kind, title, [r.name for r in rows]) for kind, title, rows in forest.groups(forest.panels[0])]
    assert groups == [
        ("above", "Better than Meta-PerSER", ["Linear-Best"]),
        ("level", "Not told apart from Meta-PerSER", ["Meta-PerSER", "Linear-Zero"]),
        ("control", "", ["swapped labels"]),
        ("below", "Worse than Meta-PerSER", ["Linear-Sim"]),
    ]


def test_what_was_tested_on_fewer_raters_stands_last_however_high_its_score(tmp_path):
    write_results(tmp_path / "in", ["Linear-Zero", "Linear-Few", "Meta-PerSER"])
    write_results(tmp_path / "in", ["Linear-Sim"], raters=SUGGESTED.test_raters[:1])
    (forest,) = forests(view_of_folder(tmp_path / "in"))
    *groups, (kind, title, rows) = forest.groups(forest.panels[0])
    assert (kind, title, [r.name for r in rows]) == ("fewer", "Tested on fewer raters", ["Linear-Sim"])
    assert not any(r.fewer for _, _, rows in groups for r in rows)
    (gathered,) = gather(tmp_path / "in")
    (part,) = TaskReport(gathered, tmp_path / "in").parts
    assert part.scores.rows[-1][0] == "Linear-Sim"


@pytest.mark.parametrize(("raters", "lines"), [(1, True), (2, False), (5, True)])
def test_one_system_is_drawn_before_and_after_adapting_with_files(tmp_path, raters, lines):
    tested = SUGGESTED.test_raters[:raters]
    write_results(tmp_path / "in", ["Meta-PerSER"], raters=tested, steps=(0, 50))
    results = load_results(tmp_path / "in")
    found = view_of_folder(tmp_path / "in")
    assert forests(found) == []
    (figure,) = alone(found)
    (after, shown), (before, hollow) = figure.rows(figure.panels[0])
    assert (after, shown.told, before, hollow.told) == ("adapted", True, "not adapted", False)
    for mark, mean in (
        (shown, np.mean([r.metrics["macro_f1"].mean for r in results])),
        (hollow, np.mean([r.trajectory[0].metrics["macro_f1"] for r in results])),
    ):
        assert mark.words == f"{100 * mean:.1f}"
        assert bool(mark.ends) is lines
        assert mark.dots == (pytest.approx(figure.scale(100 * mean)),)
    (drawn,) = figure.drawings
    assert [row[0] for row in drawn.data.rows] == ["adapted", "not adapted"]


def test_what_learns_nothing_does_not_set_the_scale_and_is_an_arrow_at_its_edge():
    floor = row("Random", 14.5, gain(-40.0), gain(-42.0), floor=True)
    (forest,) = forests(view(panel(LEVEL, floor)))
    strip = forest.strip(forest.panels[0], floor, "zero")
    assert (strip.beyond, strip.dots, strip.words) == ((True, False), (), "\N{MINUS SIGN}40.0")
    assert -2 < forest.scale.low < 0 < forest.scale.high < 2


@pytest.mark.parametrize("ends", [(-13.7, 5.2), (0, 0), (-0.004, 0.0021), (0, 97.0), (-1, 1)])
def test_ticks_are_round_numbers_with_zero_among_them(ends):
    scale = Scale.of([panel(Gain(0.0, *ends, False, 1, dict.fromkeys(RATERS, 0.0)))])
    assert 2 <= len(scale.ticks) <= 7
    assert [scale.shown(tick) for tick in scale.ticks].count("0") == 1
    assert [float(scale.shown(t).replace("\N{MINUS SIGN}", "-")) for t in scale.ticks] == pytest.approx(scale.ticks)


def test_fewer_raters_than_a_verdict_needs_have_a_dot_each_and_no_interval(tmp_path):
    write_own(tmp_path / "in", LabelSet("six", "single", tuple("abcdef")), people=("ann", "bob"))
    (forest,) = forests(view_of_folder(tmp_path / "in"))
    (one,) = forest.panels
    strip = forest.strip(one, one.row("Meta-PerSER"), "zero")
    assert (len(strip.dots), strip.ends, strip.told, one.verdicts) == (2, None, False, False)
    assert [kind for kind, *_ in forest.groups(one)] == [""]
    assert "One dot a rater" in forest.caption


def view_of_folder(folder):
    (gathered,) = gather(folder)
    return TaskReport(gathered, folder).view


def test_a_gain_is_above_zero_where_lower_scores_are_better(tmp_path):
    write_own(tmp_path / "in", LabelSet("six", "single", tuple("abcdef")))
    found = view_of_folder(tmp_path / "in")
    (one,) = found.panels
    method, zero = one.row("Meta-PerSER"), one.row("Linear-Zero")
    assert one.metric == NATS
    assert method.zero.mean == pytest.approx(zero.level.mean - method.level.mean)
    assert method.zero.mean == -zero.method.mean > 0


def luminance(colour):
    channels = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ (
        0.2126,
        0.7152,
        0.0722,
    )


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def mixed(colour, toward, share):
    parts = [share * int(colour[at : at + 2], 16) + (1 - share) * toward for at in (1, 3, 5)]
    return "#" + "".join(f"{round(part):02x}" for part in parts)


def test_marks_and_text_stand_out_in_light_and_in_dark():
    """WCAG's ratios: 4.5 for text, 3 for marks, whose colours the style sheet mixes with black or white."""
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    share = float(style.partition("var(--c) ")[2].partition("%")[0]) / 100
    names = [*systems(False).names(), "none of these"]
    themes = style.split(":root {")[1:3]
    for theme, toward in zip(themes, (0, 255), strict=True):
        values = dict(part.strip().split(": ") for part in theme.partition("}")[0].split(";") if ":" in part)
        for ground in ("--ground", "--band"):
            assert contrast(values["--ink"], values[ground]) > 7
            assert min(contrast(values[name], values[ground]) for name in ("--soft", "--accent", "--missing")) > 4.5
            marks = {mixed(colour, toward, share) for colour in colours(names).values()}
            assert min(contrast(mark, values[ground]) for mark in marks) > 3


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_in_a_browser_is_sorted_copied_and_read_on_every_screen(tmp_path):
    raters = SUGGESTED.test_raters
    write_results(tmp_path / "in", raters=raters)
    write_results(tmp_path / "in", scenario="unseen", raters=raters)
    write_report(tmp_path / "in", tmp_path / "out")
    with browser() as page:
        page.screen(1280, 800)
        page.open((tmp_path / "out" / PAGE).as_uri())
        assert page.run("document.querySelector('.panels').getBoundingClientRect().bottom") < 800
        heads = "[...document.querySelectorAll('#scores thead button')]"
        column = "[...document.querySelectorAll('#scores tbody tr')].map(r => parseFloat(r.cells[2].textContent))"
        page.run(f"{heads}.find(b => b.textContent == 'macro-F1').click()")
        assert page.run(column) == sorted(page.run(column), reverse=True)
        page.run(f"{heads}.find(b => b.textContent == 'macro-F1').click()")
        assert page.run(column) == sorted(page.run(column))
        assert page.run("document.querySelectorAll('#scores th[aria-sort=ascending]').length") == 1
        page.run("document.querySelector('.do').click()")
        page.until("['Copied', 'Selected'].includes(document.querySelector('.do').textContent)")
        levels = page.run("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        unnamed = "svg:not([aria-hidden=true]), figure:not([aria-label]), table:not(:has(caption)):not([role=region] *)"
        assert page.run(f"document.querySelectorAll('{unnamed}').length") == 0
        page.screen(720, 1000)
        page.call("Emulation.setEmulatedMedia", media="print")
        page.run("dispatchEvent(new Event('beforeprint'))")
        assert page.run("document.querySelectorAll('details:not([open])').length") == page.run(
            "document.querySelectorAll('details.absent').length"
        )
        page.run("document.querySelectorAll('details').forEach(folded => { folded.open = true; })")
        cut = "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().right > innerWidth).length"
        assert page.run(cut) == 0
        page.call("Emulation.setEmulatedMedia", media="")
        for width in (1280, 390, 320):
            for dark in (False, True):
                page.screen(width, 800, dark=dark)
                assert page.run("document.documentElement.scrollWidth") <= width
        assert page.console == []
