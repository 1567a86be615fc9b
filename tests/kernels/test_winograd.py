"""Winograd filtering against the convolution that it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vocoder.kernels.winograd import F2, F4, MIDDLE, Filtering, choose_filtering


def filtered(filtering: Filtering, taps: Tensor, inputs: Tensor) -> Tensor:
    """Return the m outputs (m, W) of inputs (P, W) for one filter (3,)."""
    transformed = torch.empty_like(inputs)
    filtering.transform(inputs, transformed)
    factors = filtering.factors(taps.view(3, 1, 1)).view(-1, 1)
    return filtering.output_matrix(inputs) @ (transformed * factors)


@pytest.mark.parametrize("filtering", [F2, F4])
def test_outputs_are_those_of_the_filter(filtering: Filtering) -> None:
    generator = torch.Generator().manual_seed(0)
    taps = torch.randn(3, generator=generator, dtype=torch.float64)
    inputs = torch.randn(filtering.n_products, 5, generator=generator, dtype=torch.float64)
    wanted = torch.stack(
        [sum(taps[k] * inputs[i + k] for k in range(3)) for i in range(filtering.m)]
    )
    torch.testing.assert_close(filtered(filtering, taps, inputs), wanted, rtol=0, atol=1e-14)


def test_the_middle_tap_alone() -> None:
    taps, inputs = torch.tensor([1.0, 2.0, 3.0]), torch.randn(1, 4)
    torch.testing.assert_close(filtered(MIDDLE, taps, inputs), 2 * inputs)


@pytest.mark.parametrize("filtering", [MIDDLE, F2, F4])
def test_a_bias_of_one_product_reaches_all_outputs(filtering: Filtering) -> None:
    assert all(row[filtering.ones] == 1 for row in filtering.A)


def test_choice_by_width_and_dilation() -> None:
    assert choose_filtering(100_000, 128) is F4  # half the products
    assert choose_filtering(200, 128) is F2  # 512 columns would be mostly waste
    assert choose_filtering(100, 128) is MIDDLE  # neighbours lie outside
    for width in (2, 129, 700, 5000):
        for dilation in (1, 8, 128):
            filtering = choose_filtering(width, dilation)
            if filtering is not MIDDLE:
                assert filtering.cost(width, dilation) == min(
                    f.cost(width, dilation) for f in (F2, F4)
                )
