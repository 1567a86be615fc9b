"""What every inverter does, whichever backend it is of: the inverse of a model's flows."""

from __future__ import annotations

import pytest
import torch
from helpers import audio_and_mel, source, tiny_models

from vocoder import kernels
from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.kernels.dispatch import choose
from vocoder.kernels.invert_flow.op import BACKENDS, call_of, invert_flow, invert_flow_reference

MODELS = {
    name: model for name, model in tiny_models().items() if model.config.transform == "affine"
}
ON_THIS_MACHINE = ["reference", "cpu"]  # Triton's has a test of its own, in its interpreter

each_backend = pytest.mark.parametrize("backend", ON_THIS_MACHINE)


@each_backend
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_items_of_a_padded_batch_come_out_as_alone(name: str, backend: str) -> None:
    model = MODELS[name]
    z, mel = audio_and_mel(model, n_frames=4, batch=3)
    frames = torch.tensor([4, 1, 3])
    mel = mel.masked_fill(torch.arange(4) >= frames[:, None, None], 7.0)
    flows = model.pack_flows()
    x = fold_rows(z, model.config.n_height).clone()
    choice = choose(BACKENDS, call_of(x, flows[0]), backend)
    columns = frames * (model.hop_length // model.config.n_height)
    choice.backend.load()(flows).invert_in_place(x, source(model, mel, frames), columns)
    for item, alone, m, n in zip(unfold_rows(x), z, mel, frames.tolist(), strict=True):
        length = n * model.hop_length
        wanted = model.inverse(alone[None, :length], m[None, :, :n])[0]
        # Winograd's transforms add a few roundings to those of the plain sums.
        torch.testing.assert_close(item[:length], wanted, rtol=0, atol=1e-11)
        assert not item[length:].any()


@each_backend
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_one_flow_equals_its_reference_and_leaves_the_noise_alone(name: str, backend: str) -> None:
    model = MODELS[name]
    z, mel = audio_and_mel(model, n_frames=4, batch=3)
    rows = fold_rows(z, model.config.n_height)
    before, W = rows.clone(), rows.shape[2]
    cond = model.conditioning(mel, 0, W)
    weights = model.pack_flows()[1]
    with kernels.use(backend):
        for lengths in (None, [W, 1, W - 3]):
            expected = invert_flow_reference(rows, cond, weights, lengths)
            got = invert_flow(rows, cond, weights, lengths=lengths)
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-11)
    assert rows.equal(before)
