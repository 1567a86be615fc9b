"""The Triton kernels of the row op against float64, in the interpreter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from helpers import perturb
from interpreter import interpreted, rerun
from torch import Tensor

from vocoder.kernels.gated_conv.op import GatedConvWeights
from vocoder.kernels.invert_flow.op import (
    Conditioning,
    FlowWeights,
    cast_flows,
    invert_flow_reference,
)
from vocoder.models.families.row_flow import RowFlow
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.models.waveflow import WaveFlow, WaveFlowConfig

pytest.importorskip("triton")
from vocoder.kernels import graphs
from vocoder.kernels.invert_flow import triton_op
from vocoder.kernels.invert_flow.triton_launch import fold_front
from vocoder.kernels.invert_flow.triton_op import Inversion, TritonInverter
from vocoder.kernels.invert_flow.triton_tiles import Tile, choose_tile

# Relative errors of float64's x, by the type of operands and queues. Sums are float32 throughout,
# so float32 is off by its own rounding, 6e-8, a few times over. Rounding every operand and queued
# row to 11 bits gave 6e-5 to 3e-4 here and to 8 bits, which the interpreter truncates instead of
# rounding, 2e-3 to 4e-3; a wrong tap, row or column is off by more than 1e-2.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
COLUMNS = Tile("columns", 16, 16, 4, 2)
DESCRIPTORS = replace(COLUMNS, layout="descriptors")
TRANSPOSED = replace(COLUMNS, layout="transposed")
AHEAD = replace(TRANSPOSED, look_ahead=True)


@dataclass(frozen=True)
class Case:
    tile: Tile
    dtype: torch.dtype = torch.float32
    channels: int = 16
    n_layers: int = 3
    width: int = 21
    dilation: int = 1  # of layer 0; each next one has twice that
    lengths: tuple[int, ...] = (21,)
    n_mels: int = 0
    order: tuple[int, ...] = (2, 0, 1, 3)
    passthrough: bool = False
    scale: float = 1.0
    gated: bool = True
    n_flows: int = 1


CASES = {
    "columns": Case(COLUMNS, n_layers=2, width=9, lengths=(9, 4), order=(2, 0, 1)),
    "ahead": Case(AHEAD, n_layers=2, width=9, lengths=(9,), order=(1, 2, 0), passthrough=True),
}
SLOW_CASES = {
    "columns-four-rows": Case(COLUMNS),
    "descriptors": Case(DESCRIPTORS, lengths=(21, 8), scale=math.sqrt(0.5), gated=False),
    "transposed": Case(TRANSPOSED, lengths=(9, 21), passthrough=True),
    "ahead-four-rows": Case(AHEAD, lengths=(21, 16)),
    "columns-mel": Case(COLUMNS, lengths=(17, 21), n_mels=32, passthrough=True),
    "transposed-mel": Case(TRANSPOSED, n_mels=16, scale=math.sqrt(0.5), gated=False),
    "ahead-mel": Case(AHEAD, n_mels=16, lengths=(21, 1)),
    "width-1": Case(COLUMNS, width=1, lengths=(1, 1)),
    "width-1-ahead": Case(AHEAD, width=1, lengths=(1,)),
    "dilation-beyond-width": Case(DESCRIPTORS, width=9, lengths=(9, 5), dilation=8),
    "dilation-beyond-width-ahead": Case(AHEAD, width=9, lengths=(9, 5), dilation=8),
    "one-layer": Case(COLUMNS, n_layers=1, width=37, lengths=(37, 20)),
    "two-layers-one-row": Case(AHEAD, n_layers=2, order=(0,)),
    "passthrough-two-rows": Case(AHEAD, order=(1, 0), passthrough=True),
    "three-flows": Case(DESCRIPTORS, n_flows=3, n_layers=2, width=9, lengths=(9, 4)),
    "32-channels": Case(COLUMNS, channels=32, n_layers=2),
    "32-channels-transposed": Case(TRANSPOSED, channels=32, n_layers=2),
    "float16-columns": Case(COLUMNS, torch.float16, channels=32, width=37, lengths=(37,)),
    "float16-descriptors": Case(DESCRIPTORS, torch.float16, lengths=(21, 9), n_mels=16),
    "float16-transposed": Case(TRANSPOSED, torch.float16, lengths=(21, 9)),
    "float16-ahead": Case(AHEAD, torch.float16, channels=32, width=37, lengths=(37,)),
    "bfloat16-columns": Case(COLUMNS, torch.bfloat16, n_mels=16),
    "bfloat16-ahead": Case(AHEAD, torch.bfloat16),
}


def weights(case: Case, seed: int) -> FlowWeights:
    """Return one random flow in float64, of about the sizes of a trained one."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, size: float = 1.0) -> Tensor:
        return size * torch.randn(*shape, generator=generator, dtype=torch.float64)

    C, M = case.channels, case.n_mels
    layers = []
    for i in range(case.n_layers):
        last = i == case.n_layers - 1
        layers.append(
            GatedConvWeights(
                conv=random(9, C, 2 * C, size=0.5 * C**-0.5),
                bias=random(2 * C, size=0.2),
                cond=random(M, 2 * C, size=0.5 * M**-0.5) if M else None,
                res=None if last else random(C, C, size=C**-0.5),
                res_bias=None if last else random(C, size=0.1),
                gate=random(C) if case.gated and not last else None,
                out=random(C, 2, size=0.3 * C**-0.5),
            )
        )
    return FlowWeights(
        layers=tuple(layers),
        front_weight=random(C),
        front_bias=random(C),
        out_bias=random(2, size=0.1),
        dilations=tuple((1, case.dilation * 2**i) for i in range(case.n_layers)),
        scale=case.scale,
        order=case.order,
        passthrough=case.passthrough,
    )


