"""Laws of mel consistency: sound held to the mel that it was made from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import assert_one_error_line
from torch import Tensor
from voices import TACOTRON2, save_tiny_voice, some_mel, voice_models

from vocoder.errors import VocoderError
from vocoder.files.audio import read_wav
from vocoder.mel.envelope import heard_bins
from vocoder.mel.presets import PRESETS, MelPreset, get_preset
from vocoder.mel.spectrogram import MelSpectrogram
from vocoder.mel.stft import pad, stft
from vocoder.voice import mel_consistency
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.load import load
from vocoder.voice.mel_consistency import hold_to_mel, reach_frames
from vocoder.voice.vocoder import Vocoder

CLIP = Path(__file__).parents[2] / "egs" / "quickstart" / "corpus" / "wavs" / "ES000001.flac"
each_preset = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))


@pytest.fixture(scope="module")
def voice() -> FlowVocoder:
    return FlowVocoder(voice_models()["nanoflow"], TACOTRON2, device="cpu")


def speech(preset: MelPreset = TACOTRON2) -> Tensor:
    """A second and a half of speech, whole frames (N,). A wrong rate changes the voice alone."""
    audio = torch.from_numpy(read_wav(CLIP, sample_rate=22050)[0])
    return audio[: 33000 // preset.hop_length * preset.hop_length]


def mel_of(audio: Tensor, preset: MelPreset) -> Tensor:
    """The mel (M, F) of audio (N,), without the frame that lies on its very end."""
    mel = MelSpectrogram(preset)(audio)
    assert isinstance(mel, Tensor)
    return mel[:, : audio.shape[-1] // preset.hop_length]


def whitened(audio: Tensor) -> Tensor:
    """Sound with the phases of speech and a spectrum that is flat: its mel is far off."""
    spectrum = torch.fft.rfft(audio)
    return torch.fft.irfft(spectrum / spectrum.abs().clamp_min(1e-3), n=len(audio))


def hold(audio: Tensor, mel: Tensor, preset: MelPreset, steps: int) -> Tensor:
    """Do what `hold_to_mel` does to one sound (N,)."""
    return hold_to_mel(audio[None], mel[None], preset, steps)[0]


# ---- what a step does ----


@each_preset
def test_each_step_brings_the_mel_nearer_to_that_of_speech(preset: MelPreset) -> None:
    recording = speech(preset)
    mel = mel_of(recording, preset)
    start = GriffinLimVocoder(preset, n_iter=2, device="cpu").synthesize(mel, seed=0, refine=0)
    distances = [
        (mel_of(hold(start, mel, preset, steps), preset) - mel).abs().mean().item()
        for steps in range(6)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.8 * distances[0]


@pytest.mark.parametrize("name", ["tacotron2-22k", "speecht5-16k", "vocos-24k"])
def test_momentum_saves_a_third_of_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = get_preset(name)
    recording = speech(preset)
    mel = mel_of(recording, preset)
    start = GriffinLimVocoder(preset, n_iter=2, device="cpu").synthesize(mel, seed=0, refine=0)

    def distance(steps: int) -> float:
        return (mel_of(hold(start, mel, preset, steps), preset) - mel).abs().mean().item()

    fast = distance(8)
    monkeypatch.setattr(mel_consistency, "_MOMENTUM", 0.0)
    assert fast < distance(12)


@each_preset
def test_sound_of_the_mel_stays_as_it_is(preset: MelPreset) -> None:
    recording = speech(preset)
    held = hold(recording, mel_of(recording, preset), preset, 3)
    # The gain is 1 but for rounding of the mel.
    torch.testing.assert_close(held, recording, rtol=0, atol=1e-5)


@each_preset
def test_a_level_is_put_right_whether_mels_are_of_amplitude_or_of_power(preset: MelPreset) -> None:
    """In one step, where the error is the same everywhere: the gain is of amplitudes."""
    recording = speech(preset)
    mel = mel_of(recording, preset)
    held = hold(0.5 * recording, mel, preset, 1)
    heard = heard_bins(preset)
    ours, theirs = (stft(pad(x[None], preset), preset).abs()[..., heard] for x in (held, recording))
    loud = theirs > 1e-2 * theirs.max()
    assert (ours / theirs)[loud].median().item() == pytest.approx(1, abs=0.01)


@each_preset
def test_what_no_band_sees_stays(preset: MelPreset) -> None:
    """A tone above f_max is neither louder nor softer after many steps to another loudness."""
    deaf = torch.nonzero(~heard_bins(preset)).flatten()
    deaf = deaf[deaf > preset.n_fft // 4]
    if len(deaf) < 40:  # f_max is half of the rate
        return
    place = int(deaf[len(deaf) // 2])
    time = torch.arange(24 * preset.hop_length, dtype=torch.float64)
    tone = 0.1 * torch.sin(2 * math.pi * place / preset.n_fft * time)
    loud = torch.full((preset.n_mels, 24), preset.compress(1.0), dtype=torch.float64)
    held = hold(tone, loud, preset, 4)
    middle = slice(8 * preset.hop_length, 16 * preset.hop_length)
    level = (2 * held * torch.sin(2 * math.pi * place / preset.n_fft * time))[middle].mean()
    assert level.item() == pytest.approx(0.1, rel=0.02)


def test_digital_silence_stays_silent() -> None:
    """It has no phases, so that no gain makes anything of it."""
    silence = torch.zeros(1, 8 * 256)
    assert not hold_to_mel(silence, some_mel(8)[None], TACOTRON2, 2).any()


@each_preset
@pytest.mark.parametrize("n_frames", [1, 2, 9])
@pytest.mark.parametrize("value", ["silence", "below", "loud", "beyond", "hugest"])
def test_any_mel_gives_finite_sound(preset: MelPreset, n_frames: int, value: str) -> None:
    number = {
        "silence": preset.silence_floor,
        "below": preset.silence_floor - 1000,
        "loud": preset.compress(1.0),
        "beyond": preset.compress(1.0) + 1000,
        "hugest": 3e38,
    }[value]
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(1, n_frames * preset.hop_length, generator=generator)
    mel = torch.full((1, preset.n_mels, n_frames), number)
    held = hold_to_mel(audio, mel, preset, 40)
    assert held.isfinite().all()
    assert held.abs().max() < preset.win_length  # never a burst without end


def test_many_steps_to_a_wrong_mel_come_to_rest() -> None:
    mel = some_mel(20)[None]
    audio = speech()[None, : 20 * 256]
    few, many = (hold_to_mel(audio, mel, TACOTRON2, steps) for steps in (40, 200))
    assert many.square().mean() < 4 * few.square().mean()


# ---- batches, blocks, types, devices ----


def test_a_batch_of_different_lengths_is_held_as_each_alone() -> None:
    lengths = [1, 40, 17]
    mels = torch.stack([some_mel(40, seed) for seed in range(3)])
    audio = torch.randn(3, 40 * 256, generator=torch.Generator().manual_seed(0))
    together = hold_to_mel(audio, mels, TACOTRON2, 3, torch.tensor(lengths))
    for row, item, mel, n in zip(together, audio, mels, lengths, strict=True):
        alone = hold(item[: n * 256], mel[:, :n], TACOTRON2, 3)
        # Products of other shapes round otherwise.
        torch.testing.assert_close(row[: n * 256], alone, rtol=0, atol=1e-5)
    same = hold_to_mel(audio, mels, TACOTRON2, 3)
    torch.testing.assert_close(same[1], together[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["tacotron2-22k", "hifigan-22k", "pwg-24k", "librosa-22k"])
def test_blocks_give_what_the_whole_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = PRESETS[name]
    audio = speech(preset).double()
    mel = mel_of(audio, preset) + 0.3
    whole = hold(audio, mel, preset, 2)
    monkeypatch.setattr("vocoder.voice.mel_consistency.block_frames", lambda _: 7)
    torch.testing.assert_close(hold(audio, mel, preset, 2), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    audio, mel = speech().to(dtype), mel_of(speech(), TACOTRON2)
    held = hold(audio, mel, TACOTRON2, 1)
    assert held.dtype == torch.float32
    torch.testing.assert_close(held, hold(audio.float(), mel, TACOTRON2, 1), rtol=0, atol=0)


def test_autocast_changes_nothing() -> None:
    audio, mel = whitened(speech()), mel_of(speech(), TACOTRON2)
    plain = hold(audio, mel, TACOTRON2, 1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(hold(audio, mel, TACOTRON2, 1), plain, rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    audio, mel = whitened(speech()), mel_of(speech(), TACOTRON2)
    there = hold(audio.cuda(), mel.cuda(), TACOTRON2, 2)
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), hold(audio, mel, TACOTRON2, 2), rtol=0, atol=1e-4)


# ---- how far a step reaches ----


@each_preset
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_sample_depends_on_no_more_than_the_reach(preset: MelPreset, steps: int) -> None:
    before, after = reach_frames(preset, steps)
    hop, n_frames = preset.hop_length, before + after + 6
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(n_frames * hop, generator=generator, dtype=torch.float64)
    mel = mel_of(audio, preset) + 0.5 * torch.randn(preset.n_mels, n_frames, generator=generator)
    whole = hold(audio, mel, preset, steps)
    near = slice(3, n_frames - 3)  # the frames that one in the middle may depend on
    part = hold(audio[near.start * hop : near.stop * hop], mel[:, near], preset, steps)
    own = slice(before * hop, len(part) - after * hop)
    torch.testing.assert_close(part[own], whole[3 * hop : -3 * hop][own], rtol=0, atol=1e-9)
    if steps == 1:  # and it does depend on that much; of more steps the far end hardly counts
        assert (part - whole[3 * hop : -3 * hop])[: before * hop][-hop:].abs().max() > 1e-9


def test_the_reach_is_the_window_less_a_hop_for_each_step() -> None:
    assert [reach_frames(TACOTRON2, steps) for steps in (0, 1, 4)] == [(0, 0), (3, 3), (12, 12)]
    half_a_hop_off = dataclasses.replace(TACOTRON2, padding="same")
    assert reach_frames(half_a_hop_off, 4) == (13, 13)


# ---- voices ----


def test_no_steps_give_the_same_bits_as_the_voice_alone(voice: FlowVocoder) -> None:
    mel = some_mel(30)
    alone = voice._render(mel[None], None, 1.0, [4])[0]
    assert torch.equal(voice.synthesize(mel, seed=4, refine=0), alone)


@pytest.mark.parametrize("kind", ["flow", "griffin-lim"])
def test_every_voice_is_held_to_its_mel(kind: str, voice: FlowVocoder) -> None:
    speaker: Vocoder = voice if kind == "flow" else GriffinLimVocoder(n_iter=2, device="cpu")
    mel = mel_of(speech(), TACOTRON2)
    plain, held = (speaker.synthesize(mel, seed=0, refine=steps) for steps in (0, 3))
    torch.testing.assert_close(held, hold(plain, mel, TACOTRON2, 3), rtol=0, atol=0)
    errors = [(mel_of(audio, TACOTRON2) - mel).abs().mean() for audio in (held, plain)]
    assert errors[0] < 0.8 * errors[1]


def test_a_ragged_batch_of_a_voice_says_what_its_items_say(voice: FlowVocoder) -> None:
    mels, lengths = torch.stack([some_mel(12, 1), some_mel(12, 2)]), [12, 5]
    together = voice.synthesize(mels, lengths, seed=0, refine=2)
    assert not together[1, 5 * 256 :].any()
    for row, mel, n in zip(together, mels, lengths, strict=True):
        alone = voice.synthesize(mel[:, :n], seed=0, refine=2)
        torch.testing.assert_close(row[: n * 256], alone, rtol=0, atol=1e-5)


def test_copy_synthesis_and_arrays_are_held_too(voice: FlowVocoder) -> None:
    audio = speech().numpy()
    copied = voice.vocode(audio, seed=0, refine=2)
    assert isinstance(copied, np.ndarray)
    np.testing.assert_array_equal(copied, voice.synthesize(voice.mel(audio), seed=0, refine=2))


def test_the_default_is_that_of_the_voice(voice: FlowVocoder) -> None:
    mel = some_mel(6)
    eager = FlowVocoder(voice_models()["nanoflow"], TACOTRON2, device="cpu")
    eager.default_refine, eager.default_stream_refine = 2, 1
    torch.testing.assert_close(
        eager.synthesize(mel, seed=0), voice.synthesize(mel, seed=0, refine=2), rtol=0, atol=0
    )
    assert eager.stream([mel]).latency_frames == voice.stream([mel], refine=1).latency_frames
    streamed, wanted = (
        torch.cat(list(stream))
        for stream in (eager.stream([mel], seed=0), voice.stream([mel], seed=0, refine=1))
    )
    torch.testing.assert_close(streamed, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_voices_of_other_types_are_held_in_float32(dtype: str) -> None:
    speaker = FlowVocoder(voice_models()["nanoflow"], TACOTRON2, device="cpu", dtype=dtype)
    mel = some_mel(6)
    held = speaker.synthesize(mel, seed=0, refine=1)
    assert held.dtype == torch.float32
    plain = speaker.synthesize(mel, seed=0, refine=0)
    torch.testing.assert_close(held, hold(plain, mel, TACOTRON2, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("refine", [-1, 1.5, True, "2"])
def test_steps_that_make_no_sense(voice: FlowVocoder, refine: object) -> None:
    for attempt in (
        lambda: voice.synthesize(some_mel(2), refine=refine),  # type: ignore[call-overload]
        lambda: voice.stream([some_mel(2)], refine=refine),  # type: ignore[arg-type]
    ):
        with pytest.raises(VocoderError, match=f"refine {refine}: give a whole number"):
            attempt()


# ---- streams ----


@pytest.mark.parametrize("name", ["tacotron2-22k", "hifigan-22k"])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("n_frames", [1, 5, 14, 60])
def test_a_stream_is_the_whole(name: str, steps: int, n_frames: int) -> None:
    model = voice_models()["nanoflow-causal"]
    speaker = FlowVocoder(model, PRESETS[name], device="cpu")
    mel = some_mel(n_frames)
    whole = speaker.synthesize(mel, seed=5, refine=steps)
    streamed = torch.cat(list(speaker.stream(mel.split(7, dim=1), seed=5, refine=steps)))
    assert streamed.shape == whole.shape
    torch.testing.assert_close(streamed, whole, rtol=0, atol=2e-4 * float(whole.abs().max()))


def test_the_pieces_of_a_stream_do_not_matter(voice: FlowVocoder) -> None:
    mel = some_mel(80)
    streams = [
        torch.cat(list(voice.stream(mel.split(size, dim=1), seed=1, refine=2)))
        for size in (1, 7, 80)
    ]
    assert torch.equal(streams[0], streams[1])
    assert torch.equal(streams[0], streams[2])


def test_no_steps_leave_a_stream_as_it_is(voice: FlowVocoder) -> None:
    mel = some_mel(70)
    plain = list(voice.stream([mel], seed=1, refine=0))
    assert [len(audio) // 256 for audio in plain] == [32, 32, 6]


def test_griffin_lim_streams_no_more_than_before() -> None:
    with pytest.raises(VocoderError, match="stream with a trained voice"):
        GriffinLimVocoder(device="cpu").stream([some_mel(4)], refine=2)


@pytest.mark.parametrize("kind", ["nanoflow", "nanoflow-causal"])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_stream_tells_after_how_many_frames_it_plays_without_a_gap(kind: str, steps: int) -> None:
    speaker = FlowVocoder(voice_models()[kind], TACOTRON2, device="cpu")
    mel = some_mel(150)
    n_given = 0

    def counted() -> Iterator[Tensor]:
        nonlocal n_given
        for frame in mel.split(1, dim=1):
            n_given += 1
            yield frame

    stream = speaker.stream(counted(), seed=0, refine=steps)
    latency = stream.latency_frames
    gaps, n_spoken = [], 0
    for audio in stream:
        # Playing began `latency` frames after the mel did, and has got here when this piece comes.
        gaps.append(n_given - latency - n_spoken)
        n_spoken += len(audio) / 256
    assert max(gaps) == 0


# ---- vocoder synthesize --refine ----


def test_the_command_holds_every_file_to_its_mel(tmp_path, run):  # type: ignore[no-untyped-def]
    name = save_tiny_voice(tmp_path / "tiny.safetensors")
    for n_frames in (9, 5):
        np.save(tmp_path / f"{n_frames}.npy", some_mel(n_frames).numpy())
    inputs = [tmp_path / "9.npy", tmp_path / "5.npy"]
    options = ["--voice", name, "--seed", 3, "--batch-size", 2, "--refine", 2]
    result = run("synthesize", *inputs, "-o", tmp_path / "out", *options)
    assert result.code == 0, result
    for n_frames in (9, 5):
        written, _ = read_wav(tmp_path / "out" / f"{n_frames}.wav")
        held = load(name).synthesize(some_mel(n_frames), seed=3, refine=2).clamp(-1, 32767 / 32768)
        np.testing.assert_allclose(written, held.numpy(), rtol=0, atol=2e-4)


@pytest.mark.parametrize("steps", ["-1", "1.5", "much"])
def test_the_command_refuses_senseless_steps(tmp_path, run, steps):  # type: ignore[no-untyped-def]
    np.save(tmp_path / "mel.npy", some_mel(2).numpy())
    out = tmp_path / "out.wav"
    assert_one_error_line(run("synthesize", tmp_path / "mel.npy", "-o", out, "--refine", steps))
    assert not out.exists()


# ---- export ----


def test_a_graph_does_not_hold_to_a_mel(voice: FlowVocoder, tmp_path: Path) -> None:
    from vocoder.export.voice_file import export_onnx

    with pytest.raises(VocoderError, match="ONNX has no inverse short-time transform"):
        export_onnx(voice, tmp_path / "voice.onnx", refine=2)
