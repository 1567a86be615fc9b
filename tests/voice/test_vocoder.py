"""The engine against the model that defines it, and the laws of noise, batches and lengths."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from voices import TACOTRON2, some_mel, voice_models

from vocoder.device import check_dtype
from vocoder.errors import VocoderError
from vocoder.mel.griffin_lim import GriffinLim
from vocoder.mel.presets import get_preset
from vocoder.mel.spectrogram import MelSpectrogram
from vocoder.voice.batches import pad_mels
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.noise import draw_noise

VOICES = {kind: FlowVocoder(model, TACOTRON2) for kind, model in voice_models().items()}
VOICES["griffin-lim"] = GriffinLimVocoder(n_iter=3)
FLOWS = voice_models()
# Batches and single items take different paths through the BLAS; the flow amplifies rounding.
CLOSE = {"rtol": 0, "atol": 2e-5}

every_voice = pytest.mark.parametrize("voice", VOICES.values(), ids=VOICES)


@pytest.fixture
def voice():
    return VOICES["nanoflow"]


# ---- the slow twin ----


@pytest.mark.parametrize("kind", FLOWS)
def test_it_is_the_inverse_of_the_unfolded_model(kind):
    mel = some_mel(5)
    noise = draw_noise(5 * 256, seed=3)
    with torch.no_grad():
        expected = FLOWS[kind].inverse(0.7 * noise[None], mel[None])[0]
    audio = VOICES[kind].synthesize(mel, temperature=0.7, seed=3)
    torch.testing.assert_close(audio, expected, **CLOSE)
    assert (audio - 0.7 * noise).abs().max() > 0.01  # the model did something


def test_the_model_is_left_as_it_was():
    model = voice_models()["nanoflow"].train()
    before = copy.deepcopy(model.state_dict())
    FlowVocoder(model, TACOTRON2, dtype="bfloat16").synthesize(some_mel(2), seed=0)
    after = model.state_dict()
    assert model.training
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


# ---- lengths and batches ----


@every_voice
@pytest.mark.parametrize("n_frames", [1, 2, 17])
def test_length_is_frames_times_hop(voice, n_frames):
    audio = voice.synthesize(some_mel(n_frames), seed=0)
    assert audio.shape == (n_frames * 256,)
    assert audio.dtype == torch.float32
    assert voice.synthesize(some_mel(n_frames)[None].repeat(2, 1, 1)).shape == (2, n_frames * 256)


@every_voice
def test_an_item_of_a_ragged_batch_sounds_as_it_does_alone(voice):
    mels = [some_mel(n, seed=n) for n in (9, 4, 1)]
    batch, lengths = pad_mels(mels, voice.preset)
    audio = voice.synthesize(batch, lengths, seed=5)
    for row, mel in zip(audio, mels, strict=True):
        end = mel.shape[-1] * 256
        torch.testing.assert_close(row[:end], voice.synthesize(mel, seed=5), **CLOSE)
        assert not row[end:].any()


@pytest.mark.parametrize("kind", ["nanoflow", "griffin-lim"])
def test_what_pads_a_batch_does_not_matter(kind):
    batch = torch.stack([some_mel(6), some_mel(6, seed=1)])
    silent, junk = batch.clone(), batch.clone()
    silent[1, :, 4:] = TACOTRON2.silence_floor
    junk[1, :, 4:] = float("nan")
    voice = VOICES[kind]
    assert torch.equal(
        voice.synthesize(silent, [6, 4], seed=0),
        voice.synthesize(junk, torch.tensor([6, 4]), seed=0),
    )


def test_mels_are_padded_with_silence():
    batch, lengths = pad_mels([some_mel(3), some_mel(1)], TACOTRON2)
    assert lengths == [3, 1]
    assert batch.shape == (2, 80, 3)
    assert (batch[1, :, 1:] == TACOTRON2.silence_floor).all()


# ---- noise ----


@given(n=st.integers(1, 20_000), m=st.integers(1, 20_000), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_noise_depends_on_seed_and_position_alone(n, m, seed):
    short, long = sorted((n, m))
    assert torch.equal(draw_noise(long, seed)[:short], draw_noise(short, seed))


def test_noise_is_standard_normal_without_repetition():
    noise = draw_noise(100_000, seed=1)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert len(noise.unique()) > 99_000  # few ties in float32, and no block twice


@every_voice
def test_a_seed_repeats_and_none_does_not(voice):
    mel = some_mel(4)
    once = voice.synthesize(mel, seed=1)
    assert torch.equal(once, voice.synthesize(mel, seed=1))
    assert not torch.equal(once, voice.synthesize(mel, seed=2))
    torch.manual_seed(0)
    fresh = voice.synthesize(mel)
    torch.manual_seed(0)
    assert not torch.equal(fresh, voice.synthesize(mel))


def test_synthesis_leaves_the_global_generator_alone(voice):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    voice.synthesize(some_mel(2))
    voice.synthesize(some_mel(2), seed=9)
    assert torch.equal(torch.rand(1), expected)


def test_items_without_a_seed_get_noise_of_their_own(voice):
    audio = voice.synthesize(some_mel(3)[None].repeat(2, 1, 1))
    assert not torch.allclose(audio[0], audio[1])


def test_temperature_zero_is_the_mode(voice):
    mel = some_mel(3)
    mode = voice.synthesize(mel, temperature=0, seed=1)
    assert torch.equal(mode, voice.synthesize(mel, temperature=0, seed=2))


# ---- kinds of input ----


@every_voice
def test_an_array_gives_an_array(voice):
    mel = some_mel(3)
    audio = voice.synthesize(mel.numpy().astype(np.float64), seed=0)
    assert isinstance(audio, np.ndarray)
    assert audio.dtype == np.float32
    np.testing.assert_allclose(audio, voice.synthesize(mel, seed=0).numpy(), atol=2e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-4), (torch.bfloat16, 0.5)])
def test_other_dtypes_say_nearly_the_same(dtype, tolerance):
    # bfloat16 has 8 bits; with random weights the flow does not damp its rounding.
    exact = VOICES["waveflow"].synthesize(some_mel(4), seed=0)
    other = FlowVocoder(FLOWS["waveflow"], TACOTRON2, dtype=dtype).synthesize(some_mel(4), seed=0)
    assert other.dtype == torch.float32
    assert (other - exact).abs().max() < tolerance


@every_voice
def test_copy_synthesis(voice):
    audio = 0.1 * torch.randn(3000, generator=torch.Generator().manual_seed(0))
    n_samples = voice.preset.n_frames(3000) * 256
    copied = voice.vocode(audio, seed=0)
    assert copied.shape == (n_samples,)
    torch.testing.assert_close(copied, voice.synthesize(voice.mel(audio), seed=0), **CLOSE)


@pytest.mark.parametrize("name", ["vocos-24k", "pwg-24k", "speecht5-16k", "nanoflow-db-22k"])
def test_griffin_lim_takes_any_preset(name):
    preset = get_preset(name)
    voice = GriffinLimVocoder(name, n_iter=2)
    facts = (voice.sample_rate, voice.hop_length, voice.n_mels)
    assert facts == (preset.sample_rate, preset.hop_length, preset.n_mels)
    mel = torch.full((preset.n_mels, 3), preset.silence_floor)
    assert voice.synthesize(mel, seed=0).shape == (3 * preset.hop_length,)


# ---- errors ----


@every_voice
@pytest.mark.parametrize(
    ("mel", "words"),
    [
        (torch.zeros(100, 5), r"mel has 100 bands, .* with 80 \(preset tacotron2-22k\)$"),
        (torch.zeros(5, 80), r"mel has 5 bands, .*\); turn it round: bands first$"),
        (torch.zeros(80), r"shape \(80,\)"),
        (torch.zeros(1, 1, 80, 5), r"shape \(1, 1, 80, 5\)"),
        (torch.zeros(80, 0), "0 frames"),
        (torch.zeros(2, 80, 0), "0 frames"),
        (torch.zeros(0, 80, 5), "0 frames|shape"),
        (torch.zeros(80, 5, dtype=torch.int64), "int64"),
        (torch.full((80, 5), float("nan")), "NaN"),
        (torch.full((1, 80, 5), float("inf")), "infinite"),
    ],
)
def test_a_mel_that_cannot_be_spoken(voice, mel, words):
    with pytest.raises(VocoderError, match=words) as caught:
        voice.synthesize(mel)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("temperature", [-1, float("nan"), float("inf")])
def test_a_temperature_that_makes_no_sense(voice, temperature):
    with pytest.raises(VocoderError, match="temperature"):
        voice.synthesize(some_mel(2), temperature=temperature)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range(voice, seed):
    with pytest.raises(VocoderError, match=f"seed {seed}"):
        voice.synthesize(some_mel(2), seed=seed)
    with pytest.raises(VocoderError, match=f"seed {seed}"):
        GriffinLim(TACOTRON2)(some_mel(2), seed=seed)


@pytest.mark.parametrize(
    "lengths", [[2], [0, 2], [2, 4], [1.5, 2.0], [[1, 2]], [[1], 2], ["a", "b"], [None, 2], [1j, 2]]
)
def test_lengths_that_do_not_fit(voice, lengths):
    with pytest.raises(VocoderError, match=r"lengths .* give 2 whole numbers of frames, 1 to 3"):
        voice.synthesize(some_mel(3)[None].repeat(2, 1, 1), lengths)


@pytest.mark.parametrize(
    "turn",
    [
        lambda mel: mel[:, ::-1],
        lambda mel: mel.astype(">f4"),
        lambda mel: mel.astype(np.longdouble),
        lambda mel: np.lib.stride_tricks.as_strided(mel, writeable=False),
    ],
    ids=["reversed", "big-endian", "longdouble", "read-only"],
)
@pytest.mark.filterwarnings("error")
def test_any_array_of_floats_is_spoken(voice, turn):
    mel = turn(some_mel(3).numpy())
    plain = torch.from_numpy(np.array(mel, np.float32))
    audio = voice.synthesize(mel, seed=0)
    np.testing.assert_array_equal(audio, voice.synthesize(plain, seed=0).numpy())


def test_a_seed_of_numpy_is_one_too(voice):
    mel = some_mel(3)
    assert torch.equal(voice.synthesize(mel, seed=np.int64(3)), voice.synthesize(mel, seed=3))
    with pytest.raises(VocoderError, match=r"seed 1\.5: must be a whole number"):
        voice.synthesize(mel, seed=1.5)


def test_a_full_device_is_told_with_a_remedy(voice, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nOf the allocated memory …")

    monkeypatch.setattr(voice, "_render", full)
    with pytest.raises(VocoderError, match="memory for 2 × 3 frames; use a smaller batch size"):
        voice.synthesize(some_mel(3)[None].repeat(2, 1, 1))


def test_a_full_machine_is_told_of_the_budget(monkeypatch):
    cpu = FlowVocoder(FLOWS["nanoflow"], TACOTRON2, device="cpu")
    monkeypatch.setattr(cpu, "_render", lambda *_: torch.empty(2**50))
    with pytest.raises(VocoderError, match=r"cpu: not enough memory for 1 × 3 .*\(--memory\)"):
        cpu.synthesize(some_mel(3))
    monkeypatch.setattr(cpu, "_render", lambda *_: torch.empty(2) @ torch.empty(3))
    with pytest.raises(RuntimeError, match="size"):  # any other failure is ours to mend
        cpu.synthesize(some_mel(3))


def test_unknown_devices_and_dtypes():
    with pytest.raises(VocoderError, match="'cudda': not usable here"):
        GriffinLimVocoder(device="cudda")
    with pytest.raises(VocoderError, match="did you mean 'bfloat16'"):
        GriffinLimVocoder(dtype="bfloat1")
    with pytest.raises(VocoderError, match=r"float64: Apple GPUs have none; use float32"):
        check_dtype(torch.device("mps"), torch.float64)


def test_a_model_that_does_not_fit_its_preset():
    with pytest.raises(VocoderError, match="gives n_mels 80, but the preset vocos-24k has 100"):
        FlowVocoder(FLOWS["waveflow"], get_preset("vocos-24k"))


# ---- as an object ----


@pytest.mark.parametrize("name", ["nanoflow", "griffin-lim"])
def test_a_voice_can_be_pickled_called_moved_and_looked_at(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = GriffinLimVocoder(n_iter=2, device="cpu") if name == "griffin-lim" else VOICES[name]
    monkeypatch.setattr(own, "default_refine", 2)  # as `load` sets it
    mel = some_mel(5)
    expected = own.synthesize(mel, seed=1)
    for twin in (pickle.loads(pickle.dumps(own)), own.to("cpu")):
        assert torch.equal(twin(mel, seed=1), expected)
        assert repr(twin) == repr(own)
    assert torch.equal(own.synthesize(mel, seed=1), expected)
    for word in (own.name, "tacotron2-22k", "22050 Hz", "float32", "cpu"):
        assert word in repr(own)


def test_arrays_give_arrays_and_tensors_tensors() -> None:
    voice = VOICES["nanoflow"]
    audio = 0.1 * torch.randn(1024, generator=torch.Generator().manual_seed(0))
    for function in (voice.mel, MelSpectrogram(voice.preset), lambda x: voice.vocode(x, seed=0)):
        from_array = function(audio.numpy())
        assert isinstance(from_array, np.ndarray)
        np.testing.assert_array_equal(from_array, function(audio).numpy())


def test_numbers_of_numpy_are_numbers() -> None:
    voice, mel = VOICES["nanoflow"], some_mel(3)
    settings = {"pitch": np.float32(1), "refine": np.int64(1), "temperature": np.float64(0.5)}
    expected = voice.synthesize(mel, seed=1, pitch=1.0, refine=1, temperature=0.5)
    assert torch.equal(voice.synthesize(mel, seed=1, **settings), expected)


def test_audio_that_is_a_list_is_refused() -> None:
    for function in (VOICES["nanoflow"].mel, VOICES["nanoflow"].vocode):
        with pytest.raises(VocoderError, match="audio is a list; give a tensor or an array"):
            function([0.0] * 5000)


def test_integer_audio_is_refused() -> None:
    """It would be heard 32768 times too loud."""
    with pytest.raises(VocoderError, match="divide 16-bit samples by 32768"):
        VOICES["nanoflow"].vocode(np.ones(1024, np.int16))
