"""Laws of the elementwise transforms."""

from __future__ import annotations

import pytest
import torch

from vocoder.flows.elementwise import Affine, AffineSpline, Elementwise

TRANSFORMS = [Affine(), AffineSpline(), AffineSpline(n_bins=3, bound=1.5)]


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


@pytest.mark.parametrize("transform", TRANSFORMS)
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