def inputs(case: Case) -> tuple[Tensor, Tensor | list[Tensor]]:
    generator = torch.Generator().manual_seed(7)
    shape = (len(case.lengths), len(case.order), case.width)

    def random(n: int) -> Tensor:
        return 0.5 * torch.randn(*shape, n, generator=generator, dtype=torch.float64)

    z = 2 * random(1)[..., 0]
    if case.n_mels:
        return z, random(case.n_mels)
    return z, [random(2 * case.channels) for _ in range(case.n_layers)]


def narrow(flows: Sequence[FlowWeights], dtype: torch.dtype) -> list[FlowWeights]:
    """Return flows as the kernels take them: operands of `dtype`, the rest float32."""
    single = []
    for flow in flows:
        layers = [
            replace(
                layer,
                bias=layer.bias.float(),
                res_bias=None if layer.res_bias is None else layer.res_bias.float(),
                gate=None if layer.gate is None else layer.gate.float(),
                out=layer.out.float(),
            )
            for layer in flow.layers
        ]
        single.append(
            replace(
                flow,
                layers=tuple(layers),
                front_weight=flow.front_weight.float(),
                front_bias=flow.front_bias.float(),
                out_bias=flow.out_bias.float(),
            )
        )
    return cast_flows(single, dtype)


@pytest.fixture
def poisoned():
    """Fill new memory with NaN, so that whatever is read before it was written shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def invert(
    flows: Sequence[FlowWeights],
    z: Tensor,
    cond: Conditioning,
    lengths: Sequence[int],
    tile: Tile,
    width: int,
) -> Tensor:
    """Run the kernels in a bucket of `width` columns."""
    inversion = Inversion.allocate(flows, len(lengths), width, tile)
    inversion.fill(z, cond, torch.tensor(lengths))
    inversion()
    return inversion.x


def check(case: Case) -> None:
    flows = [weights(case, seed) for seed in range(case.n_flows)]
    z, cond = inputs(case)
    low = [c.to(case.dtype) for c in ([cond] if isinstance(cond, Tensor) else cond)]
    x = invert(
        narrow(flows, case.dtype),
        z.float(),
        low[0] if case.n_mels else low,
        case.lengths,
        case.tile,
        case.width + 5,
    )
    expected = z
    for flow in flows:
        expected = invert_flow_reference(expected, cond, flow, case.lengths)
    assert not x[..., case.width :].any()
    error = (x[..., : case.width] - expected).norm() / expected.norm()
    assert error < TOLERANCE[case.dtype]


@interpreted
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("name", CASES)
def test_kernels_invert_a_flow(name: str) -> None:
    check(CASES[name])


@interpreted
@pytest.mark.slow
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("name", SLOW_CASES)
def test_kernels_invert_awkward_flows(name: str) -> None:
    check(SLOW_CASES[name])


@interpreted
@pytest.mark.slow
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("tile", [COLUMNS, AHEAD], ids=["columns", "ahead"])
def test_a_padded_item_is_bit_identical_to_itself_alone(tile: Tile) -> None:
    case = Case(tile, torch.float16, lengths=(21, 9), n_layers=2, width=21)
    z, cond = inputs(case)
    assert not isinstance(cond, Tensor)
    flows = narrow([weights(case, 0)], case.dtype)
    low = [c.to(case.dtype) for c in cond]
    together = invert(flows, z.float(), low, case.lengths, tile, 32)
    for i, n in enumerate(case.lengths):
        item = slice(i, i + 1)
        alone = invert(flows, z[item, :, :n].float(), [c[item, :, :n] for c in low], (n,), tile, n)
        assert together[item, :, :n].equal(alone)


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_the_inverter_does_as_the_program(ragged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "WIDTH_STEP", 16)
    case = Case(COLUMNS, torch.float16, lengths=(9, 9), n_layers=2, width=9, n_flows=2)
    monkeypatch.setattr(triton_op, "choose_tile", lambda *_: case.tile)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    z, cond = inputs(case)
    assert not isinstance(cond, Tensor)
    low = [c.to(case.dtype) for c in cond]
    flows = narrow([weights(case, seed) for seed in range(2)], case.dtype)
    lengths = (9, 4) if ragged else (9, 9)
    expected = invert(flows[::-1], z.float(), low, lengths, case.tile, 16)[..., :9]
    x = z.float().mT.contiguous().mT  # of strides of its own
    TritonInverter(flows).invert_in_place(
        x, lambda items, lo, hi: [c[items, :, lo:hi] for c in low], torch.tensor(lengths)
    )
    assert x.equal(expected)


@interpreted
@pytest.mark.slow
@pytest.mark.usefixtures("poisoned")
def test_weights_need_not_be_contiguous() -> None:
    case = Case(DESCRIPTORS, n_layers=2, width=9, lengths=(9,))
    z, cond = inputs(case)
    assert not isinstance(cond, Tensor)
    (flow,) = narrow([weights(case, 0)], case.dtype)
    strange = replace(
        flow,
        layers=tuple(
            replace(layer, conv=layer.conv.mT.contiguous().mT, out=layer.out.t().contiguous().t())
            for layer in flow.layers
        ),
    )
    args = z.float(), [c.float() for c in cond], case.lengths, case.tile, 9
    assert invert([strange], *args).equal(invert([flow], *args))


SHAPE = {"n_mels": 16, "upsample_strides": (4, 3), "channels": 16, "n_layers": 2, "n_height": 4}
MODELS = {
    "nanoflow": lambda: NanoFlow(NanoFlowConfig(**SHAPE, n_flows=3, flow_embedding=4)),
    "waveflow": lambda: WaveFlow(WaveFlowConfig(**SHAPE, n_flows=2)),
    "waveflow-bipartize": lambda: WaveFlow(
        WaveFlowConfig(**SHAPE, n_flows=3, first_row="passthrough", bipartize=True)
    ),
}


@interpreted
@pytest.mark.slow
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("name", MODELS)
def test_kernels_invert_a_model(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    perturb(model)
    assert isinstance(model, RowFlow)
    model = model.double()
    mel = torch.randn(2, 16, 4, dtype=torch.float64)
    z = torch.randn(2, 48, dtype=torch.float64)
    frames = torch.tensor([4, 3])
    with torch.no_grad():
        expected = model.inverse(z, mel, lengths=frames)
        cond = model._conditioning(mel, 48, 0, frames)
        flows = model.pack_flows()[::-1]
        rows = invert(
            narrow(flows, torch.float32),
            z.unflatten(1, (-1, 4)).mT.float(),
            cond.float(),
            (frames * 3).tolist(),
            COLUMNS,
            12,
        )
    audio = rows.mT.flatten(1)
    for got, want, n in zip(audio, expected, (48, 36), strict=True):
        assert (got[:n] - want[:n]).norm() / want[:n].norm() < TOLERANCE[torch.float32]


def test_kernels_in_the_interpreter() -> None:
    rerun(__file__, "not slow")


@pytest.mark.slow
def test_awkward_kernels_in_the_interpreter() -> None:
    rerun(__file__, "slow")


def test_layer_0_is_one_product() -> None:
    case = Case(COLUMNS, n_layers=1, gated=False)
    flow = weights(case, 0)
    taps = fold_front(flow)
    x = torch.randn(9, dtype=torch.float64)
    inside = torch.tensor([0, 1, 1, 0, 1, 1, 0, 1, 1], dtype=torch.float64)
    lost = 1e-3 * torch.randn(9, dtype=torch.float64)
    nothing = torch.zeros(5, dtype=torch.float64)
    operand = torch.cat([(x - lost) * inside, lost * inside, inside, nothing])
    h = (x[:, None] * flow.front_weight + flow.front_bias) * inside[:, None]
    expected = torch.einsum("tc,tcd->d", h, flow.layers[0].conv)
    torch.testing.assert_close(operand @ taps, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (9, 0), (12, 0)])
@pytest.mark.parametrize("channels", [64, 128])
@pytest.mark.parametrize("n_columns", [1, 1378, 13_781, 220_500])
def test_every_card_gets_a_tile(capability: tuple[int, int], channels: int, n_columns: int) -> None:
    tile = choose_tile(capability, channels, n_columns)
    assert tile.layout != "descriptors" or capability == (9, 0)
    assert tile.look_ahead == (n_columns < 4_000) == (tile.layout == "transposed")
    assert channels % tile.depth == 0
