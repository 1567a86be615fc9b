"""From the mel-spectrogram of one preset to that of another, where it is exact."""

from __future__ import annotations

import dataclasses
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vocoder.device import as_float64
from vocoder.errors import VocoderError
from vocoder.mel.compression import COMPRESSION_FIELDS, check_bands, compress, expand
from vocoder.mel.presets import MelPreset, get_preset, preset_difference


@overload
def convert_mel(mel: Tensor, source: MelPreset | str, target: MelPreset | str) -> Tensor: ...


@overload
def convert_mel(
    mel: npt.NDArray[Any], source: MelPreset | str, target: MelPreset | str
) -> npt.NDArray[Any]: ...


def convert_mel(
    mel: Tensor | npt.NDArray[Any], source: MelPreset | str, target: MelPreset | str
) -> Tensor | npt.NDArray[Any]:
    """Convert a mel-spectrogram to another preset, where that is exact.

    It is when the presets differ in the base of the logarithm, scale, shift, floor and clip alone.
    Values below the target's floor or outside its clip come out at that bound. Values that lie at
    the source's floor or clip stand for anything beyond; they are converted as they are, so that a
    source with a higher floor gives a higher silence than the target's own.

    Args:
        mel: (..., M, F) as `source` describes it, a tensor or an array.
        source: The preset of `mel`, or its name.
        target: The preset that is wanted, or its name.

    Returns:
        The mel by `target`; an array where `mel` is one.

    Raises:
        VocoderError: The presets differ in anything else, or `mel` does not hold floats of M bands.
    """
    if isinstance(mel, np.ndarray):
        tensor = torch.from_numpy(np.ascontiguousarray(mel, mel.dtype.newbyteorder("=")))
        return convert_mel(tensor, source, target).numpy()
    if not mel.is_floating_point():
        raise VocoderError(f"mel: is {mel.dtype}, which would round what comes out; give floats")
    source = get_preset(source) if isinstance(source, str) else source
    target = get_preset(target) if isinstance(target, str) else target
    check_bands(mel, source)
    compression = {field: getattr(target, field) for field in COMPRESSION_FIELDS}
    obstacles = preset_difference(dataclasses.replace(source, **compression), target)
    if obstacles:
        raise VocoderError(
            f"no exact conversion of mels from {source.name} to {target.name}: "
            f"{', '.join(obstacles)}; compute them from the audio"
        )
    if not preset_difference(source, target):
        return mel
    # In float64 the way through the exponential costs no digit of a float32 mel.
    return compress(expand(as_float64(mel), source), target).to(mel)
