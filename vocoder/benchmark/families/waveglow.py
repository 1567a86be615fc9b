"""What is known of WaveGlow: arithmetic and published inverse."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vocoder.benchmark.published_waveglow import PublishedWaveGlow
from vocoder.benchmark.voices import FAMILIES, Family
from vocoder.models.families.voice import VoiceModel
from vocoder.models.waveglow import WaveGlow


class WaveGlows(Family):
    """WaveGlow; see `Family`."""

    def flop_per_sample(self, model: VoiceModel) -> float:
        """Return the FLOP of all networks for each audio sample, as their layers are written."""
        assert isinstance(model, WaveGlow)
        config = model.config
        C, L, n_cond = config.channels, config.n_layers, config.n_mels * config.n_group
        layers = L * (config.kernel_size * 2 * C * C + 2 * C * C + 2 * C * n_cond) - C * C
        ends = sum(3 * C * c // 2 for c in config.flow_channels)
        return 2 * (config.n_flows * layers + ends) / config.n_group

    def published(self, model: VoiceModel) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Return the published inverse; none where frames are not whole columns."""
        assert isinstance(model, WaveGlow)
        return PublishedWaveGlow(model) if model.config.granule > 1 else None


FAMILIES.register(WaveGlow)(WaveGlows())
