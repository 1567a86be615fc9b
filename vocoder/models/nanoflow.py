"""NanoFlow: scalable normalizing flows with sublinear parameter complexity (NeurIPS 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vocoder.models.families.row_flow import RowFlow, RowFlowConfig
from vocoder.models.families.sizes import check_sizes
from vocoder.nets.indicator import FlowIndicator
from vocoder.nets.wavenet2d import FlowParameters
from vocoder.registry import register_model


@dataclass(frozen=True)
class NanoFlowConfig(RowFlowConfig):
    """NanoFlow: all flows share one estimator."""

    # "naive": everything shared; "decomposed": a projection head per flow (§3.2);
    # "full": a head, an embedding and gates per flow (§3.3).
    variant: Literal["naive", "decomposed", "full"] = "full"
    flow_embedding: int = 512  # size of the embedding, for "full"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "flow_embedding")


@register_model("nanoflow", NanoFlowConfig)
class NanoFlow(RowFlow):
    """Row-autoregressive flows that share one estimator."""

    def __init__(self, config: NanoFlowConfig) -> None:
        full = config.variant == "full"
        super().__init__(
            config,
            n_nets=1,
            n_heads=1 if config.variant == "naive" else config.n_flows,
            residual="gated" if full else "scaled",
        )
        self.indicator = (
            FlowIndicator(config.n_flows, config.flow_embedding, config.n_layers, config.channels)
            if full
            else None
        )

    def fold(self) -> NanoFlow:
        """Return a frozen copy for inference: weight norm and flow embedding folded."""
        model = super().fold()
        if model.indicator is not None:
            model.indicator.fold()
        return model.requires_grad_(False)

    def _flow_parameters(self) -> list[FlowParameters]:
        return super()._flow_parameters() if self.indicator is None else self.indicator()
