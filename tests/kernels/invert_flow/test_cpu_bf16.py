"""The row op in bfloat16 on a CPU: near the plain inverse, whole, in tiles and in batches."""

from __future__ import annotations

import pytest
import torch
from helpers import perturb, source, tiny_models
from torch import Tensor

from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.kernels.invert_flow.cpu_bf16 import NarrowInverter
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


def case(model: RowFlow, n_frames: int, batch: int) -> tuple[Tensor, Tensor]:
    """Return noise (B, N) and a mel (B, M, F), of the model's type."""
    generator = torch.Generator().manual_seed(n_frames)
    dtype = next(model.parameters()).dtype
    z = torch.randn(batch, n_frames * model.hop_length, generator=generator)
    mel = torch.randn(batch, model.n_mels, n_frames, generator=generator)
    return z.to(dtype), mel.to(dtype)


@torch.no_grad()
def invert(
    model: RowFlow,
    z: Tensor,
    mel: Tensor,
    tile: int = 0,
    lengths: list[int] | None = None,
    *,
    project_once: bool = True,
) -> Tensor:
    """Invert in bfloat16, in tiles of so many lags or, for 0, whole; `lengths` are in columns."""
    inverter = NarrowInverter(model.pack_flows())
    rows = fold_rows(z, model.config.n_height).float().clone()
    width, lag, n_steps = rows.shape[-1], inverter.sizes.lag, inverter.sizes.n_steps
    tiles = Tiles(width, tile * lag, lag, n_steps) if tile else Tiles.whole(width, n_steps)
    plan = Plan(len(z), tiles, project_once)
    inverter.run(rows, source(model, mel), slice(0, len(z)), lengths, plan)
    return unfold_rows(rows)


def error(x: Tensor, wanted: Tensor) -> float:
    """Return the root mean square of the difference, as a share of what is wanted."""
    return float((x - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("n_frames", FRAMES)
@pytest.mark.parametrize("name", AFFINE)
@torch.no_grad()
def test_is_near_the_plain_inverse(name: str, n_frames: int) -> None:
    model = AFFINE[name]
    z, mel = case(model, n_frames, 2)
    wanted = model.inverse(z, mel)
    for project_once in (True, False):
        x = invert(model, z, mel, project_once=project_once)
        # Operands are rounded to 2^-9, 0.2 %, and random flows do not damp what that does; a tap
        # that is left out or misplaced makes tens of per cent.
        assert error(x, wanted) < 0.02


@pytest.mark.parametrize("tile", [1, 3])
@pytest.mark.parametrize("name", AFFINE)
def test_tiles_give_the_samples_of_the_whole(name: str, tile: int) -> None:
    model = AFFINE[name]
    for n_frames in FRAMES:
        z, mel = case(model, n_frames, 1)
        # The order of sums depends on the width, so a rounding may fall the other way.
        assert error(invert(model, z, mel, tile), invert(model, z, mel)) < 0.01


@pytest.mark.parametrize("name", AFFINE)
def test_an_item_of_a_padded_batch_is_as_alone(name: str) -> None:
    model = AFFINE[name]
    z, mel = case(model, 6, 2)
    columns = model.hop_length // model.config.n_height
    x = invert(model, z, mel, lengths=[6 * columns, 6 * columns])
    assert error(x[:1], invert(model, z[:1], mel[:1])) < 0.01
    assert error(x[1:], invert(model, z[1:], mel[1:])) < 0.01
    n = 4 * model.hop_length
    given = torch.cat([mel[1:, :, :4], torch.zeros_like(mel[1:, :, 4:])], dim=2)
    x = invert(model, z, torch.cat([mel[:1], given]), lengths=[6 * columns, 4 * columns])
    assert (x[1, n:] == 0).all()


@torch.no_grad()
def test_at_a_real_depth() -> None:
    torch.manual_seed(0)
    config = NanoFlowConfig(channels=32, n_height=16, n_flows=2, flow_embedding=8)
    model = NanoFlow(config)
    perturb(model.heads, size=0.05)
    z, mel = case(model, 6, 1)
    wanted = model.inverse(z, mel)
    assert wanted.std() > 0.5
    for tile in (0, 1):
        assert error(invert(model, z, mel, tile), wanted) < 0.02


def test_noise_that_is_not_a_number_stays_in_its_item() -> None:
    model = AFFINE["nanoflow"]
    z, mel = case(model, 6, 1)
    bad = z.clone()
    bad[0, 5] = float("nan")
    x = invert(model, torch.cat([bad, z]), mel.repeat(2, 1, 1))
    assert x[0].isnan().any()
    assert error(x[1:], invert(model, z, mel)) < 0.01
