"""The contract of the row op: its reference, what it refuses, and which backend is chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import audio_and_mel, tiny_models
from torch import Tensor

from vocoder import kernels
from vocoder.errors import VocoderError
from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.kernels.card import Card
from vocoder.kernels.dispatch import BackendError, choose
from vocoder.kernels.invert_flow.op import BACKENDS, Call, FlowWeights, cast_flows, invert_flow

MODELS = {
    name: model for name, model in tiny_models().items() if model.config.transform != "spline"
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_flows_one_after_the_other_are_the_models_inverse(name: str, ragged: bool) -> None:
    model = MODELS[name]
    z, mel = audio_and_mel(model)
    frames = torch.tensor([3, 2]) if ragged else None
    expected = model.inverse(z, mel, lengths=frames)
    cond = model._conditioning(mel, z.shape[1], 0, frames)
    rows = fold_rows(z, model.config.n_height)
    lengths = None
    if frames is not None:
        columns = frames * model.hop_length // model.config.n_height
        lengths = columns.tolist()
        beyond = torch.arange(rows.shape[2]) >= columns[:, None]
        cond = cond.masked_fill(beyond[:, None, :, None], float("nan"))  # nobody may read it
    with kernels.use("reference"):
        for k in reversed(range(model.config.n_flows)):
            rows = invert_flow(rows, cond, model.pack_flows()[k], lengths=lengths)
    for i, audio in enumerate(unfold_rows(rows)):
        n = z.shape[1] if frames is None else int(frames[i]) * model.hop_length
        torch.testing.assert_close(audio[:n], expected[i, :n], rtol=1e-10, atol=1e-10)
        assert not audio[n:].any()


def call() -> tuple[Tensor, Tensor, FlowWeights]:
    """Return z, mel and weights of a small flow."""
    model = MODELS["nanoflow"]
    z = torch.randn(2, 6, 5, dtype=torch.float64)
    return z, torch.randn(2, 6, 5, 4, dtype=torch.float64), model.pack_flows()[0]


def test_projected_conditioning_does_as_the_mel() -> None:
    z, mel, weights = call()
    matrices = [layer.cond for layer in weights.layers]
    bare = replace(weights, layers=tuple(replace(layer, cond=None) for layer in weights.layers))
    projected = [mel @ matrix for matrix in matrices if matrix is not None]
    with kernels.use("reference"):
        expected = invert_flow(z, mel, weights)
        torch.testing.assert_close(invert_flow(z, projected, bare), expected)


def test_arguments_that_do_not_fit_are_named() -> None:
    z, mel, weights = call()
    bare = replace(weights, layers=tuple(replace(layer, cond=None) for layer in weights.layers))
    first, *others = weights.layers
    wrong = {
        r"z is \(2, 5\) of torch.float64; give floats \(B, H, W\)": (z[:, 0], mel, weights),
        r"order \[0, 0, 1, 2, 3, 4\]: not a permutation of the 6 rows": (
            z,
            mel,
            replace(weights, order=(0, 0, 1, 2, 3, 4)),
        ),
        r"cond is \(2, 6, 5, 3\); give \(2, 6, 5, 4\)": (z, mel[..., :3], weights),
        r"cond is one tensor and the layers have no matrix": (z, mel, bare),
        r"cond is 3 tensors; these layers take one mel": (z, [mel] * 3, weights),
        r"cond is 2 tensors; these layers take 3 tensors": (z, [mel] * 2, bare),
        r"cond is torch.float32 on cpu; give torch.float64 on cpu": (z, mel.float(), weights),
        r"out_bias is \(25,\); the row op knows the affine transform": (
            z,
            mel,
            replace(weights, out_bias=torch.zeros(25)),
        ),
        r"dilations .*: give 3 pairs": (z, mel, replace(weights, dilations=((1, 1),))),
        r"dilations .* of at least 1": (z, mel, replace(weights, dilations=((1, 0),) * 3)),
        r"weights.layers\[0\].res is None; give \(4, 4\)": (
            z,
            mel,
            replace(weights, layers=(replace(first, res=None), *others)),
        ),
    }
    for message, arguments in wrong.items():
        with pytest.raises(VocoderError, match=message):
            invert_flow(*arguments)


@pytest.mark.parametrize("lengths", [(5,), (5, 6), (0, 5)])
def test_lengths_that_do_not_fit_are_refused(lengths: tuple[int, ...]) -> None:
    z, mel, weights = call()
    with pytest.raises(VocoderError, match="give 2 numbers of columns from 1 to 5"):
        invert_flow(z, mel, weights, lengths=lengths)


def test_casting_keeps_what_is_shared() -> None:
    _, _, weights = call()
    one, other = cast_flows([weights, replace(weights, order=(5, 4, 3, 2, 1, 0))], torch.float16)
    for layer, same in zip(one.layers, other.layers, strict=True):
        assert layer.conv is same.conv
        assert layer.conv.dtype == torch.float16
        assert layer.bias.dtype == layer.out.dtype == torch.float64


CARD = Card("NVIDIA H100", (9, 0), is_nvidia=True, has_triton=True)
H100 = Call("cuda", CARD, torch.float16, torch.float32, 64, 80, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "cpu", "card": None}, "on the cpu, not on an NVIDIA GPU"),
        ({"card": replace(CARD, capability=(7, 5))}, "has compute capability 7.5"),
        ({"card": replace(CARD, has_triton=False)}, "lacks triton"),
        ({"dtype": torch.float32}, "float32 has no tensor cores; pack for float16"),
        ({"z_dtype": torch.float64}, "z is float64; only float32"),
        ({"channels": 32}, "32 channels; compiled for 64 and 128"),
        ({"n_mels": 4}, "4 mel bands; a multiple of 16"),
        ({"d_h": 2}, "height dilation 2; only 1"),
        ({"causal": True}, "causal along columns; only symmetric ones"),
    ],
)
def test_triton_says_why_it_cannot(change: dict[str, object], reason: str) -> None:
    facts = replace(H100, **change)  # type: ignore[arg-type]
    choice = choose(BACKENDS, facts, "auto")
    assert choice.backend.name != "triton"
    assert reason in choice.refusals["triton"]
    with pytest.raises(BackendError, match=reason):
        choose(BACKENDS, facts, "triton")


def test_triton_computes_what_it_can() -> None:
    assert choose(BACKENDS, H100, "auto").backend.name == "triton"
