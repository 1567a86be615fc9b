"""The layer op: its reference against a definition in explicit loops, and the folds, in float64."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gated_conv2d_cases import CASES, Case, random_layer
from helpers import audio_and_mel, tiny_models
from torch import Tensor, nn

from vocoder.errors import VocoderError
from vocoder.kernels import GatedConvWeights, gated_conv2d, pack_gated_conv, use
from vocoder.models.families.row_flow import RowFlow

each_case = pytest.mark.parametrize("case", CASES, ids=str)


def by_loops(
    h: Tensor, cond: Tensor, w: GatedConvWeights, case: Case
) -> tuple[Tensor | None, Tensor]:
    """Compute the layer as its docstring says it, one position after the other."""
    dilation, centre = case.dilation, 2 if case.causal else 1
    B, H, W, C = h.shape
    h_next, y = torch.empty_like(h), h.new_empty(B, H, W, w.out.shape[1])
    for b in range(B):
        for row in range(H):
            for column in range(W):
                a = w.bias + (
                    cond[b, row, column] if w.cond is None else cond[b, row, column] @ w.cond
                )
                for j in range(3):
                    for k in range(3):
                        r, c = row - (2 - j) * dilation[0], column + (k - centre) * dilation[1]
                        if r >= 0 and 0 <= c < W:
                            a = a + h[b, r, c] @ w.conv[3 * j + k]
                o = a[:C].tanh() * a[C:].sigmoid()
                y[b, row, column] = o @ w.out
                if w.res is not None:
                    r = o @ w.res + w.res_bias
                    r = r if w.gate is None else r * w.gate
                    h_next[b, row, column] = (h[b, row, column] + r) * case.scale
    return (None if w.res is None else h_next), y


def settings(case: Case) -> dict[str, Any]:
    return {"dilation": case.dilation, "scale": case.scale, "causal": case.causal}


@each_case
def test_reference_is_the_definition(case: Case) -> None:
    h, cond, w = random_layer(case)
    with torch.no_grad():
        expected = by_loops(h, cond, w, case)
        got = gated_conv2d(h, cond, w, **settings(case))
    assert (got[0] is None) == (expected[0] is None) == case.last
    torch.testing.assert_close(got[1], expected[1], atol=1e-12, rtol=0)
    if got[0] is not None:
        assert got[0].is_contiguous()
        torch.testing.assert_close(got[0], expected[0], atol=1e-12, rtol=0)


@each_case
def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    h, cond, w = random_layer(replace(case, size=(1, 2, 3), channels=2, n_mels=2))
    names = [field.name for field in fields(w) if getattr(w, field.name) is not None]
    tensors = [h, cond, *(getattr(w, name) for name in names)]

    def layer(h: Tensor, cond: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        weights = replace(w, **dict(zip(names, values, strict=True)))
        h_next, y = gated_conv2d(h, cond, weights, **settings(case))
        return (y,) if h_next is None else (h_next, y)

    torch.autograd.gradcheck(layer, [t.requires_grad_() for t in tensors])


@each_case
def test_rows_may_come_one_by_one(case: Case) -> None:
    h, cond, w = random_layer(case)
    B, H, W, C = h.shape
    past = h.new_zeros(B, 2 * case.dilation[0], W, C)
    rows = []
    with torch.no_grad():
        whole = gated_conv2d(h, cond, w, **settings(case))
        for r in range(H):
            row, c = h[:, r : r + 1], cond[:, r : r + 1]
            rows.append(gated_conv2d(row, c, w, **settings(case), past=past))
            past = torch.cat([past, row], dim=1)[:, 1:]
    for ours, theirs in zip(zip(*rows, strict=True), whole, strict=True):
        if theirs is not None:
            torch.testing.assert_close(torch.cat(ours, dim=1), theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("last", [False, True])
def test_packed_weights_compute_the_published_layer(last: bool) -> None:
    """The layer as the published code has it: convolutions over NCHW, the skips summed unfolded."""
    C, M, n, d = 4, 3, 2, (2, 4)
    conv, condition = nn.Conv2d(C, 2 * C, 3).double(), nn.Conv2d(M, 2 * C, 1).double()
    res_skip, head = nn.Conv2d(C, 2 * C, 1).double(), nn.Conv2d(C, n, 1).double()
    shift, gate = torch.randn(2 * C).double(), torch.randn(C).double()
    h, mel = torch.randn(2, C, 5, 7).double(), torch.randn(2, M, 5, 7).double()
    padded = F.pad(h, (0, 0, 2 * d[0], 0))
    a = F.conv2d(padded, conv.weight, conv.bias, padding=(0, d[1]), dilation=d)
    a = a + condition(mel) + shift[:, None, None]
    residual, skip = res_skip(a[:, :C].tanh() * a[:, C:].sigmoid()).chunk(2, dim=1)
    h_next, params = (h + gate[:, None, None] * residual) * math.sqrt(0.5), head(skip)

    shared = pack_gated_conv(
        conv.weight,
        conv.bias + condition.bias,
        condition.weight,
        res_skip.weight,
        res_skip.bias,
        last=last,
    )
    matrix = head.weight[:, :, 0, 0].t()
    w = shared.for_flow(matrix, shift, gate)
    ours, y = gated_conv2d(
        h.permute(0, 2, 3, 1), mel.permute(0, 2, 3, 1), w, dilation=d, scale=math.sqrt(0.5)
    )
    constant = head.bias + shared.skip_bias @ matrix
    torch.testing.assert_close((y + constant).permute(0, 3, 1, 2), params, atol=1e-12, rtol=0)
    assert (ours is None) == last
    if ours is not None:
        torch.testing.assert_close(ours.permute(0, 3, 1, 2), h_next, atol=1e-12, rtol=0)


def test_autocast_casts_operands_and_keeps_the_rest() -> None:
    h, cond, w = random_layer(CASES[0])
    w = GatedConvWeights(**{f.name: getattr(w, f.name).float() for f in fields(w)})
    conv = w.conv.requires_grad_()
    exact, exact_y = gated_conv2d(h.float(), cond.float(), w, dilation=(1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        h_next, y = gated_conv2d(h.float(), cond.float(), w, dilation=(1, 1))
    assert h_next is not None
    assert exact is not None
    assert h_next.dtype == torch.bfloat16
    assert y.dtype == torch.float32
    # Each operand is rounded by at most 2^-9; the errors of a sum grow as its root.
    assert (y - exact_y).norm() < 2**-7 * exact_y.norm()
    assert (h_next - exact).norm() < 2**-7 * exact.norm()
    y.sum().backward()
    assert conv.grad is not None
    assert conv.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": torch.zeros(2, 3, 4)}, r"h is \(2, 3, 4\)"),
        ({"cond": torch.zeros(2, 4, 21, 9).double()}, r"cond is .*; give \(2, 4, 21, 5\)"),
        ({"cond": torch.zeros(2, 4, 21, 5)}, "cond is torch.float32; give torch.float64"),
        ({"dilation": (0, 1)}, "dilation"),
        ({"past": torch.zeros(2, 1, 21, 3).double()}, r"past is .*; give \(2, 2, 21, 3\)"),
        ({"w": {"conv": torch.zeros(8, 3, 6).double()}}, r"w.conv is \(8, 3, 6\)"),
        ({"w": {"gate": torch.zeros(2).double()}}, r"w.gate is \(2,\); give \(3,\)"),
        ({"w": {"res_bias": None}}, "give both"),
    ],
)
def test_arguments_that_do_not_fit(change: dict[str, object], message: str) -> None:
    h, cond, w = random_layer(CASES[0])
    arguments = {"h": h, "cond": cond, "dilation": (1, 1)} | change
    arguments["w"] = replace(w, **change.get("w", {}))  # type: ignore[arg-type]
    with pytest.raises(VocoderError, match=message):
        gated_conv2d(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", tiny_models().values(), ids=tiny_models().keys())
def test_checkpointing_changes_no_gradient(model: RowFlow) -> None:
    x, mel = audio_and_mel(model)
    gradients = []
    for checkpointing in (False, True):
        model.checkpointing = checkpointing
        model.zero_grad()
        model.log_prob(x, mel).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        assert ours is not None
        # With it the mel is projected anew in each layer: other sums, in float64.
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", ["waveflow", "nanoflow-decomposed"])
def test_checkpointing_keeps_one_flow_at_a_time(name: str) -> None:
    # Three flows of their own networks and four that share one.
    model = tiny_models()[name]
    x, mel = audio_and_mel(model)

    def kept(checkpointing: bool) -> int:
        n_bytes = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal n_bytes
            n_bytes += tensor.numel() * tensor.element_size()
            return tensor

        model.checkpointing = checkpointing
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model.log_prob(x, mel)
        return n_bytes

    assert kept(True) < kept(False) / 3


def test_reference_can_be_asked_for() -> None:
    h, cond, w = random_layer(CASES[0])
    with use("reference"):
        _, asked = gated_conv2d(h, cond, w, dilation=(1, 1))
    _, chosen = gated_conv2d(h, cond, w, dilation=(1, 1))
    assert torch.equal(asked, chosen)
