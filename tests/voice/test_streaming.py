"""Streams against the whole utterance: any pieces, any voice, and what goes wrong on the way."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import coupling_models
from hypothesis import given, settings
from hypothesis import strategies as st
from voices import TACOTRON2, TRAINED, some_mel, voice_models

import vocoder
from vocoder.errors import VocoderError
from vocoder.kernels.invert_flow.causal import COLUMNS, CausalInverter
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.noise import Noise, draw_noise
from vocoder.voice.streaming import BlockStream, plan_stream

VOICES = {kind: FlowVocoder(model, TACOTRON2) for kind, model in voice_models().items()}
SYMMETRIC, CAUSAL = VOICES["nanoflow"], VOICES["nanoflow-causal"]
both = pytest.mark.parametrize("voice", [SYMMETRIC, CAUSAL], ids=["symmetric", "causal"])
SMALL = {"block_frames": 5, "overlap_frames": 3}  # so that a short utterance has many blocks


def small(voice):
    return SMALL if voice is SYMMETRIC else {"block_frames": 5}


def spoken(voice, chunks, **options):
    """Return the whole audio of a stream."""
    return torch.cat([torch.as_tensor(part) for part in voice.stream(chunks, **options)])


def cut(mel, size):
    return mel.split(size, dim=1)


# ---- pieces and wholes ----


def test_blocks_begin_where_columns_do() -> None:
    """Ten samples of a column do not divide the 24 of a frame: every fifth begins with one."""
    preset = dataclasses.replace(
        TACOTRON2, hop_length=24, n_mels=4, name="short", win_length=96, n_fft=128
    )
    voice = FlowVocoder(coupling_models()["waveglow-loose"].float(), preset, device="cpu")
    plan = plan_stream(voice.model, 7)
    assert plan.exact
    assert (plan.block_frames, plan.before_frames % 5) == (10, 0)
    mel = some_mel(63)[:4]
    whole = voice.synthesize(mel, seed=1)
    for options in ({"block_frames": 7}, {"block_frames": 7, "overlap_frames": plan.before_frames}):
        audio = spoken(voice, cut(mel, 9), seed=1, **options)
        assert (audio - whole).abs().max() <= 1e-4 * whole.abs().max()


@both
def test_pieces_of_1_7_64_frames_and_the_whole_are_the_same_bits(voice):
    mel = some_mel(90)
    whole = spoken(voice, [mel], seed=1)
    assert whole.shape == (90 * 256,)
    for size in (1, 7, 64):
        assert torch.equal(spoken(voice, cut(mel, size), seed=1), whole)


@both
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=10, deadline=None)
def test_the_pieces_do_not_matter(voice, sizes, seed):
    mel = some_mel(sum(sizes) + 1)
    pieces = mel.split([*sizes, 1], dim=1)
    options = {"seed": seed, "temperature": 0.8, **small(voice)}
    audio = spoken(voice, pieces, **options)
    assert audio.shape == (mel.shape[1] * 256,)
    assert torch.equal(audio, spoken(voice, [mel], **options))


@pytest.mark.parametrize("block_frames", [1, 4, 64])
def test_a_causal_voice_streams_what_it_would_say_as_a_whole(block_frames):
    mel = some_mel(41)
    whole = CAUSAL.synthesize(mel, seed=3)
    audio = spoken(CAUSAL, cut(mel, 3), seed=3, block_frames=block_frames)
    assert (audio - whole).abs().max() < 1e-5


@pytest.mark.parametrize("lookahead", [0, 1, 5])
def test_a_causal_voice_of_any_lookahead_does(lookahead):
    torch.manual_seed(0)
    config = NanoFlowConfig(
        channels=4, n_layers=5, n_flows=3, flow_embedding=4, lookahead_frames=lookahead
    )
    model = NanoFlow(config)
    torch.nn.init.normal_(model.heads[1].conv.weight, std=0.3)
    voice = FlowVocoder(model, TACOTRON2, dtype="float64")
    mel = some_mel(11)
    whole = voice.synthesize(mel, seed=3)
    assert (spoken(voice, cut(mel, 1), seed=3, block_frames=2) - whole).abs().max() < 1e-6


@pytest.mark.parametrize("kind", VOICES)
def test_an_utterance_of_one_block_is_exact(kind):
    mel = some_mel(5)
    voice = VOICES[kind]
    audio = spoken(voice, cut(mel, 2), seed=0, **({} if kind == "nanoflow-causal" else SMALL))
    tolerance = 1e-5 if kind == "nanoflow-causal" else 0
    assert (audio - voice.synthesize(mel, seed=0)).abs().max() <= tolerance


def test_a_second_block_hears_no_more_than_the_overlap():
    config = NanoFlowConfig(channels=4, n_layers=7, n_flows=2, flow_embedding=4)  # sees 7.9 frames
    torch.manual_seed(0)
    model = NanoFlow(config)
    torch.nn.init.normal_(model.heads[1].conv.weight, std=0.3)
    voice = FlowVocoder(model, TACOTRON2)
    apart = [
        (spoken(voice, [mel], seed=0, **SMALL) - voice.synthesize(mel, seed=0)).abs().max()
        for mel in (some_mel(5), some_mel(8))
    ]
    assert apart[0] == 0
    assert apart[1] > 1e-3


@both
def test_a_caller_may_fill_the_same_array_again(voice):
    mel = some_mel(20).numpy()
    buffer = np.empty((80, 4), np.float32)

    def pieces():
        for start in range(0, 20, 4):
            buffer[:] = mel[:, start : start + 4]
            yield buffer

    audio = spoken(voice, pieces(), seed=0, **small(voice))
    assert torch.equal(audio, spoken(voice, [mel], seed=0, **small(voice)))


@both
def test_the_first_block_of_a_large_piece_comes_at_once(voice, monkeypatch):
    stream = voice.stream([some_mel(60)], seed=0, **small(voice))
    spoken_blocks = []
    speak = BlockStream._next
    monkeypatch.setattr(BlockStream, "_next", lambda *args: spoken_blocks.append(1) or speak(*args))
    assert len(next(stream)) == 5 * 256
    assert len(spoken_blocks) == 1


def test_a_causal_block_of_any_size_takes_the_same_memory(monkeypatch):
    mel, sizes, start = some_mel(30), [], CausalInverter.start
    whole = CAUSAL.synthesize(mel, seed=3)
    monkeypatch.setattr(
        CausalInverter, "start", lambda self, size: sizes.append(size) or start(self, size)
    )
    audio = spoken(CAUSAL, [mel], seed=3, block_frames=2**36)
    assert sizes == [COLUMNS]
    assert (audio - whole).abs().max() < 1e-5


def test_a_wider_overlap_comes_closer():
    mel = some_mel(60)
    whole = SYMMETRIC.synthesize(mel, seed=0)
    errors = [
        (spoken(SYMMETRIC, [mel], seed=0, block_frames=8, overlap_frames=n) - whole).abs().max()
        for n in (0, 1, 4)
    ]
    assert errors[0] > 10 * errors[1]
    assert errors[2] < 1e-5  # what four layers of dilations 1 and 2 reach is but a frame or two


def test_the_default_overlap_follows_what_the_estimator_sees():
    assert plan_stream(NanoFlow(NanoFlowConfig(channels=2))).before_frames == 33
    small = NanoFlowConfig(channels=2, n_layers=6, n_height=32)
    assert plan_stream(NanoFlow(small)).before_frames == 17
    causal = plan_stream(NanoFlow(NanoFlowConfig(channels=2, lookahead_frames=3)))
    assert (causal.block_frames, causal.latency_frames) == (4, 7)
    spline = NanoFlowConfig(channels=2, lookahead_frames=3, transform="spline")
    assert plan_stream(NanoFlow(spline)).before_frames == 33  # the row op knows affine flows alone


def test_a_piece_is_spoken_as_soon_as_its_frames_are_there():
    for voice, lookahead in ((SYMMETRIC, 3), (CAUSAL, 2)):
        plan = plan_stream(voice.model, **small(voice))
        assert plan.latency_frames == 5 + lookahead
        came = 0

        def frames():
            nonlocal came
            for piece in cut(some_mel(30), 1):
                came += 1
                yield piece

        stream = voice.stream(frames(), seed=0, **small(voice))
        for block in range(1, 5):
            assert next(stream).shape == (5 * 256,)
            assert came == 5 * block + lookahead


def test_arrays_give_arrays_and_float64_is_taken():
    mel = some_mel(9).numpy().astype(np.float64)
    parts = list(SYMMETRIC.stream([mel[:, :4], mel[:, 4:]], seed=0))
    assert all(isinstance(part, np.ndarray) and part.dtype == np.float32 for part in parts)
    assert sum(map(len, parts)) == 9 * 256


def test_no_seed_draws_fresh_noise_and_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, other = (spoken(SYMMETRIC, [some_mel(2)]) for _ in range(2))
    assert not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)


@given(st.lists(st.integers(0, 9000), min_size=2, max_size=6), st.integers(0, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_noise_of_a_stream_is_that_of_the_whole(cuts, seed):
    *starts, end = sorted(cuts)
    whole, noise = draw_noise(end, seed), Noise(seed)
    for lo in starts:
        assert torch.equal(noise.take(lo, end), whole[lo:])


@pytest.mark.slow
def test_no_seam_is_heard_in_a_loud_vowel():
    """A trained voice at its default overlap, by the script that draws the curve."""
    path = Path(__file__).parents[2] / "egs" / "streaming_error.py"
    spec = importlib.util.spec_from_file_location("streaming_error", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    voice = vocoder.load(TRAINED)
    vowel = script.vowel(voice.sample_rate, seconds=1.2)
    assert vowel.abs().amax() > 0.9  # loud
    mel = voice.mel(vowel)
    whole = voice.synthesize(mel, seed=0)
    assert script.seam_error(whole, spoken(voice, [mel], seed=0), voice.hop_length) < -60
    abrupt = spoken(voice, [mel], seed=0, overlap_frames=1)
    assert script.seam_error(whole, abrupt, voice.hop_length) > -30  # the measure can fail


def test_memory_does_not_grow_with_the_stream():
    for voice in (SYMMETRIC, CAUSAL):
        blocks = voice._start_stream(1.0, 0, 5, 3 if voice is SYMMETRIC else None)
        with torch.inference_mode():
            for _ in range(8):
                list(blocks.push(some_mel(5)))
                assert blocks._mel.shape[1] <= 5 + 2 * 3
                assert len(blocks.noise._samples) <= (5 + 2 * 3) * 256 + 4096


# ---- what goes wrong ----


def failing(voice, chunks, **options):
    """Return the audio that comes before the error, and the error's line."""
    parts = []
    with pytest.raises(VocoderError) as caught:
        parts.extend(voice.stream(chunks, seed=0, **options))
    assert "\n" not in str(caught.value)
    return torch.cat([torch.as_tensor(part) for part in parts] or [torch.empty(0)]), str(
        caught.value
    )


