"""What tells a shared estimator which flow it serves.

Source: NanoFlow (NeurIPS 2020), §3.3: flow indication embedding and multiplicative gates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vocoder.nets.wavenet2d import FlowParameters


class FlowIndicator(nn.Module):
    """An embedding per flow, projected by every layer to a shift, and a gate per flow and layer.

    Args:
        n_flows: Number of flows K.
        size: embedding size E.
        n_layers: layers L of the estimator.
        channels: residual channels C of the estimator.
    """

    def __init__(self, n_flows: int, size: int, n_layers: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(nn.init.orthogonal_(torch.empty(n_flows, size)))
        self.projections = nn.ModuleList(
            weight_norm(nn.Linear(size, 2 * channels)) for _ in range(n_layers)
        )
        self.gate = nn.Parameter(torch.ones(n_flows, n_layers, channels))
        self.shift: nn.Parameter | None = None

    def forward(self) -> list[FlowParameters]:
        """Return the parameters of every flow."""
        shift = self._project() if self.shift is None else self.shift
        return [FlowParameters(s, g) for s, g in zip(shift, self.gate, strict=True)]

    def fold(self) -> None:
        """Replace embedding and projections by the K · L · 2C shifts that they amount to, once."""
        if self.shift is not None:
            return
        self.shift = nn.Parameter(self._project().detach())
        del self.embedding
        self.projections = nn.ModuleList()

    def _project(self) -> Tensor:
        """Return the shifts (K, L, 2C)."""
        return torch.stack([project(self.embedding) for project in self.projections], dim=1)
