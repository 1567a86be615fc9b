"""SourceFlow: its filters under every preset, its options, and its hostile input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_corpus, perturb
from scipy.signal import lfilter
from torch import Tensor

from vocoder.config import ConfigError
from vocoder.errors import VocoderError
from vocoder.flows.linear_prediction import interpolate_frames, reflection_coefficients
from vocoder.mel.envelope import autocorrelation, frame_centre
from vocoder.mel.presets import PRESETS, MelPreset
from vocoder.mel.spectrogram import MelSpectrogram
from vocoder.models.sourceflow import SourceFlow, SourceFlowConfig
from vocoder.recipe import Recipe
from vocoder.training.trainer import Trainer

each_preset = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))


def config_for(preset: MelPreset, **settings: Any) -> SourceFlowConfig:
    hop = preset.hop_length
    height = next(n for n in (16, 15, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2) if hop % n == 0)
    shape = {"channels": 4, "n_layers": 2, "n_flows": 2, "flow_embedding": 4, "pitch_channels": 4}
    return SourceFlowConfig(
        n_mels=preset.n_mels,
        upsample_strides=(hop,),
        n_height=height,
        preset=preset,
        **{**shape, "order": 24, **settings},
    )


def model_for(preset: MelPreset, **settings: Any) -> SourceFlow:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SourceFlow(config_for(preset, **settings))
    perturb(model, size=0.05)
    return model.double().eval()


def made_up_speech(rate: int, seconds: float = 1.0) -> Tensor:
    """Return audio (N,) of two vowels and a hiss between them, with the noise of a room."""
    random = np.random.default_rng(0)
    pieces = []
    for f0, formants in ((140, (600, 1400, 2600)), (0, (3000, 5000)), (210, (300, 2300, 3000))):
        n = round(seconds * rate / 3)
        pulses = np.diff(np.floor(np.cumsum(np.full(n, f0 / rate))), prepend=0)
        sound = pulses * rate**0.5 / 10 + 0.1 * random.standard_normal(n)
        for formant in formants:
            radius = np.exp(-np.pi * 120 / rate)
            cosine = np.cos(2 * np.pi * min(formant, 0.45 * rate) / rate)
            sound = lfilter([1], [1, -2 * radius * cosine, radius**2], sound)
        pieces.append(0.1 * sound / sound.std() * (0.3 if not f0 else 1.0))
    speech = np.concatenate(pieces)
    return torch.from_numpy(speech + 1e-3 * random.standard_normal(len(speech)))


@each_preset
def test_whitened_sound_has_about_unit_deviation_under_every_preset(preset: MelPreset) -> None:
    """So the logarithm, the padding and the amplitudes of each preset are understood."""
    hop = preset.hop_length
    audio = made_up_speech(preset.sample_rate)
    audio = audio[: len(audio) // hop * hop][None]
    mel = MelSpectrogram(preset)(audio.float()).double()
    model = model_for(preset)
    _, _, excitation = model.trace(audio, model.condition(mel))
    assert 0.8 <= float(8 * excitation.std()) <= 1.2


@each_preset
@torch.no_grad()
def test_round_trip_to_1e_9_under_every_preset_of_one_frame_too(preset: MelPreset) -> None:
    model = model_for(preset)
    silence = preset.silence_floor
    for n_frames in (1, 5):
        x = 0.1 * torch.randn(1, n_frames * preset.hop_length, dtype=torch.float64)
        for mel in (
            torch.full((1, preset.n_mels, n_frames), silence, dtype=torch.float64),
            silence + torch.rand(1, preset.n_mels, n_frames, dtype=torch.float64),
        ):
            cond = model.condition(mel)
            z, _ = model(x, cond)
            scale = max(1.0, float(z.abs().max()))  # silence makes sound very improbable
            assert (model.inverse(z, cond) - x).abs().max() <= 1e-9 * scale


OPTIONS = [
    {"order": 0},
    {"order": 1},
    {"order": 128},
    {"variant": "naive"},
    {"variant": "decomposed"},
    {"transform": "spline"},
    {"lookahead_frames": 2},
    {"n_layers_per_cycle": 2},
    {"voiced_noise": 1.0},
    {"voiced_noise": 0.01},
]


@pytest.mark.parametrize("options", OPTIONS, ids=[str(option) for option in OPTIONS])
@torch.no_grad()
def test_all_options_of_nanoflow_keep_the_laws(options: dict[str, Any]) -> None:
    preset = PRESETS["tacotron2-22k"]
    model = model_for(preset, **options)
    x = 0.1 * torch.randn(2, 3 * 256, dtype=torch.float64)
    cond = model.condition(-6 + 3 * torch.rand(2, 80, 3, dtype=torch.float64))
    z, logdet = model(x, cond)
    assert (model.inverse(z, cond) - x).abs().max() <= 1e-9
    assert (model.fold()(x, cond)[0] - z).abs().max() <= 1e-9
    one = x[:1, :256], cond[:1, :, :1]
    jacobian = torch.autograd.functional.jacobian(lambda audio: model(audio, one[1])[0], one[0])
    _, expected = torch.linalg.slogdet(jacobian[0, :, 0])
    torch.testing.assert_close(model(*one)[1][0], expected, atol=1e-7, rtol=1e-9)
    assert logdet.isfinite().all()


@torch.no_grad()
def test_the_pulses_change_nothing_where_all_noise_is_kept() -> None:
    """So the likelihood of recordings, and the flow's training, know nothing of the shapes."""
    whole = model_for(PRESETS["tacotron2-22k"], voiced_noise=1.0)
    other = model_for(PRESETS["tacotron2-22k"], voiced_noise=1.0)
    for parameter in other.pulse_shape.parameters():
        parameter.mul_(100)
    x = 0.1 * torch.randn(1, 4 * 256, dtype=torch.float64)
    cond = whole.condition(-6 + 3 * torch.rand(1, 80, 4, dtype=torch.float64))
    for ours, theirs in zip(whole(x, cond), other(x, cond), strict=True):
        assert torch.equal(ours, theirs)


