"""The row op on a CPU against the plain inverse of every family, whole and in tiles."""

from __future__ import annotations

import pytest
import torch
from helpers import perturb, source, tiny_models
from torch import Tensor

from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.kernels.invert_flow.cpu import CpuInverter
from vocoder.kernels.invert_flow.cpu_plan import Plan
from vocoder.kernels.invert_flow.cpu_tiles import Tiles
from vocoder.models.families.row_flow import RowFlow
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig

AFFINE = {
    name: model
    for name, model in tiny_models().items()
    if model.config.transform == "affine" and not model.causal
}
FRAMES = (1, 3, 20)  # of few columns: fewer than dilations, odd, and many tiles


def case(model: RowFlow, n_frames: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Return noise (B, N) and a mel (B, M, F) of the model's type."""
    generator = torch.Generator().manual_seed(n_frames)
    dtype = next(model.parameters()).dtype
    z = torch.randn(batch, n_frames * model.hop_length, generator=generator)
    mel = torch.randn(batch, model.n_mels, n_frames, generator=generator)
    return z.to(dtype), mel.to(dtype)


def invert(
    model: RowFlow, z: Tensor, mel: Tensor, tile: int = 0, *, project_once: bool = True
) -> Tensor:
    """Invert by the op, in tiles of so many lags or, for 0, whole."""
    inverter = CpuInverter(model.pack_flows())
    rows = fold_rows(z, model.config.n_height).clone()
    width, lag, n_steps = rows.shape[-1], inverter.sizes.lag, inverter.sizes.n_steps
    tiles = Tiles(width, tile * lag, lag, n_steps) if tile else Tiles.whole(width, n_steps)
    plan = Plan(len(z), tiles, project_once)
    inverter.run(rows, source(model, mel), slice(0, len(z)), None, plan)
    return unfold_rows(rows)


@pytest.mark.parametrize("n_frames", FRAMES)
@pytest.mark.parametrize("name", AFFINE)
@torch.no_grad()
def test_equals_the_plain_inverse(name: str, n_frames: int) -> None:
    model = AFFINE[name]
    z, mel = case(model, n_frames)
    wanted = model.inverse(z, mel)
    # Winograd's transforms add a few roundings to those of the plain sums.
    for project_once in (True, False):
        x = invert(model, z, mel, project_once=project_once)
        torch.testing.assert_close(x, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tile", [1, 3])
@pytest.mark.parametrize("name", AFFINE)
@torch.no_grad()
def test_tiles_are_exact(name: str, tile: int) -> None:
    model = AFFINE[name]
    for n_frames in FRAMES:
        z, mel = case(model, n_frames, batch=1)
        wanted = model.inverse(z, mel)
        torch.testing.assert_close(invert(model, z, mel, tile), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_height", [8, 16, 64])
@torch.no_grad()
def test_float32_at_a_real_depth(n_height: int) -> None:
    """Eight layers with dilations up to 128, as all published voices have, and heads that act."""
    torch.manual_seed(0)
    config = NanoFlowConfig(channels=8, n_height=n_height, n_flows=2, flow_embedding=8)
    model = NanoFlow(config)
    perturb(model.heads, size=0.1)
    z, mel = case(model, 6, batch=1)  # 24 to 192 columns
    wanted = model.inverse(z, mel)
    assert wanted.std() > 0.5
    for tile in (0, 1 if n_height < 64 else 64):
        assert (invert(model, z, mel, tile) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("tile", [0, 2])
def test_noise_that_is_not_a_number_stays_in_its_item(tile: int) -> None:
    """It spreads through its own item alone, and what it leaves in the buffers harms no other."""
    model = AFFINE["nanoflow"]
    z, mel = case(model, 6, batch=1)
    wanted = invert(model, z, mel, tile)
    bad = z.clone()
    bad[0, 5] = float("nan")
    assert invert(model, bad, mel, tile).isnan().any()
    torch.testing.assert_close(invert(model, z, mel, tile), wanted, rtol=0, atol=0)
    if not tile:
        both = invert(model, torch.cat([bad, z]), mel.repeat(2, 1, 1))
        assert both[0].isnan().any()
        torch.testing.assert_close(both[1:], wanted, rtol=0, atol=1e-12)


def test_flows_that_share_an_estimator_share_its_packed_weights() -> None:
    for name, n_packed in (("nanoflow", 3), ("waveflow", 9)):
        inverter = CpuInverter(AFFINE[name].pack_flows())
        assert len({id(layer.shared) for f in inverter.flows for layer in f.layers}) == n_packed
        # Then the projected conditioning is worth keeping, and only then.
        assert inverter.sizes.shares_estimator == (name == "nanoflow")
