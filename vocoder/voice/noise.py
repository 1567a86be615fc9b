"""The noise that a seed stands for, at any position of an utterance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_BLOCK = 4096  # samples drawn at once
_KIND: Any = {"dtype": torch.float32, "device": "cpu"}


class Noise:
    """N(0, 1) noise in which sample n depends on the seed and on n alone, drawn as it is asked for.

    Drawn in whole blocks, since torch draws the tail of an odd-sized tensor differently; in float32
    on the CPU, whatever torch's defaults are, so that every device and program gets the same.

    Args:
        seed: Seed of the generator.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._first = 0  # position of the first sample that is kept
        self._samples = torch.empty(0, **_KIND)

    def take(self, lo: int, hi: int) -> Tensor:
        """Return the samples [lo, hi); those before lo are forgotten."""
        assert lo >= self._first
        n_blocks = -(-(hi - self._first - len(self._samples)) // _BLOCK)
        blocks = [torch.randn(_BLOCK, generator=self._generator, **_KIND) for _ in range(n_blocks)]
        self._samples = torch.cat([self._samples, *blocks])[lo - self._first :]
        self._first = lo
        return self._samples[: hi - lo].clone()


def draw_noise(n_samples: int, seed: int) -> Tensor:
    """Return the first N samples of a seed's noise, (N,)."""
    return Noise(seed).take(0, n_samples)


def fill_with_noise(out: Tensor, seed: int) -> None:
    """Fill (N,) with what `draw_noise` returns."""
    noise = Noise(seed)
    for start in range(0, len(out), _BLOCK):
        part = out[start : start + _BLOCK]
        part.copy_(noise.take(start, start + len(part)))
