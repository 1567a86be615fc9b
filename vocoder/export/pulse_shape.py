"""The step of SourceFlow to what is likeliest, as a part of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import nn

from vocoder.export.frames import between_frames
from vocoder.export.graph import FLOAT, INT, Graph
from vocoder.export.pulses import PlacedPulses, convolve
from vocoder.mel.envelope import frame_centre
from vocoder.models.families.whitened import SCALE
from vocoder.models.sourceflow import SourceFlow
from vocoder.nets.pulse_shape import FADE


def to_the_likeliest(
    graph: Graph, excitation: str, spectrum: str, pulses: PlacedPulses, model: SourceFlow
) -> str:
    """Return the excitation (N, T · hop) after the step that `SourceFlow.likeliest` describes.

    Args:
        graph: The graph to add to.
        excitation: What the NanoFlow gives, (N, T · hop) in float32.
        spectrum: Natural logarithms of amplitudes (N, M, T), float32.
        pulses: The place of the samples in the period of the voice.
        model: The model with its weights.
    """
    kept = model.config.voiced_noise
    less = graph.op("Mul", pulses.heard, graph.constant(1 - kept))
    share = graph.op("Sub", graph.constant(1.0), less)
    shape = graph.op("Mul", _shapes(graph, spectrum, pulses, model), less)
    shift = graph.op("Mul", shape, graph.constant(1 / SCALE))
    return graph.op("Add", graph.op("Mul", excitation, share), shift)


def _shapes(graph: Graph, spectrum: str, pulses: PlacedPulses, model: SourceFlow) -> str:
    """Return `nets.pulse_shape.place_shapes` of the shapes of a mel, also where no voice is."""
    net, preset = model.pulse_shape, model.config.preset
    x = graph.op("Mul", spectrum, graph.constant(0.25))
    for layer in cast(Sequence[nn.Conv1d], net.layers):
        x = graph.op("Tanh", convolve(graph, x, layer, 0))
    shapes = graph.op("Transpose", convolve(graph, x, net.head, 0), perm=[0, 2, 1])
    flat = graph.op("Reshape", shapes, graph.ints(0, -1))

    n_taps = 2 * net.reach + 1
    left, right, part = between_frames(
        graph,
        graph.count(graph.ints(0), graph.size(pulses.phase, 1)),
        graph.size(shapes, 1),
        1,
        -frame_centre(preset),
        model.hop_length,
    )

    frame_weight = graph.cast(part, FLOAT)
    period = graph.op("Div", graph.constant(float(preset.sample_rate)), pulses.pitch)  # samples

    def at(turns: str) -> str:
        place = graph.op("Mul", turns, period)
        place = graph.op("Add", place, graph.constant(float(net.reach)))
        place = graph.op("Max", place, graph.constant(0.0))
        place = graph.op("Min", place, graph.constant(float(n_taps - 1)))
        floor = graph.op("Floor", place)
        tap_weight = graph.op("Sub", place, floor)
        tap = graph.cast(floor, INT)
        next_tap = graph.op("Min", graph.op("Add", tap, graph.ints(1)), graph.ints(n_taps - 1))

        def on(frame: str) -> str:
            first = graph.op("Mul", frame, graph.ints(n_taps))
            before, after = (
                graph.op("GatherElements", flat, graph.op("Add", first, own), axis=1)
                for own in (tap, next_tap)
            )
            return _lerp(graph, before, after, tap_weight)

        return _lerp(graph, on(left), on(right), frame_weight)

    fade = graph.op("Sub", pulses.phase, graph.constant(0.5 - FADE / 2))
    fade = graph.op("Mul", fade, graph.constant(1 / FADE))
    fade = graph.op("Min", graph.op("Max", fade, graph.constant(0.0)), graph.constant(1.0))
    until = graph.op("Sub", pulses.phase, graph.constant(1.0))
    return _lerp(graph, at(pulses.phase), at(until), fade)


def _lerp(graph: Graph, before: str, after: str, weight: str) -> str:
    rise = graph.op("Mul", graph.op("Sub", after, before), weight)
    return graph.op("Add", before, rise)