def test_the_shapes_learn_the_pulses_that_speech_has() -> None:
    """Their loss falls by what speech has in common from pulse to pulse, and moves nothing else."""
    preset = PRESETS["speecht5-16k"]
    model = model_for(preset, shape_channels=16, voiced_noise=1.0).requires_grad_(False)
    model.pulse_shape.requires_grad_(True)
    audio = made_up_speech(preset.sample_rate)
    audio = audio[: len(audio) // 256 * 256][None]
    mel = MelSpectrogram(preset)(audio.float()).double()[..., : audio.shape[1] // 256]
    cond = model.condition(mel, f0=torch.full_like(mel[:, 0], 140.0))
    optimizer = torch.optim.Adam(model.pulse_shape.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = model.losses(audio, cond)["shape"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_of_noise_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="voiced_noise must lie above 0 and be at most 1"):
        config_for(PRESETS["tacotron2-22k"], voiced_noise=share)


@torch.no_grad()
def test_a_crop_with_its_history_is_whitened_as_in_the_whole() -> None:
    model = model_for(PRESETS["tacotron2-22k"], order=128)
    x = 0.1 * torch.randn(1, 12 * 256, dtype=torch.float64)
    cond = model.condition(-6 + 3 * torch.rand(1, 80, 12, dtype=torch.float64))
    _, _, whole = model.trace(x, cond)
    lo, hi = 4 * 256, 8 * 256
    _, _, crop = model.trace(x[:, lo:hi], cond[..., 3:9], 256, x[:, lo - 128 : lo])
    torch.testing.assert_close(crop, whole[:, lo:hi], atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_long_audio_is_filtered_as_if_all_filters_were_made_at_once() -> None:
    model = model_for(PRESETS["tacotron2-22k"], voiced_noise=1.0)
    excitation = torch.randn(2, 200 * 256, dtype=torch.float64)
    mel = -6 + 3 * torch.rand(2, 80, 200, dtype=torch.float64)
    filters = model.filters(mel, 0, 200 * 256, torch.float64)
    expected = model.whitening.inverse(excitation, filters)
    audio = model.filter(excitation, model.condition(mel))
    torch.testing.assert_close(audio, expected, atol=1e-9, rtol=1e-9)


def hostile_mels(preset: MelPreset, n_frames: int = 24) -> dict[str, Tensor]:
    """Return mels (1, M, F) such as a broken or playful model upstream may send."""
    low, high = preset.silence_floor, preset.compress(100.0)
    shape = (1, preset.n_mels, n_frames)
    one_band = torch.full(shape, low)
    one_band[:, preset.n_mels // 3] = high
    clicks = torch.full(shape, low)
    clicks[..., ::3] = high
    steep = torch.linspace(high, low - 30, preset.n_mels)[None, :, None].expand(shape).clone()
    noise = low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return {
        "silence": torch.full(shape, low),
        "below silence": torch.full(shape, low - 1000),
        "one band": one_band,
        "clicks": clicks,
        "steep": steep,
        "noise": noise,
    }


@pytest.mark.parametrize("order", [1, 24, 128])
@pytest.mark.parametrize("kind", list(hostile_mels(PRESETS["tacotron2-22k"])))
@torch.no_grad()
def test_hostile_mels_give_sound_as_loud_as_they_say_and_no_burst(kind: str, order: int) -> None:
    preset = PRESETS["tacotron2-22k"]
    model = model_for(preset, order=order)
    mel = hostile_mels(preset)[kind].double()
    cond = model.condition(mel)
    assert cond.isfinite().all()
    excitation = torch.randn(1, 24 * 256, dtype=torch.float64) / 8
    audio = model.filter(excitation, cond)
    assert audio.isfinite().all()
    power = autocorrelation(mel, preset, 0).max()
    assert audio.square().mean().sqrt() <= 1.5 * power.sqrt()
    assert audio.abs().max() <= 8 * power.sqrt()
    back = model.filter(excitation.float(), cond.float())
    assert (back - audio).abs().max() <= 1e-3 * power.sqrt()  # float32 is as good


def test_the_filters_are_interpolated_from_the_centres_of_the_frames() -> None:
    preset = PRESETS["hifigan-22k"]
    model = model_for(preset)
    mel = -6 + 3 * torch.rand(1, 80, 9, dtype=torch.float64)
    r = autocorrelation(mel, preset, 24)
    at_blocks = interpolate_frames(r, 256, 32, frame_centre(preset), 512, 1024)
    powers = interpolate_frames(r[..., :1].log(), 256, 1, frame_centre(preset), 512, 1024).exp()
    filters = model.filters(mel, 512, 512, torch.float64)
    torch.testing.assert_close(filters.reflections, reflection_coefficients(at_blocks))
    torch.testing.assert_close(filters.deviations, 8 * powers[..., 0].sqrt())


def test_a_given_pitch_takes_the_place_of_the_mels() -> None:
    model = model_for(PRESETS["tacotron2-22k"])
    mel = torch.full((1, 80, 40), -4.0, dtype=torch.float64)
    f0 = torch.full((1, 40), 147.0, dtype=torch.float64)
    frequency = model.condition(mel, f0=f0)[:, 80 + 256 : -1]
    assert torch.allclose(frequency * 22050, torch.tensor(147.0, dtype=torch.float64))


def test_it_learns_a_corpus_with_epochs_and_refuses_one_without(tmp_path: Path) -> None:
    model = {"name": "sourceflow", "channels": 4, "n_layers": 2, "n_flows": 2, "flow_embedding": 4}
    train = {"steps": 8, "batch_size": 2, "segment_length": 1024, "log_every": 8, "save_every": 8}
    recipe = Recipe.from_dict(
        {"model": {**model, "order": 16, "pitch_channels": 8}, "train": {**train, "eval_every": 8}}
    )
    data = make_corpus(tmp_path / "corpus", epochs=True)
    checkpoint = Trainer(recipe, data, tmp_path / "run").fit()
    log = (tmp_path / "run/log.jsonl").read_text()
    assert checkpoint.exists()
    assert "loss/pitch" in log
    assert "test/nats_per_dim" in log
    with pytest.raises(VocoderError, match="holds no epochs"):
        Trainer(recipe, make_corpus(tmp_path / "plain"), tmp_path / "other")


def test_a_recipe_tells_the_model_its_preset() -> None:
    sizes = {"name": "sourceflow", "upsample_strides": [16, 16]}
    recipe = Recipe.from_dict({"model": sizes, "preset": "speecht5-16k"})
    assert recipe.config.preset == PRESETS["speecht5-16k"]
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    other = Recipe.from_dict({**recipe.to_dict(), "preset": "hifigan-22k"})
    assert other.config.preset == PRESETS["hifigan-22k"]
    with pytest.raises(ValueError, match="reads its filters off mels of the preset speecht5-16k"):
        recipe.config.check_preset(PRESETS["tacotron2-22k"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": -1}, "order must lie between 0 and half"),
        ({"order": 513}, "order must lie between 0 and half"),
        ({"f_min": 5}, "f_min and f_max must rise"),
        ({"f_max": 40}, "f_min and f_max must rise"),
        ({"f_max": 9000}, "f_min and f_max must rise"),
        ({"pitch_channels": 0}, "pitch_channels must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe.from_dict({"model": {"name": "sourceflow", **settings}})
