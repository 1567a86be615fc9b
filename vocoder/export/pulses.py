"""The pitch of a voice and the place of each sample in its period, as a part of a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
from torch import nn

from vocoder.export.frames import between_frames, clamp_frames
from vocoder.export.graph import DOUBLE, FLOAT, INT, Graph
from vocoder.nets.pitch import N_BINS, NEAR, WIDTH, PitchNet
from vocoder.nets.pulses import HARMONICS, MIDDLE, SLOPES, WIDTHS


class PlacedPulses(NamedTuple):
    """The place of each sample in the period of the voice, as values (N, T · hop) of a graph.

    Attributes:
        phase: What has passed of the period, 0 to 1; it means nothing where there is no voice.
        pitch: Periods per second, likewise.
        heard: 1 where there is a voice, 0 elsewhere.
    """

    phase: str
    pitch: str
    heard: str


def find_pitch(graph: Graph, spectrum: str, net: PitchNet) -> tuple[str, str]:
    """Return what a `PitchNet` finds: the logarithm of the pitch, and whether there is a voice.

    Args:
        graph: The graph to add to.
        spectrum: Natural logarithms of amplitudes (N, M, T), float32.
        net: The net with its weights.

    Returns:
        ln f0 (N, T), which means nothing where there is no voice, and booleans (N, T).
    """
    x = graph.op("Mul", spectrum, graph.constant(0.25))
    for layer in cast(Sequence[nn.Conv1d], net.layers):
        x = graph.op("Relu", convolve(graph, x, layer, WIDTH // 2))
    logits = convolve(graph, x, net.head, 0)
    odds, voice = graph.ops(
        "Split", logits, graph.ints(N_BINS, 1), n_outputs=2, axis=1
    )  # (N, 240, T), (N, 1, T)
    best = graph.op("ArgMax", odds, axis=1)
    bins = np.arange(N_BINS)[:, None]
    distance = graph.op("Abs", graph.op("Sub", graph.constant(bins, INT), best))
    far = graph.op("Greater", distance, graph.ints(NEAR))
    near = graph.op("Where", far, graph.constant(-math.inf), odds)
    near = graph.op("Softmax", near, axis=1)
    log_f0 = graph.op("Mul", near, graph.constant(net.log_f_min + net.bin_width * bins))
    log_f0 = graph.op("ReduceSum", log_f0, graph.ints(1), keepdims=0)
    voice = graph.op("Squeeze", voice, graph.ints(1))
    voiced = graph.op("Greater", _median(graph, voice), graph.constant(0.0))
    return _median(graph, log_f0), voiced


def pulse_features(
    graph: Graph, log_f0: str, voiced: str, *, sample_rate: int, hop_length: int, centre: int
) -> tuple[str, PlacedPulses]:
    """Return `pulse_features` of `pulses_of_pitch` (see `nets.pulses`), (N, 16, T · hop).

    What they are made of comes with them.

    Args:
        graph: The graph to add to.
        log_f0: The natural logarithm of the pitch of each frame, (N, T).
        voiced: Whether a frame has a voice, (N, T).
        sample_rate: Samples per second.
        hop_length: Samples per frame.
        centre: The sample of a frame, counted from its start, that its pitch stands for.
    """
    n_frames = graph.size(log_f0, 1)
    samples = graph.count(graph.ints(0), graph.op("Mul", n_frames, graph.ints(hop_length)))
    left, right, part = between_frames(graph, samples, n_frames, 1, -centre, hop_length)
    weight = graph.cast(part, FLOAT)
    early = graph.op("Less", weight, graph.constant(0.5))
    nearest = graph.op("Where", early, left, right)

    def at(value: str, frames: str) -> str:
        return graph.op("Gather", value, frames, axis=1)

    own = at(log_f0, nearest)
    before = graph.op("Where", at(voiced, left), at(log_f0, left), own)
    after = graph.op("Where", at(voiced, right), at(log_f0, right), own)
    rise = graph.op("Mul", graph.op("Sub", after, before), weight)
    log_pitch = graph.op("Add", before, rise)
    heard = graph.cast(at(voiced, nearest), FLOAT)
    pitch = graph.op("Exp", log_pitch)  # Hz
    periods = graph.op("Mul", pitch, graph.op("Mul", heard, graph.constant(1 / sample_rate)))
    passed = graph.op("CumSum", graph.cast(periods, DOUBLE), graph.constant(1, INT))
    phase = graph.cast(graph.op("Sub", passed, graph.op("Floor", passed)), FLOAT)
    ahead = graph.op("Less", phase, graph.constant(0.5))
    wrapped = graph.op("Sub", phase, graph.constant(1.0))
    seconds = graph.op("Div", graph.op("Where", ahead, phase, wrapped), pitch)

    angles = [
        graph.op("Mul", phase, graph.constant(2 * math.pi * k)) for k in range(1, HARMONICS + 1)
    ]
    ratios = {width: graph.op("Mul", seconds, graph.constant(1 / width)) for width in WIDTHS}
    bumps = {width: _bump(graph, ratio) for width, ratio in ratios.items()}
    octaves = graph.op("Sub", log_pitch, graph.constant(math.log(MIDDLE)))
    features = [
        graph.constant([[1.0]]),
        *(graph.op("Cos", angle) for angle in angles),
        *(graph.op("Sin", angle) for angle in angles),
        *bumps.values(),
        *(graph.op("Mul", ratios[width], bumps[width]) for width in SLOPES),
        graph.op("Mul", octaves, graph.constant(1 / math.log(2))),
    ]
    told = [
        graph.op("Unsqueeze", graph.op("Mul", feature, heard), graph.ints(1))
        for feature in features
    ]
    return graph.op("Concat", *told, axis=1), PlacedPulses(phase, pitch, heard)


def convolve(graph: Graph, x: str, layer: nn.Conv1d, padding: int) -> str:
    """Return a convolution over time, with so many zeros on each side."""
    assert layer.bias is not None
    kernel, bias = graph.constant(layer.weight), graph.constant(layer.bias)
    return graph.op("Conv", x, kernel, bias, pads=[padding, padding])


def _bump(graph: Graph, ratio: str) -> str:
    square = graph.op("Mul", ratio, ratio)
    return graph.op("Exp", graph.op("Mul", square, graph.constant(-0.5)))


def _median(graph: Graph, values: str) -> str:
    """Return the median over three neighbours of (N, T); an end stands for the frame beyond it."""
    n_frames = graph.size(values, 1)
    frames = graph.count(graph.ints(0), n_frames)
    before, after = (
        graph.op("Gather", values, clamp_frames(graph, neighbour, n_frames), axis=1)
        for neighbour in (graph.op(op, frames, graph.ints(1)) for op in ("Sub", "Add"))
    )
    low = graph.op("Min", before, values)
    high = graph.op("Max", before, values)
    return graph.op("Max", low, graph.op("Min", high, after))
