"""The layer op in bfloat16 on a CPU: outputs and every gradient against the exact reference."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from gated_conv2d_cases import CASES, Case, outputs_and_gradients, random_layer, random_past
from torch import Tensor

from vocoder.kernels import GatedConvWeights, gated_conv2d, use
from vocoder.kernels.gated_conv import cpu_bf16
from vocoder.kernels.gated_conv import cpu_passes as passes

# Beside those of all backends: many columns, and the sizes of real voices.
CASES = [
    *CASES,
    Case((2, 2, 17), dilation=(1, 16)),
    Case((1, 3, 40), dilation=(2, 8), projected=True, gated=False),
    Case((1, 5, 4099), channels=2),
    Case((2, 2, 17), dilation=(1, 16), causal=True),
    Case((3, 5, 64), channels=64, n_mels=80, dilation=(1, 4), scale=0.5**0.5),
    Case((1, 16, 256), channels=32, dilation=(1, 64), projected=True),
]


def rounded(layer: tuple[Tensor, Tensor, GatedConvWeights]) -> tuple[Tensor, Tensor]:
    """Return h and cond as the op will see them, in float64."""
    h, cond, _ = layer
    return h.bfloat16().double(), cond.bfloat16().double()


def single(w: GatedConvWeights) -> GatedConvWeights:
    """Return weights in float32."""
    given = {f.name: getattr(w, f.name) for f in fields(w)}
    return GatedConvWeights(**{name: None if t is None else t.float() for name, t in given.items()})


@pytest.mark.parametrize("queued", [False, True], ids=["", "past"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_near_those_of_the_reference(
    case: Case, queued: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_bf16, "BLOCK_COLUMNS", 400)  # so that some cases take several blocks
    layer = random_layer(case)
    h, cond = rounded(layer)
    past = random_past(case).bfloat16().double() if queued else None
    exact = outputs_and_gradients("reference", case, h, cond, layer[2], past)
    narrow = None if past is None else past.bfloat16()
    for recompute in (False, True):
        got = outputs_and_gradients(
            "cpu",
            case,
            h.bfloat16(),
            cond.bfloat16(),
            single(layer[2]),
            narrow,
            recompute=recompute,
        )
        for name, tensor in exact.items():
            # Each rounding is to 2^-9, 0.2 %, and a gradient sees ten of them: weights,
            # pre-activation, gates, and each step back. The reference in bfloat16 comes to as much.
            assert (got[name].double() - tensor).norm() < 0.03 * tensor.norm(), name


def test_weights_keep_their_type_and_activations_theirs() -> None:
    case = Case((1, 4, 21), channels=4)
    h, cond, w = random_layer(case)
    w = single(w)
    w.conv.requires_grad_()
    with use("cpu"), torch.autocast("cpu", torch.bfloat16):
        h_next, y = gated_conv2d(h.float(), cond.float(), w, dilation=(1, 1))
    assert h_next is not None
    assert (h_next.dtype, y.dtype) == (torch.bfloat16, torch.float32)
    (gradient,) = torch.autograd.grad(y.sum(), w.conv)
    assert gradient.dtype == torch.float32


def test_inference_keeps_nothing() -> None:
    h, cond, w = random_layer(CASES[0])
    with use("cpu"), torch.no_grad():
        _, y = gated_conv2d(h.bfloat16(), cond.bfloat16(), single(w), dilation=(1, 1))
    assert not y.requires_grad


def random(*shape: int) -> Tensor:
    return (3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).bfloat16()


def test_gate_is_right_to_the_last_bit_but_one() -> None:
    a, cond, bias = random(50, 14), random(50, 14), random(14).float()
    gates, o = torch.empty_like(a), torch.empty(50, 7, dtype=torch.bfloat16)
    passes.gate(a, cond, bias, gates, o)
    exact = (a.double() + cond.double() + bias).chunk(2, dim=1)
    t, s = exact[0].tanh(), exact[1].sigmoid()
    # A bfloat16 has 8 bits; tanh near 0 is the difference of two numbers near 1, to 3e-6.
    torch.testing.assert_close(
        gates, torch.cat([t, s], 1), rtol=2**-8, atol=1e-5, check_dtype=False
    )
    torch.testing.assert_close(o, t * s, rtol=2**-8, atol=1e-5, check_dtype=False)


def test_gate_saturates_and_lets_what_is_no_number_through() -> None:
    values = [float("nan"), float("inf"), -float("inf"), 1e38, -1e38]
    a = torch.tensor([values * 2]).bfloat16()
    gates, o = torch.empty_like(a), torch.empty(1, 5, dtype=torch.bfloat16)
    passes.gate(a, torch.zeros_like(a), torch.zeros(10), gates, o)
    assert gates[0, [0, 5]].isnan().all()
    assert o[0, 0].isnan()
    assert gates[0, 1:5].tolist() == [1, -1, 1, -1]
    assert gates[0, [6, 8]].tolist() == [1, 1]
    assert (gates[0, [7, 9]] < 1e-30).all()


def test_gradient_of_the_gate() -> None:
    a = random(40, 6).double().requires_grad_()
    t, s = a[:, :3].tanh(), a[:, 3:].sigmoid()
    do = random(40, 3)
    (t * s).backward(do.double())
    assert a.grad is not None
    gates = torch.cat([t, s], 1).bfloat16().detach()
    da, o, dbias = torch.empty_like(gates), torch.empty_like(do), torch.ones(6)
    passes.gate_gradient(do, gates, da, o, dbias)
    # 1 − t² and 1 − s lose the bits that t and s share with 1: absolute, not relative.
    torch.testing.assert_close(da, a.grad, rtol=2**-7, atol=0.05, check_dtype=False)
    torch.testing.assert_close(o, (t * s).detach(), rtol=2**-6, atol=0, check_dtype=False)
    torch.testing.assert_close(dbias, 1 + da.float().sum(0), rtol=1e-3, atol=0.05)


def test_sum_is_rounded_once() -> None:
    x, y, bias = random(30, 5), random(30, 5), random(5).float() / 3
    out = torch.empty_like(x)
    passes.add(x, 0.7, y, bias, out)
    exact = (torch.tensor(0.7) * x.float() + y.float() + bias).bfloat16()
    assert (out == exact).double().mean() > 0.98  # a multiply-add has one rounding less
    torch.testing.assert_close(out, exact, rtol=2**-7, atol=2**-7)
