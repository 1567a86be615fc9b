"""Laws of the elementwise transforms."""

from __future__ import annotations

import pytest
import torch

from vocoder.flows.elementwise import Affine, AffineSpline, Elementwise, Shift, SigmoidAffine

IDENTITIES_AT_ZERO = [Affine(), AffineSpline(), AffineSpline(n_bins=3, bound=1.5), Shift()]
TRANSFORMS = [
    *IDENTITIES_AT_ZERO,
    SigmoidAffine(),
    SigmoidAffine(shift_first=False),
    SigmoidAffine(floor=0.1),
]


def inputs(transform: Elementwise, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(2, 400, generator=generator).double()
    params = spread * torch.randn(2, transform.n_params, 400, generator=generator).double()
    return x, params


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_inverse(transform: Elementwise, spread: float) -> None:
    x, params = inputs(transform, spread)
    z, _ = transform.forward(x, params)
    # Wild parameters make slopes of 1e-3 and less, whose reciprocal multiplies the rounding.
    tolerance = 1e-9 if spread < 3 else 1e-6
    torch.testing.assert_close(transform.inverse(z, params), x, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_log_derivative(transform: Elementwise) -> None:
    x, params = inputs(transform)
    x.requires_grad_()
    z, log_derivative = transform.forward(x, params)
    (derivative,) = torch.autograd.grad(z.sum(), x)
    assert (derivative > 0).all()
    torch.testing.assert_close(log_derivative, derivative.log(), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("transform", IDENTITIES_AT_ZERO)
def test_zero_parameters_are_the_identity(transform: Elementwise) -> None:
    x, params = inputs(transform, spread=0.0)
    z, log_derivative = transform.forward(x, params)
    torch.testing.assert_close(z, x, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_derivative, torch.zeros_like(x), atol=1e-6, rtol=0)


def test_spline_is_continuous_at_its_bounds() -> None:
    transform = AffineSpline()
    _, params = inputs(transform)
    params[:, :2] = 0
    for edge in (-transform.bound, transform.bound):
        x = torch.full((2, 400), edge).double()
        inside, _ = transform.forward(x * (1 - 1e-9), params)
        torch.testing.assert_close(inside, x, atol=1e-6, rtol=0)


def test_spline_bends() -> None:
    transform = AffineSpline()
    x, params = inputs(transform)
    z, _ = transform.forward(x, params)
    affine, _ = Affine().forward(x, params[:, :2])
    assert (z - affine).abs().max() > 0.1


@pytest.mark.parametrize("floor", [0.0, 1e-3, 0.1])
def test_sigmoid_scale_lies_between_its_floor_and_one(floor: float) -> None:
    transform = SigmoidAffine(floor)
    raw = torch.linspace(-40, 40, 81).double()
    params = torch.stack([torch.zeros_like(raw), raw]).unsqueeze(0)
    _, log_scale = transform.forward(torch.zeros(1, 81).double(), params)
    expected = floor + (1 - floor) * (raw + 2).sigmoid()
    torch.testing.assert_close(log_scale[0].exp(), expected, atol=0, rtol=1e-9)
    assert log_scale.isfinite().all()
