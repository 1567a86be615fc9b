"""What the excitation around a pulse of the voice looks like, on the whole, as the mel tells it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vocoder.nets.pulses import Pulses

FADE = 0.2  # periods, in the middle between two pulses, over which one shape passes into the other


class PulseShape(nn.Module):
    """Tells the shape of the pulses of each frame, by the same small net for every frame.

    Args:
        n_mels: Bands M of the mel.
        channels: Channels of the layers.
        reach: Samples before and after a pulse that are told.
    """

    def __init__(self, n_mels: int, channels: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.layers = nn.ModuleList(nn.Conv1d(size, channels, 1) for size in (n_mels, channels))
        self.head = nn.Conv1d(channels, 2 * reach + 1, 1)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Return the shapes (B, 2 · reach + 1, F), at unit deviation of the excitation.

        Args:
            spectrum: Natural logarithms of amplitudes (B, M, F); see `mel.envelope.log_amplitude`.
        """
        x = spectrum / 4  # about unit deviation
        for layer in self.layers:
            x = layer(x).tanh()
        return self.head(x)


def place_shapes(
    shapes: Tensor, pulses: Pulses, hop_length: int, centre: int, offset: int = 0
) -> Tensor:
    """Return the excitation (B, N) that has a shape at every pulse, and is 0 without a voice.

    A sample takes the value that lies as far from the pulse as it lies from the nearest one,
    interpolated linearly between the values, and between the frames. In the middle between two
    pulses one shape fades into the other, so that rounding of the phase is nowhere a jump.

    Args:
        shapes: Shapes (B, 2 · reach + 1, F), such as `PulseShape` gives.
        pulses: The pulses (B, N) of the samples.
        hop_length: Samples per frame.
        centre: The sample of a frame, counted from its start, that its shape stands for.
        offset: Samples from the start of the first frame to the first of the pulses.
    """
    n_taps, n_frames = shapes.shape[1:]
    phase, frequency = pulses
    voiced = frequency > 0
    period = torch.where(voiced, 1 / torch.where(voiced, frequency, 1.0), 0.0).to(shapes.dtype)
    phase = phase.to(shapes.dtype)
    samples = torch.arange(phase.shape[1], device=shapes.device) + (offset - centre)
    frame, frame_weight = _between(samples.to(shapes.dtype) / hop_length, n_frames)
    following = (frame + 1).clamp(max=n_frames - 1)
    flat = shapes.mT.flatten(1)

    def at(distance: Tensor) -> Tensor:
        """Return the values (B, N) so many samples from a pulse."""
        tap, tap_weight = _between(distance + n_taps // 2, n_taps)
        next_tap = (tap + 1).clamp(max=n_taps - 1)
        here, there = (
            torch.lerp(
                flat.gather(1, own * n_taps + tap),
                flat.gather(1, own * n_taps + next_tap),
                tap_weight,
            )
            for own in (frame, following)
        )
        return torch.lerp(here, there, frame_weight.expand_as(here))

    fade = ((phase - 0.5) / FADE + 0.5).clamp(0, 1)
    return torch.lerp(at(phase * period), at((phase - 1) * period), fade) * voiced


def _between(position: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return which of n places lies before a position, and the part of the way to the next."""
    position = position.clamp(0, n - 1)
    before = position.floor()
    return before.long(), position - before
