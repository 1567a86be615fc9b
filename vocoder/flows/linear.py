"""Linear bijections over channels: ActNorm and the invertible 1 × 1 convolution.

Source: Glow (NeurIPS 2018), §3.1 and §3.2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vocoder.flows.base import Bijection, full_precision


class DataInitialised(nn.Module, ABC):
    """A module whose parameters start from the first data that it sees.

    That happens in `initialise` alone and never as a side effect of `forward`; the buffer
    `initialised` says that it has happened and is saved with the weights.
    """

    initialised: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("initialised", torch.tensor(False))

    @abstractmethod
    def initialise_from(self, x: Tensor) -> None:
        """Set the parameters by the statistics of the first input `x`."""


@torch.no_grad()
def initialise(model: nn.Module, x: Tensor) -> None:
    """Run `model` on `x` and let each `DataInitialised` part start from what reaches it.

    A part that is initialised already is left alone; one that is used several times starts from
    its first use.
    """

    def before(part: DataInitialised, inputs: tuple[Tensor, ...]) -> None:
        if not part.initialised:
            part.initialise_from(inputs[0])
            part.initialised.fill_(True)

    parts = [part for part in model.modules() if isinstance(part, DataInitialised)]
    hooks = [part.register_forward_pre_hook(before) for part in parts]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()


class ActNorm(DataInitialised, Bijection[[]]):
    """z = (x + bias) · exp(log_scale) for each channel of x (B, C, H, W).

    The data gives each channel mean 0 and standard deviation 1 at first.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def initialise_from(self, x: Tensor) -> None:
        """Standardise each channel of x over batch and positions."""
        std, mean = torch.std_mean(x, dim=(0, 2, 3), correction=0)
        self.bias.copy_(-mean)
        self.log_scale.copy_(-(std + 1e-6).log())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and its log-determinant, H · W · Σ log_scale for each item."""
        z = (x + self.bias.view(-1, 1, 1)) * self.log_scale.exp().view(-1, 1, 1)
        return z, (z[0, 0].numel() * self.log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Return x = z · exp(−log_scale) − bias."""
        return z * (-self.log_scale).exp().view(-1, 1, 1) - self.bias.view(-1, 1, 1)


class Conv1x1(Bijection[[]]):
    """Multiply the channels at each position by W = P · L · (U + diag(sign · exp(log_s))).

    P is a fixed permutation, L and U are unit lower and strictly upper triangular; W starts as a
    random rotation. Computed in `full_precision`.

    Args:
        channels: C.
        square: store L and U as two C × C matrices, of which only a triangle each is read, and
            log_s beside them, as the published code does. Otherwise one matrix `lu` holds L below
            its diagonal, log_s on it and U above: no dead weights, and what weight decay pulls it
            to is P, which preserves volume.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int, square: bool = False) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels))
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        log_s = diagonal.abs().log()
        self.register_buffer("permutation", permutation.argmax(dim=1))
        self.register_buffer("sign", diagonal.sign())
        self.square = square
        if square:
            self.lower = nn.Parameter(lower.tril(-1))
            self.upper = nn.Parameter(upper.triu(1))
            self.log_s = nn.Parameter(log_s)
        else:
            self.lu = nn.Parameter(lower.tril(-1) + upper.triu(1) + log_s.diag())

    @property
    def n_dead_parameters(self) -> int:
        """Stored entries that nothing reads."""
        return self.lower.shape[0] * (self.lower.shape[0] + 1) if self.square else 0

    def factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return L without its unit diagonal, U with its diagonal, and log_s (C,)."""
        lower, upper, log_s = (
            (self.lower, self.upper, self.log_s)
            if self.square
            else (self.lu, self.lu, self.lu.diagonal())
        )
        return lower.tril(-1), upper.triu(1) + (self.sign * log_s.exp()).diag(), log_s

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return W · x (B, C, H, W) and its log-determinant, H · W · Σ log_s for each item."""
        with full_precision(x.device):
            lower, upper, log_s = self.factors()
            weight = torch.addmm(upper, lower, upper)[self.permutation]  # (L + I) · U
            z = F.conv2d(x, weight[..., None, None])
            return z, (x[0, 0].numel() * log_s.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Return W⁻¹ · z, by two triangular solves."""
        with full_precision(z.device):
            lower, upper, _ = self.factors()
            transposed = torch.eye(len(lower), dtype=z.dtype, device=z.device)[:, self.permutation]
            solved = torch.linalg.solve_triangular(
                lower, transposed, upper=False, unitriangular=True
            )
            inverse = torch.linalg.solve_triangular(upper, solved, upper=True)
            return F.conv2d(z, inverse[..., None, None])
