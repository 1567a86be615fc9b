"""Sound held to the mel that it was made from, whatever made it.

A voice is told the mel, and its sound has another one: noise moves the energy of every band. As the
mel is known, the difference can be taken out again. Each step compares the log mel of the sound
with the one given, interpolates the difference over the bins of the transform, multiplies the
magnitudes by it and keeps the phases; further steps do what those of the fast Griffin-Lim do
(Perraudin, Balazs and Søndergaard, 2013), from the phases of the voice instead of random ones: each
begins a little beyond where the last one ended, on the way that it went. It is no part of the flow:
a likelihood knows nothing of it.

Bins that no band sees, below f_min and above f_max of the preset, stay as they are. Were they moved
with the nearest band, nothing would tell when to stop, and a band that cannot be met would raise
them step by step without end.
"""

from __future__ import annotations

import math
from numbers import Integral

import torch
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.mel.envelope import heard_bins, interpolate_bands, log_amplitude
from vocoder.mel.presets import MelPreset
from vocoder.mel.spectrogram import mel_of_spectrum
from vocoder.mel.stft import block_frames, pad, stft, window_weight, windowed_inverse

_LARGEST = 3.0  # nats by which a step changes a magnitude, at most
# How far beyond, as a share of the last way. Eight steps then come as near to the mel as sixteen
# without; 0.95 is worse again.
_MOMENTUM = 0.7


def check_refine(steps: int) -> int:
    """Return the number of steps, or raise a `VocoderError` for what `hold_to_mel` refuses."""
    if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 0:
        raise VocoderError(
            f"refine {steps}: give a whole number of mel-consistency steps; 0 is none"
        )
    return int(steps)


def hold_to_mel(
    audio: Tensor, mel: Tensor, preset: MelPreset, steps: int, frames: Tensor | None = None
) -> Tensor:
    """Return audio whose mel is nearer to the one given, the nearer the more steps are taken.

    Args:
        audio: Sound (B, N) with N = F · hop_length. Half precision is computed, and returned, in
            float32.
        mel: The mels (B, M, F) that it was made from.
        preset: The preset of the mels.
        steps: How many times the difference is taken out; 0 returns the audio itself.
        frames: The items' own lengths (B,), at which each ends as it would alone; what is beyond
            stays. None: all are F.
    """
    if steps == 0:
        return audio
    audio = audio if audio.dtype == torch.float64 else audio.float()
    if frames is not None:
        audio = audio.clone()
        for row, item, n_frames in zip(audio, mel, frames.tolist(), strict=True):
            own = row[: n_frames * preset.hop_length]
            own.copy_(hold_to_mel(own[None], item[None, :, :n_frames], preset, steps)[0])
        return audio
    # Autocast would multiply with the filters in half precision.
    with torch.autocast(audio.device.type, enabled=False):
        wanted = _possible_log_amplitude(mel.to(audio), preset)
        held, before = audio + _correction(audio, wanted, preset), None
        for _ in range(steps - 1):
            ahead = held if before is None else held + _MOMENTUM * (held - before)
            held, before = ahead + _correction(ahead, wanted, preset), held
    return held


def reach_frames(preset: MelPreset, steps: int) -> tuple[int, int]:
    """Return how many frames before and after its own a sample depends on, at most.

    A step reaches over a window less a hop; what the first one reaches depends on where the frames
    begin. So we follow how far unknown samples before and after a stretch of frames spread into it.
    """
    hop, window = preset.hop_length, preset.win_length
    begin = (preset.n_fft - window) // 2 - preset.pad_widths(hop)[0]  # of frame 0, in samples
    known = [0, 0]  # the first sample known, and the first one unknown again
    for _ in range(steps):
        last = -((begin - known[0]) // hop) - 1  # of the frames that hold an unknown sample before
        first = (known[1] - begin - window) // hop + 1  # likewise after
        known = [last * hop + begin + window, first * hop + begin]
    return -(-known[0] // hop), -(known[1] // hop)


def _possible_log_amplitude(mel: Tensor, preset: MelPreset) -> Tensor:
    """Return the log amplitudes (B, M, F) wanted, as far as a sound can have them.

    Values beyond what the preset writes stand for its bounds, and nothing within full scale is
    louder than a window full of ones: so no mel, however wrong, makes the sound grow without end.
    """
    if preset.clip is not None:
        mel = mel.clamp(*preset.clip)
    return log_amplitude(mel, preset).clamp_max(math.log(preset.win_length / 2))


def _correction(audio: Tensor, wanted: Tensor, preset: MelPreset) -> Tensor:
    """Return what a step adds to audio (B, N), given the log amplitudes (B, M, F) wanted.

    The frames are those of the mel: where the preset centres them, one more would lie on the very
    end of the audio, and nothing is known of it.
    """
    hop, n_fft = preset.hop_length, preset.n_fft
    n_batch, _, n_frames = wanted.shape
    padded = pad(audio, preset)[:, : (n_frames - 1) * hop + n_fft]
    heard = heard_bins(preset).to(audio)
    change, weight = torch.zeros_like(padded), torch.zeros_like(padded[:1])
    block = max(1, block_frames(audio.device) // n_batch)
    for start in range(0, n_frames, block):
        end = min(start + block, n_frames)
        part = slice(start * hop, (end - 1) * hop + n_fft)
        spectrum = stft(padded[:, part], preset)
        own = log_amplitude(mel_of_spectrum(spectrum, preset), preset)
        difference = (wanted[..., start:end] - own).clamp(-_LARGEST, _LARGEST)
        # The gain less 1, so that a sound of the right mel stays to the bit.
        gain = interpolate_bands(difference, preset).expm1() * heard
        change[:, part] += windowed_inverse(spectrum * gain, preset)
        weight[:, part] += window_weight(end - start, preset, audio)
    left = preset.pad_widths(audio.shape[1])[0]
    own_samples = slice(left, left + audio.shape[1])
    # Where no window weighs anything, nothing is known, and the change is nothing too.
    return change[:, own_samples] / weight[:, own_samples].clamp_min(1e-3)