def bad_frame(mel, frame, value):
    mel = mel.clone()
    mel[7, frame] = value
    return mel


@both
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("frame", [0, 13, 19])
def test_what_comes_before_a_nan_is_spoken(voice, value, frame):
    mel = some_mel(20)
    heard = []
    stream = voice.stream(cut(bad_frame(mel, frame, value), 4), seed=0, **small(voice))
    with pytest.raises(VocoderError, match=f"frame {frame}: NaN or infinite; mend the model"):
        heard.extend(stream)
    audio = torch.cat(heard or [torch.empty(0)])
    assert audio.shape == (frame * 256,)
    if frame:
        assert torch.equal(audio, spoken(voice, [mel[:, :frame]], seed=0, **small(voice)))


@both
@pytest.mark.parametrize(
    ("piece", "words"),
    [
        (torch.zeros(100, 5), "frame 4: mel has 100 bands, this voice was trained with 80"),
        (torch.zeros(80), r"frame 4: mel has shape \(80,\)"),
        (torch.zeros(1, 80, 5), r"frame 4: mel has shape \(1, 80, 5\); give \(80, f\)"),
        (torch.zeros(80, 5, dtype=torch.int64), "frame 4: .*int64"),
        (np.zeros((79, 5), np.float32), "frame 4: mel has 79 bands"),
        ([[0.0] * 5] * 80, "frame 4: mel is a list; give a tensor or an array of floats"),
        (np.zeros((80, 5), object), "frame 4: mel is object"),
    ],
)
def test_a_piece_that_does_not_fit_is_named(voice, piece, words):
    heard = []
    with pytest.raises(VocoderError, match=words):
        heard.extend(voice.stream([some_mel(4), piece, some_mel(4)], seed=0))
    assert sum(map(len, heard)) == 4 * 256


