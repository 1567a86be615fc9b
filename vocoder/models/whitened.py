"""Whitened: any voice model over the excitation of speech, behind the filter that the mel tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vocoder.config import ConfigError, from_dict, to_dict
from vocoder.mel.presets import MelPreset
from vocoder.models.families.voice import VoiceConfig
from vocoder.models.families.whitened import WhitenedVoice, WhitenedVoiceConfig
from vocoder.registry import find_model, register_model


@dataclass(frozen=True)
class WhitenedConfig(WhitenedVoiceConfig):
    """A filter, and the model behind it."""

    # The registered name of the model behind the filter, and its settings where they differ.
    inner: Mapping[str, Any] = field(default_factory=lambda: {"name": "nanoflow"})

    def __post_init__(self) -> None:
        name, settings = self.inner.get("name"), dict(self.inner)
        if not isinstance(name, str):
            raise ConfigError("inner.name: missing; name the voice model behind the filter")
        del settings["name"]
        config_class = find_model(name)[1]
        if not issubclass(config_class, VoiceConfig):
            raise ConfigError(f"inner.name: {name} is a model of images; name one of sound")
        config = from_dict(config_class, {"n_mels": self.n_mels, **settings}, "inner")
        if config.history or config.pitch_range is not None:
            raise ConfigError(f"inner.name: {name} filters by itself; train it as it is")
        # Spelt out, so that a checkpoint tells all of it.
        object.__setattr__(self, "inner", {"name": name, **to_dict(config)})
        object.__setattr__(self, "_inner", config)
        self.check_order()

    @property
    def inner_config(self) -> VoiceConfig:
        """The configuration of the model behind the filter."""
        config: VoiceConfig = self._inner  # type: ignore[attr-defined]
        return config

    @property
    def hop_length(self) -> int:
        """Samples per mel frame."""
        return self.inner_config.hop_length

    @property
    def granule(self) -> int:
        """Samples that the model behind the filter wants whole, and whole blocks."""
        return self.whole_blocks(self.inner_config.granule)

    @property
    def shortest_crop(self) -> int:
        """Samples that a crop needs at least for every weight to be trained."""
        return self.inner_config.shortest_crop

    @property
    def mel_context(self) -> tuple[int, int]:
        """Frames before and after a crop; the filters of its history, too, lie between two."""
        return self.with_filters(self.inner_config.mel_context)

    def check_preset(self, preset: MelPreset) -> None:
        """Refuse any other preset than that of the filters, and what the inner model refuses."""
        self.inner_config.check_preset(preset)
        super().check_preset(preset)


@register_model("whitened", WhitenedConfig)
class Whitened(WhitenedVoice):
    """audio → linear prediction → the inner model → noise, given the mel."""

    config: WhitenedConfig

    def __init__(self, config: WhitenedConfig) -> None:
        super().__init__(config)
        self.excitation = find_model(config.inner["name"])[0](config.inner_config)

    def forward(
        self, x: Tensor, cond: Tensor, offset: int = 0, history: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Map audio to noise; see `VoiceModel.forward`."""
        excitation, log_gains = self.whiten(x, cond, offset, history)
        z, logdet = self.excitation(excitation, cond, offset)
        return z, logdet - log_gains.sum(dim=1)

    def losses(
        self, x: Tensor, cond: Tensor, offset: int = 0, history: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the losses of the inner model, the filter's volume in the likelihood."""
        excitation, log_gains = self.whiten(x, cond, offset, history)
        losses = self.excitation.losses(excitation, cond, offset)
        return {**losses, "nll": losses["nll"] + log_gains.mean()}

    def flow_logdets(
        self, x: Tensor, cond: Tensor, offset: int = 0, history: Tensor | None = None
    ) -> list[float]:
        """Return the mean log-derivative of the filter and of each flow, in nats per sample."""
        excitation, log_gains = self.whiten(x, cond, offset, history)
        return [-log_gains.mean().item(), *self.excitation.flow_logdets(excitation, cond, offset)]

    def log_prob_per_sample(self, x: Tensor, cond: Tensor) -> Tensor:
        """Return the terms (B, N), one per audio sample, whose sum is `log_prob`, in nats."""
        excitation, log_gains = self.whiten(x, cond)
        return self.excitation.log_prob_per_sample(excitation, cond) - log_gains
