"""Laws of the mixture-of-logistics transform, in its tails too."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vocoder.flows.mixlogcdf import LogisticMixture, MixLogCdf

# Spread of the mixture logits and the means; mean and spread of the log-scales.
MIXTURES = {
    "mild": (1.0, 1.0, -1.0, 0.5),
    "wide": (2.0, 3.0, -1.0, 1.5),
    "narrow": (2.0, 3.0, -4.0, 1.5),
    "at the floor": (2.0, 2.0, -7.0, 0.5),
    "broad": (1.0, 1.0, 3.0, 1.0),
    "one component": (20.0, 1.0, -2.0, 1.0),
}
each_mixture = pytest.mark.parametrize("kind", MIXTURES)


def parameters(kind: str, n: int = 1500, n_components: int = 32) -> Tensor:
    """Return params (1, 2 + 3K, n) in float64."""
    of_logits, of_means, middle, of_scales = MIXTURES[kind]
    generator = torch.Generator().manual_seed(0)
    spread = [0.5, 1.0]
    for size in (of_logits, of_means, of_scales):
        spread += [size] * n_components
    noise = torch.randn(1, len(spread), n, generator=generator, dtype=torch.float64)
    params = noise * torch.tensor(spread)[:, None]
    params[:, -n_components:] += middle
    return params


def mixture(params: Tensor) -> LogisticMixture:
    return MixLogCdf()._split(params)[2]


def targets(n: int = 1500) -> Tensor:
    """Return logits (1, n), a tenth of them far in the tails."""
    y = 3 * torch.randn(1, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y[:, ::10] *= 8
    return y


@each_mixture
def test_log_derivative(kind: str) -> None:
    params = parameters(kind)
    x = targets().requires_grad_()
    z, log_derivative = MixLogCdf().forward(x, params)
    (derivative,) = torch.autograd.grad(z.sum(), x)
    assert z.isfinite().all()
    # Between narrow components the derivative cancels in z; its logarithm does not.
    seen = log_derivative > -8
    assert seen.double().mean() > 0.3
    torch.testing.assert_close(log_derivative[seen], derivative[seen].log(), atol=1e-7, rtol=1e-9)


@each_mixture
def test_inverse_in_double_precision(kind: str) -> None:
    params, z = parameters(kind), targets()
    x = MixLogCdf().inverse(z, params)
    reached, log_derivative = MixLogCdf().forward(x, params)
    assert ((reached - z).abs() <= 1e-9 * (1 + z.abs())).all()
    # Where the density is nearly zero, many x have the same z to rounding.
    again = MixLogCdf().inverse(reached, params)
    seen = log_derivative > -8
    assert seen.double().mean() > 0.3
    torch.testing.assert_close(again[seen], x[seen], atol=1e-9, rtol=1e-9)


@each_mixture
@torch.no_grad()
def test_inverse_in_single_precision_takes_twenty_evaluations(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, y = parameters(kind).float(), targets().float()
    evaluations = []
    logit = LogisticMixture.logit

    def counted(self: LogisticMixture, x: Tensor) -> tuple[Tensor, Tensor]:
        evaluations.append(x)
        return logit(self, x)

    monkeypatch.setattr(LogisticMixture, "logit", counted)
    x = mixture(params).inverse_logit(y).double()
    assert len(evaluations) <= 20
    reached, log_slope = logit(mixture(params.double()), x)
    # A slope of exp(7) turns the rounding of x itself into more than 1e-5.
    rounding = 4 * torch.finfo(torch.float32).eps * log_slope.exp() * x.abs()
    assert ((reached - y).abs() <= 1e-5 * (1 + y.abs()) + rounding).all()
    exact = mixture(params.double()).inverse_logit(y.double())
    seen = (log_slope > -8) & (log_slope < 0)
    lost = 1e-5 * (1 + y.abs()) * (-log_slope).exp()  # y is known to 1e-5 and no better
    assert ((x - exact).abs() <= 1e-5 * (1 + exact.abs()) + lost)[seen].all()


def test_far_tails_are_those_of_one_logistic() -> None:
    """Where F rounds to 1 a logit taken of it stops, and reports a false density."""
    params = torch.zeros(1, 2 + 3 * 2, 6, dtype=torch.float64)
    params[:, 4:6] = torch.tensor([-0.5, 0.5])[:, None]
    x = torch.tensor([[-1e4, -700.0, -40.0, 40.0, 700.0, 1e4]], dtype=torch.float64)
    z, log_derivative = MixLogCdf(2).forward(x, params)
    middle = math.log(math.cosh(0.5))  # ln of the mean of exp(±½)
    torch.testing.assert_close(z, x - x.sign() * middle, atol=1e-9, rtol=1e-12)
    torch.testing.assert_close(log_derivative, torch.zeros_like(x), atol=1e-9, rtol=0)
    torch.testing.assert_close(MixLogCdf(2).inverse(z, params), x, atol=1e-9, rtol=1e-12)


def test_zero_parameters_are_the_identity() -> None:
    params = torch.zeros(1, 98, 1500, dtype=torch.float64)
    x = targets()
    z, log_derivative = MixLogCdf().forward(x, params)
    torch.testing.assert_close(z, x, atol=1e-12, rtol=0)
    torch.testing.assert_close(log_derivative, torch.zeros_like(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(MixLogCdf().inverse(x, params), x, atol=1e-12, rtol=0)


def test_inverse_has_the_gradients_of_the_implicit_function() -> None:
    transform = MixLogCdf(3)
    params = parameters("mild", n=6, n_components=3).requires_grad_()
    z = targets(6).requires_grad_()
    assert torch.autograd.gradcheck(transform.inverse, (z, params), atol=1e-6)
