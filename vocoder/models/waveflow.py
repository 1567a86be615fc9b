"""WaveFlow: a compact flow-based model for raw audio (ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vocoder.models.families.row_flow import RowFlow, RowFlowConfig
from vocoder.registry import register_model


@dataclass(frozen=True)
class WaveFlowConfig(RowFlowConfig):
    """WaveFlow: every flow has an estimator of its own."""

    # "shift": each row is transformed given the rows before it, the first given nothing.
    # "passthrough": the first row of every flow is copied, as in the WaveFlow repository.
    first_row: Literal["shift", "passthrough"] = "shift"
    bipartize: bool = False  # from flow n_flows // 2 on, flip each half of the rows by itself

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bipartize and self.n_height % 2:
            raise ValueError(f"bipartize needs an even n_height, got {self.n_height}")


@register_model("waveflow", WaveFlowConfig)
class WaveFlow(RowFlow):
    """Row-autoregressive flows, each with an estimator of its own."""

    def __init__(self, config: WaveFlowConfig) -> None:
        passthrough = config.first_row == "passthrough"
        super().__init__(
            config,
            n_nets=config.n_flows,
            n_heads=config.n_flows,
            residual="plain" if passthrough else "scaled",
            passthrough=passthrough,
            bipartize=config.bipartize,
        )
