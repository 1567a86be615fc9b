"""The untrained baseline as a voice."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from vocoder.device import check_dtype, resolve_device
from vocoder.errors import VocoderError
from vocoder.mel.griffin_lim import GriffinLim
from vocoder.mel.presets import MelPreset, get_preset
from vocoder.voice.catalogue import GRIFFIN_LIM
from vocoder.voice.streaming import BlockStream
from vocoder.voice.vocoder import Vocoder


class GriffinLimVocoder(Vocoder):
    """The untrained baseline, for any preset: phases found by Griffin-Lim iterations.

    Args:
        preset: The preset or its name.
        n_iter: Number of iterations.
        device: None is a GPU where there is one.
        dtype: None is float32; the phases are always found in float32.
    """

    def __init__(
        self,
        preset: MelPreset | str = "tacotron2-22k",
        *,
        n_iter: int = 60,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        preset = get_preset(preset) if isinstance(preset, str) else preset
        super().__init__(preset, GRIFFIN_LIM, device, dtype)
        self._invert = GriffinLim(preset, n_iter=n_iter)

    def to(self, device: str | torch.device) -> GriffinLimVocoder:
        """Return the same voice on another device; this one stays where it is."""
        other = copy.copy(self)
        other.device = resolve_device(device)
        check_dtype(other.device, other.dtype)
        return other

    def _render(
        self,
        mel: Tensor,
        frames: Tensor | None,
        temperature: float,
        seeds: Sequence[int],
        f0: Tensor | None = None,
    ) -> Tensor:
        n_items, _, n_frames = mel.shape
        counts = [n_frames] * n_items if frames is None else frames.tolist()
        audio = mel.new_zeros(n_items, n_frames * self.hop_length, dtype=torch.float32)
        # One by one: the phases of an item depend on all of its frames, padding included.
        for row, item, n, seed in zip(audio, mel.float(), counts, seeds, strict=True):
            row[: n * self.hop_length] = self._invert(item[:, :n], seed=seed)
        return audio

    def _start_stream(
        self,
        temperature: float,
        seed: int,
        block_frames: int | None,
        overlap_frames: int | None,
    ) -> BlockStream:
        raise VocoderError(
            f"{self.name}: finds the phases of whole utterances, and windows of them would not "
            "fit together; stream with a trained voice"
        )
