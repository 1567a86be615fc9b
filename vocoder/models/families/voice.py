"""The voice contract: all that the rest of this package knows of a vocoder model.

A new vocoder is one class that keeps to it. Recipes, training, likelihoods, synthesis, streaming,
judging and benchmarks then work by `forward`, `inverse` and `log_prob_per_sample` alone. Faster
ways to render, stream or export a voice are registered for exactly one class (`voice/renderer.py`,
`voice/streaming.py`, `export/voice_graph.py`), so that no subclass is ever rendered without the
step that it adds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from vocoder.mel.presets import MelPreset
from vocoder.models.families.flow import FlowModel, nats_per_dim, standard_normal_log_prob


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

    @property
    def history(self) -> int:
        """Samples of audio before a crop that `forward` is given beside it, as `history`."""
        return 0

    @property
    def pitch_range(self) -> tuple[float, float] | None:
        """The pitches in Hz that the model is told of; None: it hears the mel alone."""
        return None

    def check_preset(self, preset: MelPreset) -> None:
        """Refuse a preset whose mels the model cannot hear.

        Raises:
            ValueError: The model and the preset differ; the line says in what.
        """
        for field in ("hop_length", "n_mels"):
            ours, wanted = getattr(self, field), getattr(preset, field)
            if ours != wanted:
                raise ValueError(f"gives {field} {ours}, but the preset {preset.name} has {wanted}")


class VoiceModel(FlowModel):
    """A flow over waveforms, given mel-spectrograms: audio ↔ z with z ~ N(0, 1).

    In the shapes below there are B items of N samples, and F frames of M mel bands. What the flow
    is given, `cond`, has C channels: it is the mel itself, or what `condition` makes of it.
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
    def frames_per_cycle(self) -> int:
        """Frames from one place at which a piece may begin to be rendered by itself to the next.

        More than 1 where the first sample of a frame need not be the first of a column, say.
        """
        return 1

    @property
    def tone_period(self) -> int | None:
        """Period in samples at which the model may leave a hum, such as its number of rows."""
        return None

    def condition(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return what `inverse` is given where only the mel is known: in most models, the mel.

        Args:
            mel: Mels (B, M, F) of the preset.
            lengths: Frames (B,) of each item of a padded batch; None: all are F.

        Returns:
            The conditioning (B, C, F).
        """
        return mel

    def losses(self, x: Tensor, cond: Tensor, offset: int = 0) -> dict[str, Tensor]:
        """Return what training makes smaller, by name: scalars, which are summed.

        The arguments are those of `forward`, of crops of recordings. "nll" is the negative
        log-likelihood in nats per sample; a model may add others.
        """
        return {"nll": nats_per_dim(*self(x, cond, offset))}

    @abstractmethod
    def forward(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Map audio to noise.

        A model whose `config.history` is not 0 takes one argument more, `history`: so many samples
        (B, config.history) before x; None is silence.

        Args:
            x: Audio (B, N), N a multiple of `config.granule`.
            cond: The conditioning (B, C, F), with hop_length · F ≥ offset + N.
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
            cond: The conditioning (B, C, F).
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
            cond: The conditioning (B, C, F).
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
        mel: Tensor,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw audio (B, N) given mels (B, M, F) by noise of N(0, temperature²)."""
        shape = len(mel), mel.shape[-1] * self.hop_length
        z = torch.randn(shape, generator=generator, device=mel.device, dtype=mel.dtype)
        return self.inverse(z * temperature, self.condition(mel))


class PitchedVoice(VoiceModel):
    """A model that is told the pitch beside the mel, and so speaks at another one where asked."""

    @property
    def pitch_range(self) -> tuple[float, float]:
        """The lowest and the highest pitch in Hz that it speaks at."""
        pitches = self.config.pitch_range
        assert pitches is not None
        return pitches

    @property
    @abstractmethod
    def pitch_reach(self) -> int:
        """Frames on each side of a frame that its pitch is read off."""

    @abstractmethod
    def find_pitch(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the pitch (B, F) of mels in Hz, 0 where there is no voice.

        Args:
            mel: Mels (B, M, F) of the preset.
            lengths: Frames (B,) of each item of a padded batch; None: all are F.
        """

    @abstractmethod
    def condition(
        self, mel: Tensor, lengths: Tensor | None = None, f0: Tensor | None = None
    ) -> Tensor:
        """Return the conditioning (B, C, F) of mels, and of their pitch or another one.

        Args:
            mel: Mels (B, M, F) of the preset.
            lengths: Frames (B,) of each item of a padded batch; None: all are F.
            f0: The pitch (B, F) in Hz, 0 where there is no voice; None: that of the mel.
        """
