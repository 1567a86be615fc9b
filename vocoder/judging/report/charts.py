"""Charts as inline SVG: strips of dots, a histogram, and curves of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from vocoder.judging.comparison import Comparison, Figure, format_summary

_WIDTH, _MARGIN = 380, 10
_ROW, _STRIP = 46, 22  # of a voice: its name and its strip
_HEIGHT = 200  # of the area of a histogram or of curves
_BESIDE = 30  # left of it, for numbers
_N_BARS = 50
_DASHES = ("", "5 3", "1 3")  # tell curves apart without colours


def strip_chart(comparison: Comparison, figure: Figure) -> str:
    """Return an SVG with a strip for each voice that has the figure.

    A dot is a clip, the bar reaches over the middle half of them, and the tall line is the mean.
    """
    voices = [voice for voice in comparison.voices if figure.name in voice.values]
    spread = np.concatenate([voice.values[figure.name] for voice in voices])
    known = spread[np.isfinite(spread)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    ticks = nice_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    scale = (_WIDTH - 2 * _MARGIN) / ((high - low) or 1.0)

    def place(value: float) -> str:
        return f"{_MARGIN + (value - low) * scale:.1f}"

    parts, told = [], []
    for index, voice in enumerate(voices):
        top = index * _ROW + _ROW - _STRIP
        mean, _, n = voice.summary(figure.name)
        name = comparison.labels[voice.name]
        parts.append(f'<text x="{_MARGIN}" y="{top - 6}">{escape(_shorten(name))}</text>')
        if not math.isfinite(mean):
            text = format_summary(voice, figure)
            parts.append(f'<text class="none" x="{_MARGIN}" y="{top + 15}">{text}</text>')
            continue
        values = voice.values[figure.name]
        finite = values[np.isfinite(values)]
        first, last = (float(x) for x in np.quantile(finite, [0.25, 0.75]))
        width = max(float(place(last)) - float(place(first)), 1)
        parts.append(
            f'<rect class="half" x="{place(first)}" y="{top}" width="{width:.1f}" '
            f'height="{_STRIP - 4}"/>'
        )
        # Spread over the height, so that dots of equal clips are told apart.
        heights = (np.arange(len(finite)) * 0.618) % 1 * (_STRIP - 10) + top + 3
        dots = "".join(
            f"M{place(value)} {height:.1f}h0" for value, height in zip(finite, heights, strict=True)
        )
        parts.append(f'<path class="dots" d="{dots}"/>')
        parts.append(f'<path class="mean" d="M{place(mean)} {top - 2}v{_STRIP}"/>')
        told.append(f"{name}: mean {mean:.{figure.n_decimals}f} of {n} clips")
    bottom = len(voices) * _ROW + 4
    parts.append(f'<path class="axis" d="M{_MARGIN} {bottom}H{_WIDTH - _MARGIN}"/>')
    for tick in ticks:
        parts.append(
            f'<path class="axis" d="M{place(tick)} {bottom}v4"/>'
            f'<text class="tick" x="{place(tick)}" y="{bottom + 17}">{_number(tick)}</text>'
        )
    label = escape(f"{figure.label}. {'; '.join(told)}", quote=True)
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {bottom + 22}">'
        f"{''.join(parts)}</svg>"
    )


def histogram(values: npt.NDArray[np.float64], label: str) -> str:
    """Return an SVG of how many of the values lie where; the tall line is their mean.

    Args:
        values: The values (N,); those that are not finite are left out, and the label tells so.
        label: What is counted, for those who do not see the chart.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return f"<p>{escape(label)}: none is finite.</p>"
    ticks = nice_ticks(float(finite.min()), float(finite.max()))
    frame = _Frame((ticks[0], ticks[-1]), (0.0, 1.0))
    counts, edges = np.histogram(finite, _N_BARS, (ticks[0], ticks[-1]))
    bars = "".join(
        f"M{frame.x(left)} {frame.y(0)}V{frame.y(count / counts.max())}H{frame.x(right)}"
        f"V{frame.y(0)}z"
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    )
    mean = float(finite.mean())
    parts = f'<path class="bars" d="{bars}"/><path class="mean" d="M{frame.x(mean)} 0V{_HEIGHT}"/>'
    left_out = len(values) - len(finite)
    told = f"{label}: {len(finite)} from {finite.min():.3f} to {finite.max():.3f}, mean {mean:.3f}"
    return frame.svg(parts, ticks, (), told + (f"; {left_out} not finite" if left_out else ""))


Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def curve_chart(curves: Mapping[str, Curve], label: str) -> str:
    """Return an SVG of curves that fall, cut off above what they need after the first tenth.

    The first steps of a training lie far above all that follow, which they would press flat.

    Args:
        curves: The places along and the values upwards of each curve, by its name.
        label: What the curves show, for those who do not see the chart.
    """
    finite = {name: (x[np.isfinite(y)], y[np.isfinite(y)]) for name, (x, y) in curves.items()}
    known = {name: curve for name, curve in finite.items() if len(curve[0])}
    if not known:
        return f"<p>{escape(label)}: none is finite.</p>"
    last = max(float(x.max()) for x, _ in known.values())
    low = min(float(y.min()) for _, y in known.values())
    late = [y[x >= last / 10] for x, y in known.values()]
    high = max((float(y.max()) for y in late if y.size), default=low)
    across, upwards = nice_ticks(0.0, last), nice_ticks(low, high)
    frame = _Frame((0.0, last), (upwards[0], upwards[-1]))
    parts, told = [], []
    for index, (name, (x, y)) in enumerate(known.items()):
        points = " ".join(
            f"{frame.x(a)},{frame.y(min(b, upwards[-1]))}" for a, b in zip(x, y, strict=True)
        )
        dashes = _DASHES[index % len(_DASHES)]
        parts.append(f'<polyline class="curve" stroke-dasharray="{dashes}" points="{points}"/>')
        top = 14 + 16 * index
        parts.append(
            f'<path class="curve" stroke-dasharray="{dashes}" d="M{_WIDTH - 120} {top - 4}h24"/>'
            f'<text x="{_WIDTH - 90}" y="{top}">{escape(name)}</text>'
        )
        told.append(f"{name} ends at {y[-1]:.3f}")
    inner = [tick for tick in across if tick <= last]
    return frame.svg("".join(parts), inner, upwards, f"{label}; {'; '.join(told)}")


