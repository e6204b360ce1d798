"""Charts as plain data in percent of the plot area; the template draws them as SVG, without a script."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TICKS = 5  # about so many on each axis


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick: its position in percent of the axis, and its label."""

    position: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis that ends where the data ends."""

    title: str
    low: float
    high: float
    ticks: tuple[Tick, ...]

    def positions(self, values: Sequence[float]) -> list[float]:
        """Return values as percent of the axis; values beyond its ends are moved to the ends."""
        span = self.high - self.low
        return [round(100 * (min(max(value, self.low), self.high) - self.low) / span, 2) for value in values]


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its points for an SVG polyline of 100 by 100 units, and a CSS class for its colour."""

    name: str
    style: str
    points: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram: left edge and width, then (style, top, height) of each part, in percent."""

    left: float
    width: float
    parts: tuple[tuple[str, float, float], ...]
    hover: str


@dataclass(frozen=True, slots=True)
class Point:
    """A point: position in percent from the left and the top, CSS classes, and the text shown on hover."""

    left: float
    top: float
    styles: str
    hover: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its axes and marks. `summary` describes it to readers who do not see it."""

    summary: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    points: tuple[Point, ...] = ()
    cuts: tuple[float, ...] = ()
    bands: tuple[Line, ...] = ()


def make_axis(title: str, low: float, high: float) -> Axis:
    """Return the axis from `low` to `high`, with ticks at round numbers."""
    if high <= low:
        low, high = low - 0.5, low + 0.5
    step = _round_step((high - low) / _TICKS)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step * 10**decimals, 6) % 1:
        decimals += 1  # a step of 2.5 or 0.25
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [multiple * step for multiple in range(first, last + 1)]
    ticks = [
        Tick(round(100 * (value - low) / (high - low), 2), f"{value + 0.0:,.{decimals}f}".replace("-", "−"))
        for value in values
    ]
    return Axis(title, low, high, tuple(ticks))


def _round_step(step: float) -> float:
    """Return the next of 1, 2, 2.5, 5 or 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def make_line(name: str, style: str, x: Axis, y: Axis, points: Sequence[tuple[float, float]]) -> Line:
    """Return the line through points, given in the units of the axes."""
    lefts = x.positions([point[0] for point in points])
    tops = y.positions([point[1] for point in points])
    return Line(name, style, " ".join(f"{left:g},{100 - top:g}" for left, top in zip(lefts, tops, strict=True)))


def make_band(name: str, style: str, x: Axis, y: Axis, points: Sequence[tuple[float, float, float]]) -> Line:
    """Return the outline of a band: each point is a place on the x axis, the lower and the upper end."""
    outline = [(at, low) for at, low, _ in points] + [(at, high) for at, _, high in reversed(points)]
    return make_line(name, style, x, y, outline)


def make_bars(
    x: Axis,
    y: Axis,
    edges: Sequence[float],
    stacks: Sequence[tuple[str, Sequence[float]]],
    hover: Callable[[int], str],
) -> tuple[Bar, ...]:
    """Return stacked bars.

    Args:
        x, y: the axes.
        edges: [bins + 1], the limits of the bars on the x axis.
        stacks: style and [bins] heights of each part, the lowest part first.
        hover: bin → its text.
    """
    lefts = x.positions(edges)
    bars: list[Bar] = []
    for place, (left, right) in enumerate(pairwise(lefts)):
        parts: list[tuple[str, float, float]] = []
        total = 0.0
        for style, heights in stacks:
            low, high = y.positions([total, total + heights[place]])
            total += heights[place]
            if high > low:
                parts.append((style, round(100 - high, 2), round(high - low, 2)))
        if parts:
            bars.append(Bar(left, round(right - left, 2), tuple(parts), hover(place)))
    return tuple(bars)
