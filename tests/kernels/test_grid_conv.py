"""Convolution in the frequency domain, against torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vocoder.kernels.grid_conv import GridConv


def convolve(grid: GridConv, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the convolution of x (B, C, H, W) by weight (N, C, k, k) as `GridConv` has it."""
    analysis, filters, synthesis = grid.matrices(x)
    N, C = weight.shape[:2]
    factors = (filters @ weight.permute(2, 3, 0, 1).reshape(-1, N * C)).view(-1, N, C)
    folded = grid.fold(x)
    spectrum = (analysis @ folded.flatten(1)).unflatten(1, folded.shape[1:])
    products = torch.bmm(factors, spectrum)
    return grid.unfold((synthesis @ products.flatten(1)).unflatten(1, products.shape[1:]))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3, 5, 7]), st.integers(1, 3))
def test_agrees_with_torch(height: int, width: int, kernel_size: int, dilation: int) -> None:
    height, width = height * dilation, width * dilation
    grid = GridConv(height, width, kernel_size, dilation)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 3, kernel_size, kernel_size, generator=generator, dtype=torch.float64)
    assert torch.equal(grid.unfold(grid.fold(x)), x)
    expected = F.conv2d(x, weight, padding="same", dilation=dilation)
    torch.testing.assert_close(convolve(grid, x, weight), expected, atol=1e-11, rtol=0)


@pytest.mark.parametrize(
    ("sides", "kernel_size", "dilation", "n_products"),
    [((16, 16), 5, 2, 148), ((8, 8), 5, 1, 148), ((4, 4), 3, 1, 37), ((1, 1), 5, 1, 1)],
)
def test_products_are_few(
    sides: tuple[int, int], kernel_size: int, dilation: int, n_products: int
) -> None:
    grid = GridConv(*sides, kernel_size, dilation)
    analysis, filters, synthesis = grid.matrices(torch.zeros(1))
    assert analysis.shape == (n_products, grid.n_positions)
    assert filters.shape == (n_products, kernel_size**2)
    assert synthesis.shape == (grid.n_positions, n_products)
    # A constant is all in the first product.
    assert (synthesis[:, 0] == synthesis[0, 0]).all()
    constant = analysis @ torch.ones(grid.n_positions)
    assert constant[0] == grid.n_positions
