"""Renderers: which one runs and why, and that a budget of memory changes nothing but memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import assert_one_error_line
from helpers import tiny_models
from hypothesis import given
from hypothesis import strategies as st
from voices import TACOTRON2, save_tiny_voice, some_mel, voice_models

from vocoder import kernels
from vocoder.errors import VocoderError
from vocoder.files.audio import read_wav
from vocoder.kernels.dispatch import ENVIRONMENT_VARIABLE, BackendError
from vocoder.kernels.invert_flow.cpu import CpuInverter
from vocoder.kernels.invert_flow.cpu_plan import plan_inversion
from vocoder.kernels.invert_flow.cpu_tiles import Tiles
from vocoder.models.families.flow import FlowModel
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.renderer import make_fastest_renderer, make_renderer

MODELS = voice_models()
CAUSAL = next(name for name, model in MODELS.items() if model.causal)
SIZES = CpuInverter(MODELS["nanoflow"].fold().pack_flows()).sizes


# ---- which one ----


def test_the_cpu_takes_its_row_op_and_splines_the_plain_way() -> None:
    assert FlowVocoder(MODELS["nanoflow"], TACOTRON2, device="cpu").renderer.backend == "cpu"
    spline = tiny_models()["nanoflow-spline"].float().fold()
    assert make_renderer(spline, None).backend == "reference"
    with pytest.raises(BackendError, match="affine flows alone, this one is a spline"):
        make_renderer(spline, None, "cpu")
    with pytest.raises(
        VocoderError, match="memory: the plain path of this voice keeps to no budget"
    ):
        make_renderer(spline, None, memory=2**30)


def test_bfloat16_on_a_cpu_is_fast_where_it_is_asked_for() -> None:
    voice = FlowVocoder(MODELS["nanoflow"], TACOTRON2, device="cpu", dtype="bfloat16")
    assert (voice.renderer.backend, voice.dtype) == ("cpu", torch.bfloat16)
    assert next(voice.model.parameters()).dtype == torch.float32  # likelihoods stay exact
    assert FlowVocoder(MODELS["nanoflow"], TACOTRON2, device="cpu").dtype == torch.float32


@pytest.mark.parametrize("gains", [True, False])
@pytest.mark.parametrize("kind", MODELS)
def test_the_fastest_type_is_bfloat16_where_a_fast_renderer_gains_from_it(
    kind: str, gains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlowModel, "gains_from_bf16", lambda *_: gains)
    narrow, own, auto = (
        FlowVocoder(MODELS[kind], TACOTRON2, device="cpu", dtype=dtype)
        for dtype in ("bfloat16", None, "auto")
    )
    expected = narrow if gains and narrow.renderer.backend != "reference" else own
    for voice in (auto, auto.to("cpu"), copy.deepcopy(auto)):
        assert (voice.dtype, voice.renderer.backend) == (expected.dtype, expected.renderer.backend)


def test_the_fastest_type_keeps_to_a_budget_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FlowModel, "gains_from_bf16", lambda *_: True)
    for model, dtype in (("nanoflow", torch.bfloat16), (CAUSAL, torch.float32)):
        voice = FlowVocoder(MODELS[model], TACOTRON2, device="cpu", dtype="auto", memory=2**30)
        assert (voice.dtype, voice.renderer.backend) == (dtype, "cpu")
    spline = tiny_models()["nanoflow-spline"].float().fold()
    with pytest.raises(VocoderError, match="keeps to no budget"):
        make_fastest_renderer(spline, memory=2**30)


@pytest.mark.parametrize(("model", "dtype"), [("nanoflow", "float16"), (CAUSAL, "bfloat16")])
def test_other_sixteen_bits_on_a_cpu_go_the_plain_way(model: str, dtype: str) -> None:
    voice = FlowVocoder(MODELS[model], TACOTRON2, device="cpu", dtype=dtype)
    assert voice.renderer.backend == "reference"
    with pytest.raises(BackendError, match=dtype):
        FlowVocoder(MODELS[model], TACOTRON2, device="cpu", dtype=dtype, backend="cpu")


def test_a_backend_is_asked_for_by_argument_block_or_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def backend(name: str | None = None) -> str:
        return FlowVocoder(
            MODELS["nanoflow"], TACOTRON2, device="cpu", backend=name
        ).renderer.backend

    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "reference")
    assert backend() == "reference"
    assert backend("cpu") == "cpu"
    with kernels.use("cpu"):
        assert backend() == "cpu"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cpuu")
    with pytest.raises(VocoderError, match="did you mean 'cpu'"):
        backend()


def test_triton_is_refused_without_a_gpu() -> None:
    with pytest.raises(BackendError, match="'triton' cannot run: the tensors are on the cpu"):
        FlowVocoder(MODELS["nanoflow"], TACOTRON2, device="cpu", backend="triton")


# ---- equal to the plain inverse ----


@pytest.mark.parametrize("kind", MODELS)
def test_the_fast_way_equals_the_plain_one(kind: str) -> None:
    mel = torch.stack([some_mel(7), some_mel(7)])
    slow, fast = (
        FlowVocoder(MODELS[kind], TACOTRON2, device="cpu", backend=backend)
        for backend in ("reference", "cpu")
    )
    for lengths in (None, [7, 2]):
        audio = fast.synthesize(mel, lengths, seed=1)
        torch.testing.assert_close(audio, slow.synthesize(mel, lengths, seed=1), rtol=0, atol=1e-5)


def test_float64() -> None:
    mel = some_mel(4).double()
    model = copy.deepcopy(MODELS["waveflow"]).double()
    slow, fast = (
        FlowVocoder(model, TACOTRON2, device="cpu", dtype="float64", backend=b)
        for b in ("reference", "cpu")
    )
    z = torch.randn(1, 4 * 256, dtype=torch.float64)
    expected = slow.renderer.render(z.clone(), mel[None], None)
    audio = fast.renderer.render(z.clone(), mel[None], None)
    torch.testing.assert_close(audio, expected, rtol=0, atol=1e-10)


# ---- memory ----


@given(st.integers(1, 8), st.integers(1, 10**7), st.integers(0, 2**34))
def test_a_plan_keeps_to_its_budget(n_items: int, width: int, memory: int) -> None:
    try:
        plan = plan_inversion(SIZES, n_items, width, memory)
    except VocoderError:
        lag, n_steps = SIZES.lag, SIZES.n_steps
        for tiles in (Tiles.whole(width, n_steps), Tiles(width, lag, lag, n_steps)):
            assert SIZES.bytes_needed(1, width, tiles, False) > memory
        return
    assert 1 <= plan.n_items <= n_items
    assert SIZES.bytes_needed(plan.n_items, width, plan.tiles, plan.project_once) <= memory


def test_more_memory_never_makes_a_slower_plan() -> None:
    width, tiles = 20_000, []
    for memory in range(24 * 2**20, 2**30, 8 * 2**20):
        plan = plan_inversion(SIZES, 2, width, memory)
        tiles.append((plan.tiles.n_tiles, not plan.project_once, -plan.n_items))
    assert tiles == sorted(tiles, reverse=True)
    assert tiles[0][0] > 1
    assert tiles[-1] == (1, False, -2)


def test_any_budget_gives_the_same_audio() -> None:
    mel = torch.stack([some_mel(40), some_mel(40)])
    width = 40 * 256 // MODELS["nanoflow"].config.n_height
    lag, n_steps = SIZES.lag, SIZES.n_steps
    most = SIZES.bytes_needed(2, width, Tiles.whole(width, n_steps), True)
    least = SIZES.bytes_needed(1, width, Tiles(width, lag, lag, n_steps), False)
    expected = FlowVocoder(MODELS["nanoflow"], TACOTRON2, device="cpu").synthesize(
        mel, [40, 31], seed=2
    )
    n_tiles = set()
    for share in (0.9, 0.1, 0.01):
        memory = int(least + share * (most - least))
        n_tiles.add(plan_inversion(SIZES, 2, width, memory).tiles.n_tiles)
        voice = FlowVocoder(MODELS["nanoflow"], TACOTRON2, device="cpu", memory=memory)
        audio = voice.synthesize(mel, [40, 31], seed=2)
        torch.testing.assert_close(audio, expected, rtol=0, atol=1e-5)
    assert max(n_tiles) > 1


def test_a_budget_too_small_is_refused_with_what_is_needed() -> None:
    voice = FlowVocoder(MODELS["nanoflow"], TACOTRON2, device="cpu", memory=2**18)
    with pytest.raises(VocoderError, match=r"memory 0 MB: this voice takes \d+ MB .*--memory"):
        voice.synthesize(some_mel(3000))


# ---- on the command line ----


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory", "12"), ("'12' is not a size", "512MB")),
        (("--memory", "1MB"), ("memory 1 MB", "--memory")),
        (
            ("--backend", "triton", "--device", "cpu"),
            ("'triton' cannot run", "not on an NVIDIA"),
        ),
        (("--backend", "tritn"), ("'tritn'", "did you mean 'triton'")),
        (("--dtype", "bf16"), ("dtype 'bf16'", "bfloat16")),
    ],
)
def test_what_cannot_be_is_one_line(
    options: tuple[str, ...],
    words: tuple[str, ...],
    tmp_path: Path,
    run: Callable[..., Any],
) -> None:
    voice = save_tiny_voice(tmp_path / "voice.safetensors")
    np.save(tmp_path / "mel.npy", some_mel(2000).numpy())
    command = ("synthesize", tmp_path / "mel.npy", "-o", tmp_path / "out.wav", "--voice", voice)
    assert_one_error_line(run(*command, *options), *words)
    assert not (tmp_path / "out.wav").exists()


def test_options_reach_the_engine(tmp_path: Path, run: Callable[..., Any]) -> None:
    voice = save_tiny_voice(tmp_path / "voice.safetensors")
    np.save(tmp_path / "mel.npy", some_mel(30).numpy())
    audio = []
    for name, options in (("a", ("--backend", "reference")), ("b", ("--memory", "24MB"))):
        out = tmp_path / f"{name}.wav"
        command = ("synthesize", tmp_path / "mel.npy", "-o", out, "--voice", voice, "--seed", "1")
        assert run(*command, *options).code == 0
        audio.append(read_wav(out)[0])
    np.testing.assert_allclose(*audio, rtol=0, atol=2 / 32768)


def test_the_kernel_check_needs_a_gpu(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("benchmark", "--kernels", tmp_path / "check")
    assert_one_error_line(result, "needs an NVIDIA GPU")
    assert not (tmp_path / "check").exists()
