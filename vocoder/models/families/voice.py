"""The voice contract: all that the rest of this package knows of a vocoder model.

A new vocoder is one class that keeps to it. Recipes, training, likelihoods, synthesis, streaming,
judging and benchmarks then work by `forward` and `inverse` alone. Faster ways to render, stream or
export a voice are registered for exactly one class (`voice/renderer.py`, `voice/streaming.py`,
`export/voice_file.py`), so that no subclass is ever rendered without the step that it adds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from vocoder.models.families.flow import FlowModel, standard_normal_log_prob


@dataclass(frozen=True)
class VoiceConfig(ABC):
    """What the configuration of every vocoder tells."""

    n_mels: int = 80  # mel bands of the conditioning

    @property
    @abstractmethod
    def hop_length(self) -> int:
        """Samples per mel frame; a field of this name will do."""

    @property
    def granule(self) -> int:
        """Samples that the length of audio must be a multiple of; it divides the hop length."""
        return 1

    @property
    def shortest_crop(self) -> int:
        """Samples that a crop needs at least for every weight of the model to be trained."""
        return self.granule

    @property
    def mel_context(self) -> tuple[int, int]:
        """Frames of mel before and after a crop that its samples depend on."""
        return 0, 0


class VoiceModel(FlowModel):
    """A flow over waveforms, given mel-spectrograms: audio ↔ z with z ~ N(0, 1).

    In the shapes below there are B items of N samples, and M mel bands of F frames.
    """

    config: VoiceConfig

    @property
    def n_mels(self) -> int:
        """Mel bands of the conditioning."""
        return self.config.n_mels

    @property
    def hop_length(self) -> int:
        """Samples per mel frame."""
        return self.config.hop_length

    @property
    def reach(self) -> tuple[int, int] | None:
        """Frames of mel before and after its own that a sample of `inverse` depends on at most.

        None says that it may depend on the whole utterance, so that pieces of it cannot be rendered
        by themselves.
        """
        return None

    @property
    def tone_period(self) -> int | None:
        """Period in samples at which the model may leave a hum, such as its number of rows."""
        return None

    @abstractmethod
    def forward(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Map audio to noise.

        Args:
            x: Audio (B, N), N a multiple of `config.granule`.
            cond: Mel (B, M, F), with hop_length · F ≥ offset + N.
            offset: Samples between the start of the first frame and that of x. A crop comes with
                the frames of `config.mel_context`, so that its conditioning is that of the whole.

        Returns:
            z (B, N), and the log-determinant (B,) of dz/dx in nats.
        """

    @abstractmethod
    def inverse(self, z: Tensor, cond: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map noise to audio; the exact inverse of `forward`.

        Args:
            z: Noise (B, N), N = hop_length · F.
            cond: Mel (B, M, F) of the audio.
            lengths: Frames (B,) of each item of a padded batch; each item then comes out as it
                would alone, and what lies beyond its end is unspecified. None: all are F.

        Returns:
            Audio (B, N).
        """

    @abstractmethod
    def log_prob_per_sample(self, x: Tensor, cond: Tensor) -> Tensor:
        """Return the terms (B, N), one per audio sample, whose sum is `log_prob`, in nats."""

    def flow_logdets(self, x: Tensor, cond: Tensor, offset: int = 0) -> list[float]:
        """Return the mean log-derivative of each flow step, in nats per sample, for training logs.

        Args:
            x: Audio (B, N) to score.
            cond: Mel (B, M, F) of the audio.
            offset: Offset in samples, as `forward` takes it.
        """
        _, logdet = self(x, cond, offset)
        return [(logdet / x.shape[1]).mean().item()]

    def log_prob(self, x: Tensor, cond: Tensor, offset: int = 0) -> Tensor:
        """Return log p(x | cond) in nats, (B,); the arguments are those of `forward`."""
        z, logdet = self(x, cond, offset)
        return standard_normal_log_prob(z).flatten(1).sum(dim=1) + logdet

    def sample(
        self,
        cond: Tensor,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw audio (B, N) given mels (B, M, F) by noise of N(0, temperature²)."""
        shape = len(cond), cond.shape[-1] * self.hop_length
        z = torch.randn(shape, generator=generator, device=cond.device, dtype=cond.dtype)
        return self.inverse(z * temperature, cond)
