"""The shape of the pulses: placed where the pulses are, between the frames that tell it."""

from __future__ import annotations

import torch

from vocoder.nets.pulse_shape import PulseShape, place_shapes
from vocoder.nets.pulses import Pulses, pulses_of_pitch

HOP, RATE, REACH = 64, 16000, 40


def told(values: torch.Tensor) -> torch.Tensor:
    """Return shapes (1, 2 · REACH + 1, F) of which each frame has one value at all places."""
    return values.double()[None, None].expand(1, 2 * REACH + 1, -1)


def test_a_shape_stands_around_every_pulse() -> None:
    f0 = torch.full((1, 30), 250.0, dtype=torch.float64)  # a period of exactly 64 samples
    pulses = pulses_of_pitch(f0, RATE, HOP, centre=0)
    shape = torch.randn(2 * REACH + 1, dtype=torch.float64)
    placed = place_shapes(shape[None, :, None].expand(1, -1, 30), pulses, HOP, 0)[0]
    at = (
        10 * HOP - 1
    )  # the phase is told after each sample, so that pulses lie before whole periods
    assert pulses.phase[0, at] < 1e-9 or pulses.phase[0, at] > 1 - 1e-9
    expected = shape[REACH - 25 : REACH + 26]
    torch.testing.assert_close(placed[at - 25 : at + 26], expected, atol=1e-6, rtol=0)
    middle = (shape[REACH + 32] + shape[REACH - 32]) / 2
    torch.testing.assert_close(placed[at + 32], middle, atol=1e-6, rtol=0)


def test_between_the_centres_of_frames_shapes_are_interpolated() -> None:
    pulses = pulses_of_pitch(torch.full((1, 4), 250.0, dtype=torch.float64), RATE, HOP, centre=0)
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    for centre in (0, HOP // 2):
        placed = place_shapes(told(values), pulses, HOP, centre)[0]
        for frame, value in enumerate(values):
            assert torch.isclose(placed[frame * HOP + centre], value.double())
        assert torch.isclose(placed[centre + HOP // 2], torch.tensor(1.5, dtype=torch.float64))
        assert (placed[:centre] == 1).all()  # before the first centre and after the last, constant
        assert (placed[3 * HOP + centre :] == 8).all()


def test_pieces_are_the_whole() -> None:
    pulses = pulses_of_pitch(torch.rand(2, 9).double() * 200 + 80, RATE, HOP, centre=20)
    shapes = torch.randn(2, 2 * REACH + 1, 9, dtype=torch.float64)
    whole = place_shapes(shapes, pulses, HOP, 20)
    for lo, hi in ((0, 100), (100, 101), (333, 9 * HOP)):
        part = Pulses(pulses.phase[:, lo:hi], pulses.frequency[:, lo:hi])
        own = place_shapes(shapes, part, HOP, 20, lo)
        torch.testing.assert_close(own, whole[:, lo:hi], atol=1e-12, rtol=0)


def test_nothing_is_placed_without_a_voice_and_far_from_a_pulse_the_last_value_holds() -> None:
    f0 = torch.tensor([[0.0, 0.0, 50.0, 50.0, 50.0]], dtype=torch.float64)  # longer than it reaches
    pulses = pulses_of_pitch(f0, RATE, HOP, centre=0)
    placed = place_shapes(told(torch.full((5,), 3.0)), pulses, HOP, 0)
    assert torch.equal(placed == 3, pulses.frequency > 0)


def test_the_net_tells_each_frame_by_itself() -> None:
    net = PulseShape(80, 8, REACH)
    spectrum = torch.randn(2, 80, 6)
    shapes = net(spectrum)
    assert shapes.shape == (2, 2 * REACH + 1, 6)
    torch.testing.assert_close(net(spectrum[..., 2:3]), shapes[..., 2:3])
