"""The fused layer in Triton's interpreter: outputs and every gradient against float64 autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from gated_conv2d_cases import Case, random_layer
from interpreter import INTERPRETING, interpreted, rerun
from torch import Tensor

from vocoder.kernels.gated_conv.op import GatedConvWeights, gated_conv2d_reference

pytest.importorskip("triton")

# Of one rounded operand: float32 has 24 bits, float16 11, bfloat16 8. An error of a sum of
# independent roundings is that of one of them, relative to the sum; a gradient comes through three
# roundings after another (a, da, itself), and the interpreter's casts to bfloat16 cut off instead
# of rounding, which doubles them.
TOLERANCE = {torch.float32: 8 * 2.0**-24, torch.float16: 4 * 2.0**-11, torch.bfloat16: 6 * 2.0**-8}
MATRICES = ("conv", "cond", "res")

SMALL = Case((1, 2, 3), 16, 16, dilation=(1, 2), scale=0.5**0.5)
AWKWARD = [
    (Case((2, 3, 21), 16, 16, dilation=(1, 2), scale=0.5**0.5), torch.float32),
    (Case((1, 4, 9), 32, 16, n_outputs=3, dilation=(1, 8), projected=True), torch.bfloat16),
    (Case((2, 2, 9), 16, 16, dilation=(1, 16), last=True), torch.float16),
    # More columns than one tile of any kernel; float32 shows a wrong index best.
    (Case((1, 2, 133), 16, 16, dilation=(1, 64), strided=True), torch.float32),
]
CASES = [
    (SMALL, torch.float32),
    (Case((1, 1, 1), 16, 32, gated=False), torch.float16),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in AWKWARD),
]


def test_fused_layer_in_the_interpreter() -> None:
    rerun(__file__, "not slow")


@pytest.mark.slow
def test_awkward_layers_in_the_interpreter() -> None:
    rerun(__file__, "slow")


def operands(
    case: Case, dtype: torch.dtype
) -> tuple[dict[str, Tensor], Callable[..., GatedConvWeights]]:
    """Return the tensors of a layer, rounded to what the kernels read, and how to pack them."""
    h, cond, w = random_layer(case)
    tensors = {"h": h.to(dtype), "input": cond.to(dtype)}
    for field in fields(w):
        tensor = getattr(w, field.name)
        if tensor is not None:
            # Rounded as the op rounds them, so that the float64 layer has the same weights.
            rounded = tensor.to(dtype if field.name in MATRICES else torch.float32)
            tensors[field.name] = rounded.float()

    def pack(tensors: dict[str, Tensor]) -> GatedConvWeights:
        names = [field.name for field in fields(w)]
        return replace(w, **{name: tensors[name] for name in names if name in tensors})

    return tensors, pack


def run(
    layer: Callable[..., Any],
    tensors: dict[str, Tensor],
    pack: Callable[..., GatedConvWeights],
    case: Case,
    recompute: bool = False,
) -> dict[str, Tensor]:
    """Return the outputs, and the gradients of all tensors for random gradients of the outputs."""
    leaves = {name: t.detach().clone().requires_grad_() for name, t in tensors.items()}
    h_next, y = layer(
        leaves["h"],
        leaves["input"],
        pack(leaves),
        dilation=case.dilation,
        scale=case.scale,
        recompute=recompute,
    )
    outputs = {"y": y} if h_next is None else {"y": y, "h_next": h_next}
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=torch.float64)
    for output in outputs.values():
        weight = torch.randn(output.shape, generator=generator).to(tensors["h"].dtype)
        loss = loss + (output * weight.to(output.dtype)).double().sum()
    loss.backward()
    gradients = {f"d{name}": leaf.grad for name, leaf in leaves.items()}
    return {name: t.detach().double() for name, t in (outputs | gradients).items() if t is not None}


@interpreted
@pytest.mark.parametrize(("case", "dtype"), CASES, ids=str)
def test_outputs_and_gradients(case: Case, dtype: torch.dtype) -> None:
    from vocoder.kernels.gated_conv.triton_op import gated_conv2d_triton

    tensors, pack = operands(case, dtype)
    exact = {name: tensor.double() for name, tensor in tensors.items()}
    expected = run(gated_conv2d_reference, exact, pack, case)
    got = run(gated_conv2d_triton, tensors, pack, case)
    assert got.keys() == expected.keys()
    assert len(got) == 1 + (not case.last) + len(tensors)
    for name, tensor in expected.items():
        error = (got[name] - tensor).norm() / tensor.norm()
        assert error < TOLERANCE[dtype], f"{name}: {error:.1e}"


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize("last", [False, True])
def test_ops_are_registered_as_torch_asks(last: bool) -> None:
    from vocoder.kernels.gated_conv.triton_op import layer

    h, cond, w = random_layer(Case((1, 1, 2), 16, 16, last=last))
    names = ("conv", "bias", "cond", "res", "res_bias", "gate", "out")
    tensors = [None if getattr(w, name) is None else getattr(w, name).float() for name in names]
    inputs = [
        None if t is None else t.requires_grad_() for t in (h.float(), cond.float(), *tensors)
    ]
    torch.library.opcheck(layer, (*inputs, 2, 1.0, True))


@interpreted
@pytest.mark.slow
def test_traces_into_one_graph() -> None:
    from vocoder.kernels.gated_conv.triton_op import gated_conv2d_triton

    tensors, pack = operands(SMALL, torch.float32)
    eager = run(gated_conv2d_triton, tensors, pack, SMALL)
    compiled = torch.compile(gated_conv2d_triton, fullgraph=True, backend="aot_eager")
    traced = run(compiled, tensors, pack, SMALL)
    assert all(torch.equal(eager[name], traced[name]) for name in eager)


@interpreted
@pytest.mark.slow
def test_what_is_computed_again_is_the_same() -> None:
    """By `recompute`, by checkpointing, and by doing it all a second time."""
    from torch.utils.checkpoint import checkpoint

    from vocoder.kernels.gated_conv.triton_op import gated_conv2d_triton

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(gated_conv2d_triton, *args, use_reentrant=False, **kwargs)

    tensors, pack = operands(SMALL, torch.float32)
    first, *others = (
        run(layer, tensors, pack, SMALL, recompute)
        for layer, recompute in [
            (gated_conv2d_triton, False),
            (gated_conv2d_triton, False),
            (gated_conv2d_triton, True),
            (checkpointed, False),
        ]
    )
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.skipif(INTERPRETING, reason="no GPU is asked")
def test_tiles_fit_what_the_kernels_ask() -> None:
    from vocoder.kernels.gated_conv.triton_tiles import choose_tiles

    for capability in [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]:
        for channels in (64, 128):
            tiles = choose_tiles(capability, channels)
            assert channels % tiles.forward.depth == 0
            assert 2 * channels % tiles.input.depth == 0
            assert 2 * channels % tiles.weight.depth == 0
