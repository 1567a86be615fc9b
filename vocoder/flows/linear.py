"""Linear bijections over channels: ActNorm and the invertible 1 × 1 convolution.

Source: Glow (NeurIPS 2018), §3.1 and §3.2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

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
def initialise(model: nn.Module, *inputs: Tensor | int) -> None:
    """Run `model` on `inputs` and let each `DataInitialised` part start from what reaches it.

    A part that is initialised already is left alone; one that is used several times starts from
    its first use. A model without such parts is not run.
    """

    def before(part: DataInitialised, given: tuple[Tensor, ...]) -> None:
        if not part.initialised:
            part.initialise_from(given[0])
            part.initialised.fill_(True)

    parts = [part for part in model.modules() if isinstance(part, DataInitialised)]
    if not parts:
        return
    hooks = [part.register_forward_pre_hook(before) for part in parts]
    try:
        model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()


class ActNorm(DataInitialised, Bijection[[]]):
    """z = (x + bias) · scale, scale = exp(log_scale), for each channel of x (B, C, ...).

    The data gives each channel mean 0 and standard deviation 1 at first.
    """

    _correction = 0  # of the standard deviation: that of the data

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def initialise_from(self, x: Tensor) -> None:
        """Standardise each channel of x over batch and positions."""
        std, mean = torch.std_mean(x.transpose(0, 1).flatten(1), dim=1, correction=self._correction)
        self.bias.copy_(-mean)
        self.log_scale.copy_(-(std + 1e-6).log())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and its log-determinant, Σ log_scale times the positions, for each item."""
        z = (x + _per_channel(self.bias, x)) * _per_channel(self._scale(1.0), x)
        return z, (x[0, 0].numel() * self.log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Return x = z / scale − bias."""
        return z * _per_channel(self._scale(-1.0), z) - _per_channel(self.bias, z)

    def _scale(self, power: float) -> Tensor:
        """Return scale to the power 1 or −1, (C,)."""
        return (power * self.log_scale).exp()


class SignedActNorm(ActNorm):
    """ActNorm whose scale may be negative, as in FloWaveNet's code, where it is a free parameter.

    Like that code it starts from the unbiased standard deviation.
    """

    _correction = 1
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("sign", torch.ones(channels))

    def _scale(self, power: float) -> Tensor:
        return self.sign * super()._scale(power)


class Conv1x1(Bijection[[]]):
    """Multiply the channels at each position by W = P · L · (U + diag(sign · exp(log_s))).

    P is a fixed permutation, L and U are unit lower and strictly upper triangular; W starts as a
    random rotation. Computed in `full_precision`.

    Args:
        channels: Number of channels C.
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
        factors = Factors.of(rotation)
        self.register_buffer("permutation", factors.permutation)
        self.register_buffer("sign", factors.sign)
        self.square = square
        if square:
            self.lower = nn.Parameter(factors.lower)
            self.upper = nn.Parameter(factors.upper)
            self.log_s = nn.Parameter(factors.log_s)
        else:
            self.lu = nn.Parameter(factors.packed())

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
        """Return W · x (B, C, ...) and its log-determinant, Σ log_s times the positions."""
        with full_precision(x.device):
            lower, upper, log_s = self.factors()
            weight = torch.addmm(upper, lower, upper)[self.permutation]  # (L + I) · U
            return _multiply(weight, x), (x[0, 0].numel() * log_s.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Return W⁻¹ · z."""
        with full_precision(z.device):
            return _multiply(self.inverse_weight().to(z.dtype), z)

    def inverse_weight(self) -> Tensor:
        """Return W⁻¹ (C, C), by two triangular solves, which need float32 at the least."""
        lower, upper, _ = self.factors()
        wide = torch.promote_types(lower.dtype, torch.float32)
        lower, upper = lower.to(wide), upper.to(wide)
        transposed = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
        solved = torch.linalg.solve_triangular(
            lower, transposed[:, self.permutation], upper=False, unitriangular=True
        )
        return torch.linalg.solve_triangular(upper, solved, upper=True)


@dataclass(frozen=True)
class Factors:
    """The factors of a matrix W = P · L · (U + diag(sign · exp(log_s))).

    Args:
        permutation: (C,), the column of the one in each row of P.
        lower: L without its unit diagonal.
        upper: U, zero on its diagonal.
        log_s: Logarithms (C,) of the diagonal.
        sign: (C,), 1 or −1.
    """

    permutation: Tensor
    lower: Tensor
    upper: Tensor
    log_s: Tensor
    sign: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> Factors:
        """Factorise an invertible matrix (C, C)."""
        permutation, lower, upper = torch.linalg.lu(weight)
        diagonal = upper.diagonal()
        return cls(
            permutation=permutation.argmax(dim=1),
            lower=lower.tril(-1),
            upper=upper.triu(1),
            log_s=diagonal.abs().log(),
            sign=diagonal.sign(),
        )

    def packed(self) -> Tensor:
        """Return L, U and log_s in one matrix."""
        return self.lower + self.upper + self.log_s.diag()


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Return (C,) in the shape that spreads over x (B, C, ...)."""
    return values.view(-1, *[1] * (x.ndim - 2))


def _multiply(weight: Tensor, x: Tensor) -> Tensor:
    """Multiply the channels of x (B, C, ...) by a matrix at each position."""
    return F.conv1d(x.flatten(2), weight[..., None]).view(x.shape)
