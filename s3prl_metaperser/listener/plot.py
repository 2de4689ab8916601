"""A small line chart of a listener's progress as numbers of an SVG drawing; the template only writes them down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from s3prl_metaperser.report.forest import round_step

WIDTH, HEIGHT = 300, 190
MINUS = "\N{MINUS SIGN}"
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 10, 14, 34


class Plot(NamedTuple):
    """A chart of ``WIDTH`` x ``HEIGHT``.

    Attributes:
        line, band: coordinates of the polyline, and of the interval's outline (empty without one).
        dots: (x, y) of each point.
        across: (y, number) of each horizontal line.
        down: (x, number) of the labels below.
        zero: the horizontal line's y at zero, where values on both sides of it are drawn.
    """

    line: str
    band: str
    dots: list[tuple[float, float]]
    across: list[tuple[float, str]]
    down: list[tuple[float, str]]
    zero: float | None


def plot(
    places: Sequence[int], values: Sequence[float], spans: Sequence[tuple[float, float]] | None = None
) -> Plot | None:
    """The chart of values over places, with their intervals; None of fewer than two."""
    if len(places) < 2:
        return None
    reached = [*values, *(end for span in spans or () for end in span), 0.0]
    step = round_step(max(max(reached) - min(reached), 1e-3) / 4)
    low, high = step * math.floor(min(reached) / step), step * math.ceil(max(reached) / step)
    high = high if high > low else low + step

    def x(place: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (place - places[0]) / (places[-1] - places[0]), 1)

    def y(value: float) -> float:
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low), 1)

    def line(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x(place)},{y(value)}" for place, value in points)

    ends = list(zip(places, spans, strict=True)) if spans else []
    outline = [(place, span[1]) for place, span in ends] + [(place, span[0]) for place, span in reversed(ends)]
    count = round((high - low) / step)
    every = math.ceil(len(places) / 8)
    return Plot(
        line(list(zip(places, values, strict=True))),
        line(outline),
        [(x(place), y(value)) for place, value in zip(places, values, strict=True)],
        [(y(low + step * n), f"{low + step * n:g}".replace("-", MINUS)) for n in range(count + 1)],
        [(x(place), str(place)) for place in places[::-1][::every][::-1]],
        y(0) if low < 0 < high else None,
    )
