"""The published inverse, written plainly, computes the same as the model."""

from __future__ import annotations

import pytest
import torch
from helpers import audio_and_mel, tiny_models

from vocoder.benchmark.published import PublishedInverse
from vocoder.models.families.row_flow import RowFlow

AFFINE = {n: m for n, m in tiny_models().items() if m.config.transform == "affine"}


@pytest.mark.parametrize("model", AFFINE.values(), ids=AFFINE.keys())
def test_published_inverse_is_the_inverse(model: RowFlow) -> None:
    audio, mel = audio_and_mel(model)
    with torch.no_grad():
        z, _ = model(audio, mel)
        expected = model.inverse(z, mel)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    got = PublishedInverse(model)(z, mel)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
