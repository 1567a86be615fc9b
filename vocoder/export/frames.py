"""Frames of a mel in a graph: what each one says of the sound, and which a place lies between."""

from __future__ import annotations

import math

import numpy as np
import torch

from vocoder.export.graph import DOUBLE, INT, Graph
from vocoder.mel.envelope import FLOOR, LOADING, band_sums, bin_shares, interpolate_bands
from vocoder.mel.presets import MelPreset


def clamp_frames(graph: Graph, frames: str, n_frames: str) -> str:
    """Let the first and the last frame stand for those beyond.

    Args:
        graph: The graph to add to.
        frames: Numbers of frames, any shape.
        n_frames: How many there are, a vector of one.
    """
    last = graph.op("Sub", n_frames, graph.ints(1))
    return graph.op("Min", graph.op("Max", frames, graph.ints(0)), last)


def between_frames(
    graph: Graph, places: str, n_frames: str, step: int, offset: float, hop_length: int
) -> tuple[str, str, str]:
    """Return between which frames each place lies, and how far.

    Args:
        graph: The graph to add to.
        places: Integers (P,); place i is at sample step · i + offset from the centre of frame 0.
        n_frames: How many frames there are, a vector of one.
        step: Samples between places.
        offset: Samples from the centre of frame 0 to the first place.
        hop_length: Samples per frame.

    Returns:
        The frames before and after (P,), and the part (P,) of the way from one to the other, in
        double. Beyond the outer frames both are the same one.
    """
    samples = graph.op("Mul", graph.cast(places, DOUBLE), graph.constant(step, DOUBLE))
    samples = graph.op("Add", samples, graph.constant(offset, DOUBLE))
    position = graph.op("Div", samples, graph.constant(hop_length, DOUBLE))
    floor = graph.op("Floor", position)
    before = graph.cast(floor, INT)
    after = graph.op("Add", before, graph.ints(1))
    before, after = (clamp_frames(graph, frame, n_frames) for frame in (before, after))
    return before, after, graph.op("Sub", position, floor)


def log_amplitude(graph: Graph, mel: str, preset: MelPreset) -> str:
    """Return `mel.envelope.log_amplitude` of a mel (N, M, T), in double."""
    tiny = max(preset.floor, 1e-12)
    shift = graph.constant(preset.shift, DOUBLE)
    x = graph.op("Sub", graph.cast(mel, DOUBLE), shift)
    if preset.log == "none":
        x = graph.op("Mul", x, graph.constant(1 / preset.scale, DOUBLE))
        x = graph.op("Log", graph.op("Max", x, graph.constant(tiny, DOUBLE)))
    else:
        base = 1.0 if preset.log == "ln" else math.log(10)
        x = graph.op("Mul", x, graph.constant(base / preset.scale, DOUBLE))
        x = graph.op("Max", x, graph.constant(math.log(tiny), DOUBLE))
    sums = np.log(np.maximum(band_sums(preset), np.finfo(float).tiny))[:, None]
    if preset.spectrum == "magnitude":
        return graph.op("Sub", x, graph.constant(sums, DOUBLE))
    x = graph.op("Mul", x, graph.constant(0.5, DOUBLE))
    noise = math.log(math.pi) / 2 - math.log(2)
    return graph.op("Sub", x, graph.constant(sums / 2 - noise, DOUBLE))


def autocorrelation(graph: Graph, amplitude: str, preset: MelPreset, order: int) -> str:
    """Return `mel.envelope.autocorrelation`, (N, T, p + 1), of logarithms of amplitudes (N, M, T).

    Its two matrices would be most of the file: the graph computes them from their few values.
    """
    weights = interpolate_bands(torch.eye(preset.n_mels, dtype=torch.float64), preset).numpy()
    left = (weights > 0).argmax(axis=0)
    right = preset.n_mels - 1 - (weights[::-1] > 0).argmax(axis=0)  # the same one, or the next
    part = weights[right, np.arange(len(right))] * (right > left)
    before, after = (
        graph.op("Gather", amplitude, graph.constant(bands, INT), axis=1) for bands in (left, right)
    )
    rise = graph.op("Mul", graph.op("Sub", after, before), graph.constant(part[:, None], DOUBLE))
    spectrum = graph.op("Transpose", graph.op("Add", before, rise), perm=[0, 2, 1])
    power = graph.op("Exp", graph.op("Add", spectrum, spectrum))  # (N, T, K)
    power = graph.op("Mul", power, graph.constant(bin_shares(preset), DOUBLE))

    wave = np.cos(2 * np.pi * np.arange(preset.n_fft) / preset.n_fft)
    bins = graph.count(graph.ints(0), graph.ints(preset.n_fft // 2 + 1))
    lags = graph.count(graph.ints(0), graph.ints(order + 1))
    angles = graph.op("Mul", graph.op("Unsqueeze", bins, graph.ints(1)), lags)
    angles = graph.op("Mod", angles, graph.ints(preset.n_fft))
    r = graph.op("MatMul", power, graph.op("Gather", graph.constant(wave, DOUBLE), angles, axis=0))
    loading = np.zeros(order + 1)
    loading[0] = 1.0
    r = graph.op("Mul", r, graph.constant(1 + LOADING * loading, DOUBLE))
    return graph.op("Add", r, graph.constant(FLOOR * loading, DOUBLE))
