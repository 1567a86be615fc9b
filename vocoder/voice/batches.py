"""Mels as callers have them, and as batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.mel.presets import MelPreset

Array = npt.NDArray[np.floating]
Lengths = Sequence[int] | Tensor | npt.NDArray[np.integer]


def as_tensor(mel: Tensor | Array) -> Tensor:
    """Return a tensor of the mel, which may share its memory.

    Raises:
        VocoderError: it is neither a tensor nor an array of floats.
    """
    if isinstance(mel, Tensor):
        return mel.detach()
    if not isinstance(mel, np.ndarray) or mel.dtype.kind != "f":
        kind = mel.dtype if isinstance(mel, np.ndarray) else f"a {type(mel).__name__}"
        raise VocoderError(f"mel is {kind}; give a tensor or an array of floats")
    # As torch wants it: native byte order, at most 64 bits, no negative strides, writable.
    native = mel.dtype.newbyteorder("=") if mel.dtype.itemsize <= 8 else np.dtype(np.float64)
    return torch.from_numpy(np.require(mel, native, ["C", "W"]))


def check_audio(audio: Any) -> None:
    """Refuse what a voice cannot hear.

    Raises:
        VocoderError: it is neither a tensor nor an array, or not of floats.
    """
    if not isinstance(audio, Tensor | np.ndarray):
        raise VocoderError(f"audio is a {type(audio).__name__}; give a tensor or an array")
    if not str(audio.dtype).removeprefix("torch.").startswith(("float", "bfloat")):
        raise VocoderError(
            f"audio: is {audio.dtype}, and a voice hears floats in [-1, 1]; divide 16-bit "
            "samples by 32768"
        )


def pad_mels(mels: Sequence[Tensor], preset: MelPreset) -> tuple[Tensor, list[int]]:
    """Return mels (M, F_i) as one batch (B, M, max F) padded with silence, and their lengths."""
    lengths = [mel.shape[-1] for mel in mels]
    batch = mels[0].new_full((len(mels), preset.n_mels, max(lengths)), preset.silence_floor)
    for row, mel in zip(batch, mels, strict=True):
        row[:, : mel.shape[-1]] = mel
    return batch, lengths


def frame_counts(lengths: Lengths | None, n_items: int, n_frames: int) -> Tensor:
    """Return the frames (B,) of each item of a batch with F; all have F where no lengths are given.

    Raises:
        VocoderError: the lengths are not B whole numbers from 1 to F.
    """
    if lengths is None:
        return torch.full((n_items,), n_frames, device="cpu")
    try:
        counts = torch.as_tensor(lengths).cpu()
    except (TypeError, ValueError, RuntimeError):
        counts = torch.empty(0)  # no numbers at all
    whole = not (counts.is_floating_point() or counts.is_complex() or counts.dtype == torch.bool)
    fits = whole and counts.shape == (n_items,)
    if not fits or not bool(((counts >= 1) & (counts <= n_frames)).all()):
        told = lengths.tolist() if isinstance(lengths, Tensor | np.ndarray) else lengths
        raise VocoderError(
            f"lengths {told}: give {n_items} whole numbers of frames, 1 to {n_frames}"
        )
    return counts.long()
