"""Laws that hold for every voice, in float64, and those of the row-autoregressive ones."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import audio_and_mel, coupling_models, tiny_models

from vocoder.flows.autoregressive import row_orders
from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.models.families.row_flow import RowFlow
from vocoder.models.families.voice import VoiceModel
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.models.waveflow import WaveFlow, WaveFlowConfig
from vocoder.nets.upsample import Upsampler, reach

MODELS = tiny_models()
VOICES: dict[str, VoiceModel] = {**MODELS, **coupling_models()}
each_model = pytest.mark.parametrize("model", VOICES.values(), ids=VOICES.keys())
each_row_flow = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


@each_model
def test_inverse_undoes_forward(model: VoiceModel) -> None:
    x, mel = audio_and_mel(model)
    with torch.no_grad():
        z, _ = model(x, mel)
        assert (z - x).abs().max() > 0.1
        torch.testing.assert_close(model.inverse(z, mel), x, atol=1e-9, rtol=0)
        torch.testing.assert_close(model(model.inverse(x, mel), mel)[0], x, atol=1e-9, rtol=0)


@each_model
def test_logdet_is_that_of_the_jacobian(model: VoiceModel) -> None:
    x, mel = audio_and_mel(model, n_frames=2, batch=1)
    jacobian = torch.autograd.functional.jacobian(lambda audio: model(audio, mel)[0], x)
    _, expected = torch.linalg.slogdet(jacobian[0, :, 0])
    torch.testing.assert_close(model(x, mel)[1][0], expected, atol=1e-9, rtol=1e-9)


@each_row_flow
def test_row_queue_agrees_with_recomputing_all_rows(model: RowFlow) -> None:
    """The cached inverse and its slow twin: the whole network anew for every row."""
    x, mel = audio_and_mel(model)
    with torch.no_grad():
        z, _ = model(x, mel)
        rows = fold_rows(z, model.config.n_height)
        cond = model._conditioning(mel, z.shape[-1], 0)
        for step, estimator, flow_cond in model._flows(cond, [*range(model.config.n_flows)][::-1]):
            rows = _inverse_without_queue(step, rows, flow_cond, estimator)
    torch.testing.assert_close(unfold_rows(rows), x, atol=1e-9, rtol=0)
    torch.testing.assert_close(model.inverse(z, mel), unfold_rows(rows), atol=1e-9, rtol=0)


def _inverse_without_queue(step, z, cond, estimator):  # type: ignore[no-untyped-def]
    first = 1 if step.passthrough else 0
    z, x = z[:, step.order], torch.zeros_like(z)
    x[:, :first] = z[:, :first]
    for r in range(first, z.shape[1]):
        seen = x[:, :-1] if step.passthrough else F.pad(x[:, :-1], (0, 0, 1, 0))
        params = estimator(seen, cond)
        x[:, r] = step.transform.inverse(z[:, r], params[:, :, r - first])
    return x[:, step.positions]


@each_model
def test_padded_batch_gives_what_single_items_give(model: VoiceModel) -> None:
    x, mel = audio_and_mel(model, n_frames=4, batch=3)
    lengths = torch.tensor([2, 4, 3])
    with torch.no_grad():
        batch = model.inverse(x, mel, lengths)
        for item, n_frames in enumerate(lengths.tolist()):
            n = n_frames * model.hop_length
            alone = model.inverse(x[item : item + 1, :n], mel[item : item + 1, :, :n_frames])
            torch.testing.assert_close(batch[item, :n], alone[0], atol=1e-9, rtol=0)


@each_model
def test_fold_computes_the_same_and_leaves_the_model_alone(model: VoiceModel) -> None:
    x, mel = audio_and_mel(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = model.fold()
    with torch.no_grad():
        for ours, theirs in zip(folded(x, mel), model(x, mel), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
        for parameter in folded.parameters():
            parameter.zero_()
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@each_model
def test_log_prob_is_the_sum_of_its_terms(model: VoiceModel) -> None:
    x, mel = audio_and_mel(model)
    terms = model.log_prob_per_sample(x, mel)
    assert terms.shape == x.shape
    torch.testing.assert_close(terms.sum(dim=1), model.log_prob(x, mel))


@each_row_flow
def test_crop_is_conditioned_as_in_the_whole_clip(model: RowFlow) -> None:
    """With its frames of context on each side, a crop's conditioning is that of the clip."""
    x, mel = audio_and_mel(model, n_frames=8)
    whole = model._conditioning(mel, x.shape[-1], 0)
    before, after = model.config.mel_context
    part = mel[:, :, 3 - before : 5 + after]
    crop = model._conditioning(part, 2 * model.hop_length, before * model.hop_length)
    columns = model.hop_length // model.config.n_height
    torch.testing.assert_close(crop, whole[:, :, 3 * columns : 5 * columns], atol=1e-12, rtol=0)


@each_model
def test_every_parameter_has_a_gradient(model: VoiceModel) -> None:
    x, mel = audio_and_mel(model)
    model.zero_grad()
    model.log_prob(x, mel).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("name", ["nanoflow-causal", "waveflow-causal"])
