"""What a mel-spectrogram of unknown origin looks like, by its values alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from vocoder.device import as_float64
from vocoder.mel.presets import MelPreset, get_preset

logger = logging.getLogger("vocoder")

# Speech in natural logarithms, whatever its gain: from the median to the loudest cells (contrast)
# there are 2 to 6.5 nats, from band to band (grain) 0.2 to 0.6, and the product of both lies in 0.7
# to 2.7. A log10 mel has 1/2.3 of each. Measured on clean, noisy, quiet, clipped and smoothed
# espeak-ng speech in all presets. Noise alone is flatter than speech in log10, hence the lower
# bound; a pure tone has speech's contrast in ln without its grain.
_LOG10_CONTRASTS = 1.2, 2.7
_LN_CONTRAST = 2.9
_LN_PRODUCT = 0.5  # of speech in ln, at least
_LOG10_PRODUCT = 0.65  # of speech in log10, at most
_DB_CONTRAST = 15  # dB; that of speech is 17 to 56, and of ln of its power 4 to 13
_CHECKED_FRAMES = 2000  # enough to tell, of an hour of mel
_SPIKE = 3  # cells at one value that make it a floor, not chance


_is_told: ContextVar[bool] = ContextVar("_is_told", default=False)


def misfit(mel: Tensor, preset: MelPreset) -> str | None:
    """Say in words that a mel cannot be of a preset, and what to do; None where it can.

    Args:
        mel: The mel (M, F), of which the first frames are looked at.
        preset: What it is taken for.
    """
    appearance = looks_like(mel[..., :_CHECKED_FRAMES], preset)
    if appearance is None:
        return None
    remedy = "make it by that preset"
    if "unit variance" in appearance:
        remedy = "undo it with the statistics of its model (--mel-stats FILE)"
    elif "dB" in appearance and preset.log != "none":
        remedy = "if only the logarithm is another, give --mel-scale db"
    elif "log10" in appearance:
        remedy = "if only the logarithm is another, give --mel-scale log10"
    elif "normalised" in appearance:
        remedy = "undo what its model did to it"
    return f"the values do not fit the preset {preset.name}: {appearance}; {remedy}"


def warn_of_misfit(mel: Tensor, preset: MelPreset, name: str = "mel") -> None:
    """Log a warning where a mel (M, F) cannot be of a preset, for whoever has not told of it."""
    if _is_told.get() or not mel.numel():
        return
    problem = misfit(mel, preset)
    if problem is not None:
        logger.warning("%s: %s", name, problem)


@contextmanager
def telling_of_misfits() -> Iterator[None]:
    """Let nothing within the block warn of a misfit, since who opens it tells of them by name."""
    token = _is_told.set(True)
    try:
        yield
    finally:
        _is_told.reset(token)


def looks_like(mel: Tensor, preset: MelPreset | str) -> str | None:
    """Judge by range and contrast whether a mel-spectrogram can be of a preset.

    Built to raise no false alarm for sound that really is of the preset, be it silent or noise, so
    it misses some that are not.

    Args:
        mel: (..., M, F).
        preset: what it is taken for, a preset or its name.

    Returns:
        None if the values fit, otherwise what they look like: "looks like log10", "looks like dB",
        "looks like linear magnitude", "looks normalised to 0..1" or the like.
    """
    preset = get_preset(preset) if isinstance(preset, str) else preset
    mel = as_float64(mel.detach())
    if not mel.numel():
        return None
    if not mel.isfinite().all():
        return "holds NaN or infinite values"
    lowest, highest = preset.silence_floor, _compress_peak(preset)
    slack = 0.05 * (highest - lowest)
    low, high, middle = mel.min().item(), mel.max().item(), mel.median().item()
    if preset.log == "none":
        if low < -1e-3:
            return _name(mel)
        return "looks normalised to 0..1" if _is_unit_range(mel) else None
    if low < lowest - slack or high > highest + slack or middle > _compress_noise(preset):
        name = _name(mel)
        if preset.scale == 1 and name == f"looks like {preset.log}":
            return f"reaches from {low:.4g} to {high:.4g}, beyond {lowest:.4g} to {highest:.4g}"
        return name
    if lowest > -1:  # normalised to 0..1
        return "looks like linear magnitude" if _is_linear(mel) else None
    if (mel - lowest).abs().lt(1e-3).sum() >= _SPIKE:
        return None
    floor = _floor_name(mel)
    if floor:
        return floor
    if low >= -1e-3 and (_is_linear(mel) or _is_unit_range(mel)):
        return _name(mel)
    contrast, grain = _contrast(mel, lowest + slack)
    if preset.log == "ln" and preset.scale == 1:
        least, most = _LOG10_CONTRASTS
        likely_range = low > -5.6 and -3 < high < 1.5
        if likely_range and least < contrast < most and contrast * grain < _LN_PRODUCT:
            return "looks like log10"
    # Over a higher silence a wrong ln is out of range, and speech is steep by itself.
    if preset.log == "log10" and preset.scale == 1 and lowest < -8:
        likely = contrast < 7 and 0.2 < grain < 0.8 and low < -5
        return "looks like ln" if likely and _is_steep(contrast, grain) else None
    return None


def _name(mel: Tensor) -> str:
    """Name the likeliest scale of values that do not fit."""
    low, high = mel.min().item(), mel.max().item()
    if low < -20:
        contrast, _ = _contrast(mel, low + 0.05 * (high - low))
        # Decibels are 8.7 times nats, and logarithms of power 2 times those of amplitude.
        return "looks like ln of power" if 0 < contrast < _DB_CONTRAST else "looks like dB"
    if low >= -1e-3:
        return "looks normalised to 0..1" if _is_unit_range(mel) else "looks like linear magnitude"
    floor = _floor_name(mel)
    if floor:
        return floor
    mean, deviation = mel.mean().item(), mel.std().item()
    if abs(mean) < 0.5 and 0.6 < deviation < 1.5 and low > -6:
        return "looks normalised to zero mean and unit variance"
    contrast, grain = _contrast(mel, low + 0.05 * (high - low))
    return "looks like ln" if _is_steep(contrast, grain) or low < -10 else "looks like log10"


def _floor_name(mel: Tensor) -> str | None:
    """Name the scale whose floor is the lowest value, hit several times."""
    low = mel.min()
    if (mel - low).abs().lt(1e-4).sum() < _SPIKE:
        return None
    floors = {
        math.log(1e-5): "looks like ln (its floor is ln 1e-5)",
        math.log(1e-7): "looks like ln (its floor is ln 1e-7)",
        -10.0: "looks like log10 (its floor is log10 1e-10)",
        -5.0: "looks like log10 (its floor is log10 1e-5)",
        -4.0: "looks normalised to -4..4",
    }
    return next((name for floor, name in floors.items() if abs(low - floor) < 1e-3), None)


def _is_linear(mel: Tensor) -> bool:
    """Tell whether most of what is not silent lies far below the peak, as magnitudes do."""
    peak = mel.max()
    heard = mel[mel > 1e-4 * peak]
    return bool(peak > 0 and heard.median() < 0.05 * peak)


def _is_unit_range(mel: Tensor) -> bool:
    low, high = mel.min().item(), mel.max().item()
    return low >= -1e-3 and 0.3 < high <= 1.1 and not _is_linear(mel)


def _contrast(mel: Tensor, silence: float) -> tuple[float, float]:
    """Return how far the loudest cells lie above the median, and the step from band to band."""
    heard = mel[mel > silence]
    if len(heard) < 100:
        return 0.0, 0.0
    middle = heard.median()
    top = heard.kthvalue(math.ceil(0.99 * len(heard))).values
    loud = mel > middle
    steps = mel.diff(dim=-2).abs()[loud[..., 1:, :] & loud[..., :-1, :]]
    return (top - middle).item(), steps.median().item() if len(steps) else 0.0


def _is_steep(contrast: float, grain: float) -> bool:
    """Tell whether the values vary more than those of speech in log10."""
    return contrast > _LN_CONTRAST and contrast * grain > _LOG10_PRODUCT


def _compress_peak(preset: MelPreset) -> float:
    """Return the mel of a full-scale sinusoid in the filter that takes most: nothing is louder."""
    magnitude = preset.win_length / 2
    return _through_filters(magnitude, preset)


def _compress_noise(preset: MelPreset) -> float:
    """Return the mel of white noise of variance 1: no audio in [-1, 1] has a median above."""
    magnitude = math.sqrt(0.375 * preset.win_length)
    return _through_filters(magnitude, preset)


def _through_filters(magnitude: float, preset: MelPreset) -> float:
    spectrum = magnitude if preset.spectrum == "magnitude" else magnitude * magnitude
    return preset.compress(spectrum * float(preset.filterbank().sum(axis=1).max()))