@both
@pytest.mark.parametrize("chunks", [[], [torch.empty(80, 0)]])
def test_an_empty_stream(voice, chunks):
    with pytest.raises(VocoderError, match="ended without a frame; there is nothing to say"):
        list(voice.stream(chunks))


@both
def test_an_error_of_the_source_comes_after_what_it_gave(voice):
    def source():
        yield some_mel(4)
        raise VocoderError("standard input: truncated")

    heard = []
    with pytest.raises(VocoderError, match="truncated"):
        heard.extend(voice.stream(source()))
    assert sum(map(len, heard)) == 4 * 256


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1}, "temperature -1"),
        ({"seed": -1}, "seed -1"),
        ({"block_frames": 0}, "block_frames 0: must be at least 1"),
        ({"overlap_frames": -1}, "overlap_frames -1: must be 0 or more"),
    ],
)
def test_arguments_are_refused_before_the_first_piece(options, words):
    with pytest.raises(VocoderError, match=words):
        SYMMETRIC.stream([some_mel(3)], **options)


@both
def test_a_full_machine_is_told_of_smaller_blocks(voice, monkeypatch):
    monkeypatch.setattr(BlockStream, "_next", lambda *_: torch.empty(2**50))
    audio, line = failing(voice, [some_mel(20)], **small(voice))
    assert len(audio) == 0
    assert line == (
        "cpu: not enough memory for blocks of 5 frames; use smaller ones (block_frames)"
    )


def test_a_causal_voice_has_no_overlap():
    with pytest.raises(VocoderError, match="overlap_frames 3: this voice is causal"):
        CAUSAL.stream([some_mel(3)], overlap_frames=3)


def test_griffin_lim_says_why_it_cannot():
    with pytest.raises(VocoderError, match=r"griffin-lim: finds the phases of whole utterances"):
        GriffinLimVocoder().stream([some_mel(3)])
