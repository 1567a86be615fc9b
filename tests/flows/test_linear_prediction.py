"""Laws of the linear prediction as a flow step."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from vocoder.flows.linear_prediction import (
    Filters,
    LinearPrediction,
    interpolate_frames,
    reflection_coefficients,
    synthesise,
)
from vocoder.kernels.lattice import synthesise_on_cpu

LENGTH = 16  # samples of a block
each_order = pytest.mark.parametrize("order", [0, 1, 24, 128])


def autocorrelations(order: int, n_blocks: int, n_items: int = 2) -> Tensor:
    """Return those (B, T, p + 1) of random spectra that span four orders of magnitude."""
    generator = torch.Generator().manual_seed(order)
    bins = 4 * (order + 1)
    log_power = torch.randn(n_items, n_blocks, bins // 8 + 1, generator=generator).double() * 4
    shape = (n_items * n_blocks, 1, bins // 8 + 1)
    smooth = torch.nn.functional.interpolate(log_power.reshape(shape), bins, mode="linear")
    power = smooth.exp().reshape(n_items, n_blocks, bins)
    r = torch.fft.hfft(power.to(torch.complex128), n=2 * bins - 2)[..., : order + 1]
    return torch.cat([r[..., :1] * 1.0001, r[..., 1:]], dim=-1) / bins


def some_filters(order: int, n_blocks: int, n_items: int = 2) -> Filters:
    r = autocorrelations(order, n_blocks, n_items)
    deviations = r[..., 0].sqrt().repeat_interleave(LENGTH, dim=1)
    return Filters(reflection_coefficients(r), deviations)


@each_order
def test_a_constant_filter_is_the_best_predictor(order: int) -> None:
    """Its coefficients are what the lattice makes of an impulse."""
    r = autocorrelations(order, 1, 1)
    n_blocks = -(-(order + 1) // LENGTH)
    reflections = reflection_coefficients(r).expand(1, n_blocks, order)
    filters = Filters(reflections, r[..., 0].sqrt().expand(1, n_blocks * LENGTH))
    impulse = torch.zeros(1, n_blocks * LENGTH, dtype=torch.float64)
    impulse[0, 0] = 1
    response = LinearPrediction()(impulse, filters)[0][0] * filters.gains[0, 0]
    expected = -scipy.linalg.solve_toeplitz(r[0, 0, :-1], r[0, 0, 1:]) if order else np.zeros(0)
    scale = max(1.0, np.abs(expected).max(initial=0))
    assert float(response[0]) == pytest.approx(1.0)
    np.testing.assert_allclose(response[1 : order + 1], expected, atol=1e-7 * scale)
    np.testing.assert_allclose(response[order + 1 :], 0, atol=1e-7 * scale)
    error = float(r[0, 0, 0] + torch.tensor(expected) @ r[0, 0, 1:])
    assert float(filters.gains[0, 0]) ** 2 == pytest.approx(error, rel=1e-6)


@each_order
def test_inverse_undoes_forward_to_1e_9(order: int) -> None:
    x = 0.1 * torch.randn(2, 12 * LENGTH, dtype=torch.float64)
    state = torch.randn(2, order, dtype=torch.float64)
    step, filters = LinearPrediction(), some_filters(order, 12)
    for past in (None, state):
        z, _ = step(x, filters, past)
        back = step.inverse(z, filters, past)
        assert (back - x).abs().max() <= 1e-9


@each_order
def test_logdet_is_that_of_the_jacobian(order: int) -> None:
    x = 0.1 * torch.randn(1, 3 * LENGTH, dtype=torch.float64)
    step, filters = LinearPrediction(), some_filters(order, 3, n_items=1)
    jacobian = torch.autograd.functional.jacobian(lambda audio: step(audio, filters)[0], x)
    _, expected = torch.linalg.slogdet(jacobian[0, :, 0])
    torch.testing.assert_close(step(x, filters)[1][0], expected, atol=1e-9, rtol=1e-9)


def part(filters: Filters, lo: int, hi: int) -> Filters:
    """Return the filters of blocks [lo, hi)."""
    own = slice(lo * LENGTH, hi * LENGTH)
    return Filters(filters.reflections[:, lo:hi], filters.deviations[:, own])


@each_order
def test_pieces_that_carry_their_state_are_the_whole(order: int) -> None:
    z = torch.randn(2, 12 * LENGTH, dtype=torch.float64)
    filters = some_filters(order, 12)
    whole = LinearPrediction().inverse(z, filters)
    state, pieces = torch.zeros(2, order, dtype=torch.float64), []
    for lo, hi in ((0, 1), (1, 7), (7, 12)):  # blocks
        own = z[:, lo * LENGTH : hi * LENGTH]
        piece, state = synthesise(own, part(filters, lo, hi), state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-12, rtol=1e-9)


@each_order
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loop_of_the_cpu_is_its_slow_twin(order: int, dtype: torch.dtype) -> None:
    z = torch.randn(1, 12 * LENGTH, dtype=dtype)
    filters = some_filters(order, 12, n_items=1)
    filters = Filters(filters.reflections.to(dtype), filters.deviations.to(dtype))
    state = torch.randn(1, order, dtype=dtype)
    sound, after = synthesise(z, filters, state)
    own_state = state[0].numpy().copy()
    own = synthesise_on_cpu(
        z[0].numpy(), filters.reflections[0].numpy(), filters.deviations[0].numpy(), own_state
    )
    assert own.dtype == z.numpy().dtype
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    scale = filters.deviations.max()
    torch.testing.assert_close(torch.from_numpy(own), sound[0], atol=tolerance * scale, rtol=0)
    torch.testing.assert_close(torch.from_numpy(own_state), after[0], atol=tolerance, rtol=0)


@pytest.mark.parametrize("order", [1, 24, 128])
def test_the_state_never_holds_more_than_the_excitation_brought(order: int) -> None:
    """However the filters change: here at random, and most lie near the edge of the circle."""
    generator = torch.Generator().manual_seed(order)
    draws = torch.rand(1, 40, order, generator=generator, dtype=torch.float64)
    ones = torch.ones(1, 40 * LENGTH, dtype=torch.float64)
    wild = Filters((40 * draws - 20).tanh() * 0.9999, ones)
    z = torch.randn(1, 40 * LENGTH, dtype=torch.float64, generator=generator)
    state = torch.zeros(1, order, dtype=torch.float64)
    brought = 0.0
    for block in range(40):
        own = z[:, block * LENGTH : (block + 1) * LENGTH]
        sound, state = synthesise(own, part(wild, block, block + 1), state)
        brought += float(own.square().sum())
        assert float(state.square().sum()) <= brought * (1 + 1e-6)
        assert float(sound.square().max()) <= brought * (1 + 1e-6)


def test_frames_are_interpolated_at_their_centres() -> None:
    r = torch.arange(4.0, dtype=torch.float64).reshape(1, 4, 1)
    at_blocks = interpolate_frames(r, 64, 16, centre=8, lo=0, hi=256)[0, :, 0]
    # The middles of the blocks lie at 8, 24, 40 …: at quarters of frames; the last frame is held.
    torch.testing.assert_close(at_blocks, (torch.arange(16).double() / 4).clamp(max=3))
    later = interpolate_frames(r, 64, 16, centre=8, lo=96, hi=160)[0, :, 0]
    torch.testing.assert_close(later, at_blocks[6:10])
