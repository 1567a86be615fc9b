"""What a voice hums by itself, taken out of its sound.

A flow leaves stationary lines where it folds audio into rows, at multiples of sample_rate/H. As
NVIDIA WaveGlow's denoiser (denoiser.py of that repository) we render a mel that is 1 in every band,
whose logarithm is the zeros there, without noise, and subtract its magnitudes from every frame.
Silence would be the purer mel, but the hum grows with loudness: in a NanoFlow of 32 channels, the
lines of silence are 80 dB below those of ones, and subtracting them leaves the hum of speech as it
was. Unlike there, the bias is averaged over many frames away from the edges.
"""

from __future__ import annotations

from typing import overload

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vocoder.errors import VocoderError
from vocoder.voice.batches import Array
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.vocoder import Vocoder

_N_FFT, _HOP = 1024, 256  # samples, as in WaveGlow
# Of the mel that the bias is heard in, at the least; a quarter at each end is left out.
_BIAS_FRAMES = 64
_BIAS_SAMPLES = 16 * _N_FFT
# Samples transformed at once, a multiple of the hop, so that an hour takes no more than a minute.
_BLOCK = 1024 * _HOP


class Denoiser:
    """Subtracts the spectrum of a voice's own bias, frame by frame, and keeps the phases.

    Args:
        voice: The voice, which is heard once at temperature 0.

    Attributes:
        bias: Magnitudes (K,) of the voice's bias, for frames of 1024 samples under a Hann window.
            Zeros for Griffin-Lim, which knows no temperature and adds nothing of its own.
        sample_rate: Hz, of all audio that this denoiser can serve.
    """

    def __init__(self, voice: Vocoder) -> None:
        self.sample_rate = voice.sample_rate
        if isinstance(voice, GriffinLimVocoder):
            self.bias = torch.zeros(_N_FFT // 2 + 1, device=voice.device)
            return
        n_frames = max(_BIAS_FRAMES, -(-_BIAS_SAMPLES // voice.hop_length))
        ones = torch.full((voice.n_mels, n_frames), voice.preset.compress(1.0), device="cpu")
        # Mel consistency would hold the hum to that mel, and make a loud sound of it.
        hum = voice.synthesize(ones, temperature=0.0, seed=0, refine=0)
        quarter = len(hum) // 4
        spectrum = _stft(hum[None, quarter:-quarter])
        # Frames at either end hold the edge of the cut.
        edge = _N_FFT // _HOP
        self.bias = spectrum[0, :, edge:-edge].abs().mean(dim=-1)

    @overload
    def __call__(self, audio: Tensor, strength: float = 0.1) -> Tensor: ...

    @overload
    def __call__(self, audio: Array, strength: float = 0.1) -> Array: ...

    @torch.no_grad()
    def __call__(self, audio: Tensor | Array, strength: float = 0.1) -> Tensor | Array:
        """Take the bias out of audio, the voice's own or any other.

        Args:
            audio: (N,) or (B, N) at the voice's sample rate, of any length, on any device.
            strength: how many times the bias is subtracted; 0 changes nothing.

        Returns:
            Audio of the same kind, shape and type.

        Raises:
            VocoderError: the audio is not of that shape, or the strength negative.
        """
        check_strength(strength)
        if not isinstance(audio, Tensor):
            return self(torch.from_numpy(np.ascontiguousarray(audio)), strength).numpy()
        if audio.ndim not in (1, 2) or not audio.is_floating_point():
            raise VocoderError(
                f"audio: has shape {tuple(audio.shape)} of {audio.dtype}; "
                "give floats (N,) or (B, N)"
            )
        if audio.ndim == 1:
            return self(audio[None], strength)[0]
        wide = audio.to(torch.promote_types(audio.dtype, torch.float32))
        bias = strength * self.bias.to(wide)[:, None]
        result = torch.empty_like(audio)
        n_samples = audio.shape[1]
        for start in range(0, n_samples, _BLOCK):
            end = min(start + _BLOCK, n_samples)
            # A sample depends on the frames that hold it: with this context, which keeps the frames
            # where they were, blocks give what the whole gives.
            before, after = max(0, start - _N_FFT), min(n_samples, end + _N_FFT)
            cleaned = _subtract(wide[:, before:after], bias)
            result[:, start:end] = cleaned[:, start - before : end - before]
        return result


def check_strength(strength: float) -> None:
    """Raise a `VocoderError` for a strength that the `Denoiser` refuses."""
    if not 0 <= strength < float("inf"):
        raise VocoderError(f"strength {strength:g}: must be 0 or more; 0.1 is mild")


def _subtract(audio: Tensor, bias: Tensor) -> Tensor:
    """Subtract magnitudes (K, 1) from those of audio (B, N)."""
    # Every frame that holds a sample counts, also those centred beyond the end: so a padded item of
    # a batch is cleaned as it is alone.
    spectrum = _stft(F.pad(audio, (0, _N_FFT)))
    magnitude = spectrum.abs()
    gain = (magnitude - bias).clamp_min(0) / magnitude.clamp_min(torch.finfo(audio.dtype).tiny)
    return torch.istft(spectrum * gain, _N_FFT, _HOP, window=_window(audio), length=audio.shape[1])


def _stft(audio: Tensor) -> Tensor:
    """Return the spectrum (B, K, F) of audio (B, N), zeros beyond its ends."""
    return torch.stft(
        audio, _N_FFT, _HOP, window=_window(audio), pad_mode="constant", return_complex=True
    )


def _window(like: Tensor) -> Tensor:
    return torch.hann_window(_N_FFT, dtype=like.dtype, device=like.device)