class _Frame:
    """The area of a chart with its axes.

    Args:
        across: Least and greatest value along.
        upwards: Least and greatest value upwards.
    """

    def __init__(self, across: tuple[float, float], upwards: tuple[float, float]) -> None:
        self.across, self.upwards = across, upwards

    def x(self, value: float) -> str:
        low, high = self.across
        inner = _WIDTH - 2 * _MARGIN - _BESIDE
        return f"{_MARGIN + _BESIDE + (value - low) / ((high - low) or 1.0) * inner:.1f}"

    def y(self, value: float) -> str:
        low, high = self.upwards
        return f"{_HEIGHT - (value - low) / ((high - low) or 1.0) * (_HEIGHT - 8):.1f}"

    def svg(self, parts: str, below: Sequence[float], beside: Sequence[float], label: str) -> str:
        """Return the chart around its parts, with ticks below and beside it."""
        ticks = "".join(
            f'<path class="axis" d="M{self.x(tick)} {_HEIGHT}v4"/>'
            f'<text class="tick" x="{self.x(tick)}" y="{_HEIGHT + 17}">{_number(tick)}</text>'
            for tick in below
        ) + "".join(
            f'<path class="axis" d="M{_BESIDE + _MARGIN} {self.y(tick)}h-4"/>'
            f'<text class="tick side" x="{_BESIDE + 2}" y="{self.y(tick)}">{_number(tick)}</text>'
            for tick in beside
        )
        return (
            f'<svg role="img" aria-label="{escape(label, quote=True)}" '
            f'viewBox="0 0 {_WIDTH} {_HEIGHT + 22}">{parts}<path class="axis" '
            f'd="M{_BESIDE + _MARGIN} {_HEIGHT}H{_WIDTH - _MARGIN}"/>{ticks}</svg>'
        )


def nice_ticks(low: float, high: float) -> Sequence[float]:
    """Return two to six round numbers that lie in or just around [low, high]."""
    if not high > low:
        high = low + (abs(low) or 1.0) * 0.1
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")


def _shorten(name: str, length: int = 46) -> str:
    """Keep the end of a long name, which is where paths differ."""
    return name if len(name) <= length else "…" + name[1 - length :]
