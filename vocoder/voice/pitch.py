"""Speaking at another pitch than that of the mel."""

from __future__ import annotations

import logging
import math
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.files.arrays import load_npy
from vocoder.mel.pitch import change_pitch
from vocoder.mel.presets import MelPreset
from vocoder.models.families.voice import PitchedVoice, VoiceModel

log = logging.getLogger("vocoder")

F0 = Tensor | npt.NDArray[np.floating]


def describe_pitch(model: VoiceModel) -> str:
    """Return what a voice can do about the pitch, for people."""
    if not isinstance(model, PitchedVoice):
        return "that of the mel; this voice cannot change it"
    low, high = model.pitch_range
    return f"{low:g} to {high:g} Hz; --pitch and --f0 change it"


def check_pitch(pitch: float) -> float:
    """Return the factor of the pitch, or raise a `VocoderError` for what cannot be one."""
    if isinstance(pitch, bool) or not isinstance(pitch, Real) or not 0 < pitch < math.inf:
        raise VocoderError(
            f"pitch {pitch}: give a factor above 0, such as 1.2; 1 leaves the pitch as it is"
        )
    return float(pitch)


def check_f0(f0: Any, shape: tuple[int, ...], frames: Tensor) -> Tensor:
    """Return the pitch tracks (B, F) as a tensor of float32, 0 beyond the end of each item.

    Args:
        f0: What the caller gave.
        shape: The shape (B, F), or (F,) of one item, that it must have.
        frames: Frames (B,) of each item, beyond which anything may stand.

    Raises:
        VocoderError: It is no array of floats of that shape, or has a negative value or NaN.
    """
    if isinstance(f0, np.ndarray) and f0.dtype.kind in "fiu":
        f0 = torch.from_numpy(f0.astype(np.float32))
    if not isinstance(f0, Tensor):
        raise VocoderError(f"f0 is a {type(f0).__name__}; give an array of Hz, one a frame")
    if tuple(f0.shape) != shape:
        raise VocoderError(
            f"f0 has shape {tuple(f0.shape)}, and the mel wants {shape}: one value in Hz for each "
            "frame, 0 where there is no voice"
        )
    f0 = f0.detach().float().reshape(len(frames), shape[-1])
    beyond = torch.arange(shape[-1], device=f0.device) >= frames.to(f0.device)[:, None]
    f0 = f0.masked_fill(beyond, 0.0)
    bad = (~(f0 >= 0) | f0.isinf()).nonzero()
    if len(bad):
        raise VocoderError(
            f"f0 at {_place(bad[0], len(f0))} is {float(f0[tuple(bad[0])]):g}; give Hz, and 0 "
            "where there is no voice"
        )
    return f0


def _place(index: Tensor, n_items: int) -> str:
    """Return in words which frame of which item an index (item, frame) names."""
    item, frame = index.tolist()
    return f"frame {frame}" if n_items == 1 else f"frame {frame} of item {item}"


def read_f0(path: Path) -> npt.NDArray[np.floating]:
    """Read a pitch track (F,) in Hz from an .npy file.

    Raises:
        VocoderError: It is missing, damaged, or no track of numbers.
    """
    track = load_npy(path)
    if track.ndim != 1 or track.dtype.kind not in "fiu":
        raise VocoderError(
            f"{path}: holds {track.dtype} of shape {track.shape}; give numbers (F,) in Hz, one a "
            "frame, 0 where there is no voice"
        )
    return np.asarray(track, np.float32)


def scale_pitch(model: PitchedVoice, f0: Tensor, factor: float) -> tuple[Tensor, int]:
    """Return a pitch times a factor, held in the range of a voice, and how many frames were held.

    Args:
        model: The model of the voice.
        f0: The pitch (B, F) in Hz, 0 where there is no voice.
        factor: What it is multiplied by.
    """
    new = f0 * factor
    within = torch.where(new > 0, new.clamp(*model.pitch_range), new)
    return within, int((within != new).sum())


def with_pitch(
    model: PitchedVoice,
    mel: Tensor,
    preset: MelPreset,
    frames: Tensor | None,
    f0: Tensor | None,
    factor: float,
) -> tuple[Tensor, Tensor]:
    """Return mels that are spoken at another pitch, and that pitch.

    Args:
        model: The model, which tells the pitch of the mels.
        mel: Mels (B, M, F) of the preset.
        preset: The preset of the mels.
        frames: Frames (B,) of each item of a padded batch; None: all are F.
        f0: The pitch wanted (B, F) in Hz, 0 where there is no voice; None is that of the mel.
        factor: What the pitch is multiplied by.

    Returns:
        Mels (B, M, F) with the harmonics of the new pitch, and the new pitch (B, F) in Hz.

    Raises:
        VocoderError: A given pitch lies beyond the range of the voice.
    """
    own = model.find_pitch(mel, frames)
    if f0 is None:
        new, n_beyond = scale_pitch(model, own, factor)
        if n_beyond:
            log.warning(
                "pitch %g: %d frames would lie beyond the %g to %g Hz of this voice, and are held "
                "there",
                factor,
                n_beyond,
                *model.pitch_range,
            )
    else:
        low, high = model.pitch_range
        new = f0.to(own) * factor
        if len(beyond := ((new > 0) & ((new < low) | (new > high))).nonzero()):
            raise VocoderError(
                f"f0 at {_place(beyond[0], len(new))} is {float(new[tuple(beyond[0])]):g} Hz, "
                f"and this voice speaks at {low:g} to {high:g} Hz; change the track, or the "
                "pitch factor"
            )
    return change_pitch(mel, preset, own.to(mel.dtype), new.to(mel.dtype)), new
