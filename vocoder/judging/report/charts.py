"""How the clips of each voice are spread: strips of dots as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from vocoder.judging.comparison import Comparison, Figure, format_summary

_WIDTH, _MARGIN = 380, 10
_ROW, _STRIP = 46, 22  # of a voice: its name and its strip


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
        parts.append(f'<text x="{_MARGIN}" y="{top - 6}">{escape(_shorten(voice.name))}</text>')
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
        told.append(f"{voice.name}: mean {mean:.{figure.n_decimals}f} of {n} clips")
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
