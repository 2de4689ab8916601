"""One system alone: its score before and after adapting, on one scale; nothing is compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from s3prl_metaperser.evaluation.compare import FEWEST_RATERS
from s3prl_metaperser.evaluation.metrics import Metric
from s3prl_metaperser.report.drawing import Drawing, all_drawn, finished, new_figure, slug
from s3prl_metaperser.report.forest import Scale, Strip
from s3prl_metaperser.report.sentence import number
from s3prl_metaperser.report.tables import Column, Table, Value
from s3prl_metaperser.report.view import Panel, View


@dataclass(frozen=True)
class Alone:
    """The settings of a system that has no other beside it, as the page's template draws them.

    Attributes:
        panels: each of one row, whose score before adaptation is known.
        suffix: ends the names of its files.
    """

    kind: ClassVar[str] = "alone"

    view: View
    panels: tuple[Panel, ...]
    suffix: str = ""

    @property
    def metric(self) -> Metric:
        """What scores are of."""
        return self.panels[0].metric

    def title(self, panel: Panel) -> str:
        """Whose scores these are."""
        return f"{panel.rows[0].name}, {panel.title[0].lower()}{panel.title[1:]}: {self.metric.heading}"

    def scores(self, panel: Panel) -> Iterator[tuple[str, Value]]:
        """(words, score); without an interval of two raters."""
        row = panel.rows[0]
        for words, score in (("adapted", row.level), ("not adapted", row.before)):
            if isinstance(score, Value):
                of_two = 1 < len(panel.tested) < FEWEST_RATERS
                yield words, Value(score.mean, decimals=score.decimals) if of_two else score

    @cached_property
    def scale(self) -> Scale:
        """The same in all panels."""
        every = [score for panel in self.panels for _, score in self.scores(panel)]
        ends = (end for s in every for end in (s.low, s.mean, s.high) if end is not None)
        return Scale.around(ends, signed=False)

    def rows(self, panel: Panel) -> Iterator[tuple[str, Strip]]:
        """(words, the score as the page draws it)."""
        for words, score in self.scores(panel):
            span, ends = "", None
            if score.low is not None and score.high is not None:
                span = f"[{number(self.metric, score.low)}, {number(self.metric, score.high)}]"
                ends = self.scale(score.low), self.scale(score.high)
            yield (
                words,
                Strip(number(self.metric, score.mean), span, words == "adapted", ends, (self.scale(score.mean),)),
            )

    @cached_property
    def drawings(self) -> list[Drawing]:
        """Each panel as a figure of its own, for a paper."""
        return all_drawn(lambda panel: [self._drawn(panel)], self.panels)

    @property
    def caption(self) -> str:
        """What a mark is, and what must not be concluded."""
        many = max(len(panel.tested) for panel in self.panels)
        further = "clips" if many == 1 else f"{self.view.units} and clips"
        return " ".join(
            [
                f"{'Higher' if self.metric.higher_is_better else 'Lower'} is better.",
                "Filled: after adapting; hollow: the same clips before.",
                *([] if many == 2 else [f"Lines: 95 % intervals for further {further}."]),
                "One system does not show whether adapting in another way gains more.",
            ]
        )

    def _drawn(self, panel: Panel) -> Drawing:
        figure, axes = new_figure(1, 1, 1.6)
        axis, scores, colour = axes[0][0], list(self.scores(panel)), panel.rows[0].colour
        axis.set_xlim(self.scale.low, self.scale.high)
        for place, (words, score) in enumerate(scores):
            if score.low is not None and score.high is not None:
                axis.plot([score.low, score.high], [place, place], color=colour)
            axis.plot([score.mean], [place], "o", color=colour, fillstyle="full" if words == "adapted" else "none")
        axis.set_yticks(range(len(scores)), [words for words, _ in scores])
        axis.set_ylim(len(scores) - 0.5, -0.5)
        axis.set_xlabel(self.metric.heading)
        key = slug(f"before_after_{panel.title}".replace(" data", "").replace(", ", "_")).lower() + self.suffix
        columns = (Column("adaptation"), Column(self.metric.heading, interval=True))
        table = Table(key, panel.title, "", columns, tuple(scores))
        return finished(figure, key, f"Before and after adapting: {self.title(panel)}", self.caption, table)


def alone(view: View, suffix: str = "") -> list[Alone]:
    """Of a view of one system, one for each metric that panels go by; none where nothing is known before adaptation."""
    found: dict[str, list[Panel]] = {}
    for panel in view.panels if len(view.systems) == 1 else ():
        if isinstance(panel.rows[0].before, Value) and isinstance(panel.rows[0].level, Value):
            found.setdefault(panel.metric.name, []).append(panel)
    return [Alone(view, tuple(panels), suffix) for panels in found.values()]
