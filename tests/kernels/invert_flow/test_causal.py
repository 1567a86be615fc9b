"""The row op of causal flows against the plain inverse, whole and in chunks of any size."""

from __future__ import annotations

import pytest
import torch
from helpers import audio_and_mel, perturb, tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st

from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.kernels.invert_flow.causal import COLUMNS, CausalInverter
from vocoder.models.families.row_flow import RowFlow
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.models.waveflow import WaveFlow, WaveFlowConfig

SIZES = {"n_mels": 4, "upsample_strides": (4, 6), "channels": 4, "n_layers": 3, "n_flows": 2}


def passthrough() -> RowFlow:
    """Return a causal model of the family that copies the first row."""
    torch.manual_seed(0)
    config = WaveFlowConfig(**SIZES, n_height=6, first_row="passthrough", lookahead_frames=1)
    return perturb(WaveFlow(config)).double()


MODELS = {name: model for name, model in tiny_models().items() if model.causal}
MODELS["waveflow-causal-passthrough"] = passthrough()
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


@each_model
@given(chunks=st.lists(st.integers(1, 9), min_size=1, max_size=8))
@settings(max_examples=10, deadline=None)
@torch.no_grad()
def test_chunks_of_any_size_are_the_whole(model: RowFlow, chunks: list[int]) -> None:
    H, hop = model.config.n_height, model.hop_length
    n_frames = -(-sum(chunks) * H // hop)
    z, mel = audio_and_mel(model, n_frames=n_frames, batch=1)
    expected = fold_rows(model.inverse(z, mel), H)[0]
    rows = fold_rows(z, H)[0]
    inversion = CausalInverter(model.pack_flows()).start(max(chunks))
    lo = 0
    for n in chunks:
        cond = model.conditioning(mel, lo, lo + n)[0]
        x = inversion(rows[:, lo : lo + n], cond)
        torch.testing.assert_close(x, expected[:, lo : lo + n], rtol=0, atol=1e-10)
        lo += n


@torch.no_grad()
def test_float32_at_a_real_depth_and_beyond_one_run_of_columns() -> None:
    """Eight layers with dilations up to 128, as all published voices have, and heads that act."""
    torch.manual_seed(0)
    config = NanoFlowConfig(channels=8, n_flows=2, flow_embedding=8, lookahead_frames=2)
    model = NanoFlow(config)
    perturb(model.heads, size=0.1)
    z, mel = torch.randn(1, 40 * 256), torch.randn(1, 80, 40)
    rows = fold_rows(z, config.n_height)
    assert rows.shape[2] > 2 * COLUMNS
    inversion = CausalInverter(model.pack_flows()).start()
    x = [
        inversion(rows[0, :, lo : lo + COLUMNS], model.conditioning(mel, lo, hi)[0])
        for lo in range(0, rows.shape[2], COLUMNS)
        for hi in [min(lo + COLUMNS, rows.shape[2])]
    ]
    expected = model.inverse(z, mel)
    assert expected.std() > 0.5
    assert (unfold_rows(torch.cat(x, dim=1)[None]) - expected).abs().max() < 1e-4


def test_the_state_is_as_large_as_it_says_and_does_not_grow() -> None:
    model = MODELS["nanoflow-causal"]
    inverter = CausalInverter(model.pack_flows())
    inversion = inverter.start(4)
    sizes = set()
    for _ in range(20):
        inversion(torch.zeros(6, 4).double(), torch.zeros(6, 4, 4).double())
        sizes.add(sum(history.h.nbytes for flow in inversion.histories for history in flow))
    (size,) = sizes
    scratch = 6 * 4 * (3 * 8 + 3 * 4) * 8
    assert inverter.bytes_needed(4) == size + scratch