@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_a_causal_model_looks_ahead_as_far_as_it_says(name: str, way: str) -> None:
    """Columns depend on no later column, and on the mel of the frames that they may see."""
    model = MODELS[name]
    x, mel = audio_and_mel(model, n_frames=5, batch=1)
    H, hop = model.config.n_height, model.hop_length

    def run(x: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        return model(x, mel)[0][0] if way == "forward" else model.inverse(x, mel)[0]

    by_x, by_mel = torch.autograd.functional.jacobian(run, (x, mel))
    columns = torch.arange(x.shape[1]) // H
    later = columns[None] > columns[:, None]
    assert (by_x[:, 0][later] == 0).all()
    assert (by_x[-1, 0, :hop] != 0).any()  # and it does look back
    ahead = torch.arange(5)[None] - (torch.arange(x.shape[1]) // hop)[:, None]
    seen = by_mel[:, 0].abs().amax(dim=1) > 0
    assert not seen[ahead > model.config.lookahead_frames].any()
    assert seen[ahead == model.config.lookahead_frames].any()


def test_a_symmetric_model_sees_to_the_right() -> None:
    """What the law of causal models would find if it were broken."""
    model = MODELS["nanoflow"]
    x, mel = audio_and_mel(model, n_frames=5, batch=1)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x, mel)[0][0], x)[:, 0]
    assert (jacobian[: model.hop_length, model.hop_length :] != 0).any()


@pytest.mark.parametrize("strides", [(16, 16), (2, 3), (5, 1, 3), (1, 1), (7,), (15, 20)])
def test_reach_of_the_upsampler(strides: tuple[int, ...]) -> None:
    upsample = Upsampler(strides)
    mel = torch.randn(1, 3, 9)
    jacobian = torch.autograd.functional.jacobian(lambda mel: upsample(mel)[0, 1], mel)[:, 0]
    frames = jacobian.abs().sum(dim=1).reshape(9, -1, 9).sum(dim=1).nonzero()
    distances = frames[:, 1] - frames[:, 0]
    assert distances.max() == -distances.min() == reach(strides) == upsample.context


def test_a_negative_lookahead_is_refused() -> None:
    with pytest.raises(ValueError, match="lookahead_frames must be 0 or more, got -1"):
        NanoFlowConfig(lookahead_frames=-1)


@pytest.mark.parametrize("strides", [(16, 16), (11, 25), (15, 20), (16, 32), (5, 5, 11), (7,)])
def test_length_is_hop_times_frames(strides: tuple[int, ...]) -> None:
    hop = math.prod(strides)
    height = next(h for h in range(2, hop + 1) if hop % h == 0)
    config = NanoFlowConfig(
        upsample_strides=strides, n_height=height, channels=2, n_layers=1, n_flows=1
    )
    model = NanoFlow(config)
    z = torch.randn(1, hop * 3)
    assert model.inverse(z, torch.randn(1, 80, 3)).shape == (1, hop * 3)
    assert model.upsample(torch.randn(1, 80, 3)).shape == (1, 80, hop * 3)


@pytest.mark.parametrize(
    ("config", "training", "inference"),
    [
        (WaveFlowConfig(), 5_950_180, 5_925_090),
        (WaveFlowConfig(channels=128), 22_385_892, 22_335_714),
        (WaveFlowConfig(first_row="passthrough"), 5_950_164, 5_925_074),
        (WaveFlowConfig(first_row="passthrough", bipartize=True), 5_950_164, 5_925_074),
        (WaveFlowConfig(channels=128, first_row="passthrough"), 22_385_876, 22_335_698),
        (NanoFlowConfig(channels=128, variant="naive"), 2_798_408, 2_792_134),
        (NanoFlowConfig(channels=128, variant="decomposed"), 2_800_228, 2_793_954),
        (NanoFlowConfig(channels=128), 3_865_188, 2_818_530),
        (NanoFlowConfig(channels=128, flow_embedding=1024, n_flows=16), 4_936_324, 2_845_186),
    ],
)
def test_parameter_counts_are_the_published_ones(
    config: WaveFlowConfig | NanoFlowConfig, training: int, inference: int
) -> None:
    model = NanoFlow(config) if isinstance(config, NanoFlowConfig) else WaveFlow(config)
    assert model.n_parameters() == training
    assert model.fold().n_parameters() == inference


def test_row_orders_of_the_specification() -> None:
    identity, flip = (*range(16),), (*range(15, -1, -1),)
    halves = (*range(7, -1, -1), *range(15, 7, -1))
    orders = row_orders(16, 8, flip_first=False, bipartize=True)
    expected = [identity, flip, identity, flip, identity, halves, identity, halves, identity]
    assert orders == expected
    assert row_orders(16, 3, flip_first=True, bipartize=False) == [flip, identity, flip, flip]
    assert row_orders(16, 3, flip_first=False, bipartize=False) == [identity, flip, identity, flip]
    swapped = (*range(8, 16), *range(8))
    assert row_orders(16, 6, flip_first=False, bipartize=True)[-1] == swapped


@pytest.mark.parametrize(
    ("x", "mel", "message"),
    [
        ((1, 48), (1, 5, 2), "mel must be"),
        ((1, 49), (1, 4, 3), "not a multiple of the 6 rows"),
        ((1, 72), (1, 4, 2), "more than 2 frames"),
    ],
)
def test_shapes_that_do_not_fit(x: tuple[int, ...], mel: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODELS["nanoflow"](torch.zeros(x).double(), torch.zeros(mel).double())


def test_sample_follows_temperature_and_generator() -> None:
    model = MODELS["nanoflow"]
    _, mel = audio_and_mel(model)
    n = mel.shape[-1] * model.hop_length

    def draw(seed: int, temperature: float) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return model.sample(mel, temperature=temperature, generator=generator)

    assert torch.equal(draw(0, 1.0), draw(0, 1.0))
    assert not torch.equal(draw(0, 1.0), draw(1, 1.0))
    mode = model.inverse(torch.zeros(2, n).double(), mel)
    torch.testing.assert_close(draw(0, 0.0), mode)
