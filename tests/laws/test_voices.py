"""Laws of the voice contract, over every registered voice.

A new model is judged by them without being named: it is built from its recipes in `recipes/tiny`,
and one without any fails the first law.
"""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import perturb
from torch import Tensor

from vocoder import checkpoint
from vocoder.errors import VocoderError
from vocoder.kernels.dispatch import NAMES, BackendError
from vocoder.models.families.voice import PitchedVoice, VoiceModel
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.recipe import VoiceRecipe, list_recipes, load_recipe
from vocoder.registry import MODELS, find_model
from vocoder.voice.denoiser import Denoiser
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.mel_consistency import hold_to_mel
from vocoder.voice.noise import draw_noise
from vocoder.voice.renderer import RENDERERS, make_renderer
from vocoder.voice.streaming import STREAMINGS, plan_stream

VOICES = [name for name in MODELS.names() if issubclass(find_model(name)[0], VoiceModel)]
RECIPES = [
    recipe
    for name in list_recipes()
    if name.startswith("tiny/") and isinstance(recipe := load_recipe(name), VoiceRecipe)
]
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.name for recipe in RECIPES])


def build(recipe: VoiceRecipe) -> VoiceModel:
    """Return the untrained model of a recipe, each of its parameters moved, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = find_model(recipe.model)[0](recipe.config)
    return perturb(model, size=0.05).eval()


def some_mel(recipe: VoiceRecipe, n_frames: int, batch: int = 1) -> Tensor:
    """Return mels (B, M, F) of quiet noise, as the preset of the recipe sees it."""
    generator = torch.Generator().manual_seed(1)
    low, high = recipe.preset.silence_floor, recipe.preset.compress(1.0)
    noise = torch.rand(batch, recipe.preset.n_mels, n_frames, generator=generator)
    return low + (high - low) * (0.3 + 0.4 * noise)


def audio_and_mel(recipe: VoiceRecipe, n_frames: int = 3, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Return quiet noise (B, N) and mels (B, M, F) of as many samples, in float64."""
    generator = torch.Generator().manual_seed(2)
    audio = torch.randn(batch, n_frames * recipe.preset.hop_length, generator=generator)
    return 0.1 * audio.double(), some_mel(recipe, n_frames, batch).double()


def audio_and_cond(
    model: VoiceModel, recipe: VoiceRecipe, n_frames: int = 3, batch: int = 2
) -> tuple[Tensor, Tensor]:
    """Return quiet noise (B, N) and what the model is given with it (B, C, F), in float64."""
    audio, mel = audio_and_mel(recipe, n_frames, batch)
    return audio, model.condition(mel)


def test_every_voice_has_a_tiny_recipe() -> None:
    assert {recipe.model for recipe in RECIPES} == set(VOICES)


@each_recipe
@torch.no_grad()
def test_inverse_undoes_forward(recipe: VoiceRecipe) -> None:
    model = build(recipe).double()
    x, cond = audio_and_cond(model, recipe)
    z, logdet = model(x, cond)
    assert (z.shape, logdet.shape) == (x.shape, (2,))
    assert (z - x).abs().max() > 0.01
    torch.testing.assert_close(model.inverse(z, cond), x, atol=1e-9, rtol=0)


@each_recipe
def test_logdet_is_that_of_the_jacobian(recipe: VoiceRecipe) -> None:
    model = build(recipe).double()
    x, cond = audio_and_cond(model, recipe, n_frames=1, batch=1)
    jacobian = torch.autograd.functional.jacobian(lambda audio: model(audio, cond)[0], x)
    _, expected = torch.linalg.slogdet(jacobian[0, :, 0])
    torch.testing.assert_close(model(x, cond)[1][0], expected, atol=1e-7, rtol=1e-9)


@each_recipe
@torch.no_grad()
def test_log_prob_is_the_sum_of_its_terms(recipe: VoiceRecipe) -> None:
    model = build(recipe).double()
    x, cond = audio_and_cond(model, recipe)
    terms = model.log_prob_per_sample(x, cond)
    assert terms.shape == x.shape
    torch.testing.assert_close(terms.sum(dim=1), model.log_prob(x, cond))
    logdets = model.flow_logdets(x, cond)
    torch.testing.assert_close(sum(logdets), (model(x, cond)[1] / x.shape[1]).mean().item())


@each_recipe
@torch.no_grad()
def test_a_crop_with_its_context_is_conditioned_as_in_the_whole(recipe: VoiceRecipe) -> None:
    """Of a short crop of which no sample lies near its ends, the mel beyond the context is idle."""
    model = build(recipe).double()
    before, after = model.config.mel_context
    x, cond = audio_and_cond(model, recipe, n_frames=before + 2 + after, batch=1)
    hop = model.hop_length
    audio = x[:, before * hop : (before + 2) * hop]
    z, _ = model(audio, cond, before * hop)
    wider = torch.nn.functional.pad(cond, (3, 3), value=recipe.preset.silence_floor)
    torch.testing.assert_close(model(audio, wider, (before + 3) * hop)[0], z, atol=1e-9, rtol=0)


@each_recipe
@torch.no_grad()
def test_padded_batch_gives_what_single_items_give(recipe: VoiceRecipe) -> None:
    model = build(recipe).double()
    z, mel = audio_and_mel(recipe, n_frames=4, batch=3)
    lengths = torch.tensor([2, 4, 3])
    batch = model.inverse(z, model.condition(mel, lengths), lengths)
    for item, n_frames in enumerate(lengths.tolist()):
        n = n_frames * model.hop_length
        own = model.condition(mel[item : item + 1, :, :n_frames])
        alone = model.inverse(z[item : item + 1, :n], own)
        torch.testing.assert_close(batch[item, :n], alone[0], atol=1e-9, rtol=0)


@each_recipe
@torch.no_grad()
def test_fold_computes_the_same(recipe: VoiceRecipe) -> None:
    model = build(recipe).double()
    x, cond = audio_and_cond(model, recipe)
    for ours, theirs in zip(model.fold()(x, cond), model(x, cond), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@each_recipe
def test_a_folded_model_is_folded_again_as_it_is_and_not_saved(
    recipe: VoiceRecipe, tmp_path: Path
) -> None:
    """What nobody could read must not be written; the model of a voice may become another's."""
    voice = FlowVocoder(build(recipe), recipe.preset, device="cpu")
    mel = some_mel(recipe, 4)
    again = FlowVocoder(voice.model, recipe.preset, device="cpu")
    assert torch.equal(again.synthesize(mel, seed=1), voice.synthesize(mel, seed=1))
    assert again.model is not voice.model
    with pytest.raises(VocoderError, match="the model is folded for inference"):
        checkpoint.save(tmp_path / "voice.safetensors", voice.model, recipe.preset)
    assert not list(tmp_path.iterdir())


@each_recipe
def test_a_thread_that_speaks_leaves_the_weights_of_another_alone(recipe: VoiceRecipe) -> None:
    """Torch can keep computed weights for the whole process, which another thread would read."""
    speaking, learning = build(recipe).double(), build(recipe).double()
    x, cond = audio_and_cond(learning, recipe)
    inside, done = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        inside.set()
        done.wait()

    for module in speaking.modules():
        module.register_forward_hook(wait)
    thread = threading.Thread(target=lambda: speaking.inverse(x, cond).sum().item())
    thread.start()
    try:
        assert inside.wait(30)
        for _ in range(2):
            learning.zero_grad()
            learning(x, cond)[1].sum().backward()
            learnt = [p.grad is not None and bool(p.grad.any()) for p in learning.parameters()]
            assert sum(learnt) > len(learnt) / 2  # those that the likelihood depends on
            before = learning(x, cond)[1].detach()
            perturb(learning, size=0.05)
            assert not torch.equal(learning(x, cond)[1], before)
    finally:
        done.set()
        thread.join()


@each_recipe
def test_every_parameter_has_a_gradient(recipe: VoiceRecipe) -> None:
    model = build(recipe).double()
    x, cond = audio_and_cond(model, recipe)
    torch.stack([*model.losses(x, cond).values()]).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@each_recipe
@torch.no_grad()
def test_no_sample_depends_on_more_than_the_reach(recipe: VoiceRecipe) -> None:
    model = build(recipe).double()
    if model.reach is None:
        return
    before, after = model.reach
    cycle = model.frames_per_cycle
    z, cond = audio_and_cond(model, recipe, n_frames=cycle + before + 1 + after + 1, batch=1)
    hop, frame = model.hop_length, before + cycle
    near = slice(frame - before, frame + 1 + after)
    part = model.inverse(z[:, near.start * hop : near.stop * hop], cond[..., near])
    whole = model.inverse(z, cond)[:, frame * hop : (frame + 1) * hop]
    mine = part[:, before * hop : (before + 1) * hop]
    torch.testing.assert_close(mine, whole, atol=1e-9, rtol=0)


# ---- what is rendered, streamed and exported is the model's own inverse ----


@each_recipe
@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_renderer_is_the_inverse(recipe: VoiceRecipe, backend: str, dtype: str) -> None:
    assert_rendered_as_inverted(build(recipe), recipe, backend, dtype)


def assert_rendered_as_inverted(
    model: VoiceModel, recipe: VoiceRecipe, backend: str, dtype: str
) -> None:
    """Assert that a backend gives `model.inverse`, or says that it cannot run."""
    try:
        voice = FlowVocoder(model, recipe.preset, device="cpu", backend=backend, dtype=dtype)
    except BackendError:
        assert backend in ("triton", "cpu")
        return
    mel = some_mel(recipe, 9)
    audio = voice.synthesize(mel, seed=3)
    z = draw_noise(mel.shape[-1] * model.hop_length, seed=3)[None]
    exact = model.fold().double()
    expected = exact.inverse(z.double(), exact.condition(mel.double())).float()
    # A wrong or missing step is off by the size of the audio.
    scale = expected.abs().max()
    assert (audio - expected).abs().max() <= (1e-3 if dtype == "float32" else 1e-6) * scale


@each_recipe
@pytest.mark.parametrize(("refine", "pitch"), [(0, 1.0), (2, 1.0), (2, 1.2)])
def test_a_stream_is_the_whole(recipe: VoiceRecipe, refine: int, pitch: float) -> None:
    voice = FlowVocoder(build(recipe), recipe.preset, device="cpu")
    if pitch != 1 and not isinstance(voice.model, PitchedVoice):
        with pytest.raises(VocoderError, match="knows no pitch but that of the mel"):
            voice.stream([], pitch=pitch)
        return
    mel = some_mel(recipe, 23)[0]
    try:
        plan = plan_stream(voice.model, block_frames=4)
    except VocoderError as error:
        assert "synthesize the whole utterance" in str(error)
        return
    settings: dict[str, Any] = {"seed": 5, "refine": refine, "pitch": pitch}
    pieces = list(voice.stream(mel.split([1, 7, 2, 13], dim=1), block_frames=4, **settings))
    streamed, whole = torch.cat(pieces), voice.synthesize(mel, **settings)
    assert streamed.shape == whole.shape
    tolerance = 1e-3 if plan.exact else 0.5  # an overlap that is chosen leaves some of the edges
    assert (streamed - whole).abs().max() <= tolerance * whole.abs().max()


def blocks_of(voice: FlowVocoder) -> dict[str, int]:
    """Return short blocks that the voice can stream in."""
    try:
        plan_stream(voice.model, 4, 4)
    except VocoderError:  # a causal voice has no overlap
        return {"block_frames": 4}
    return {"block_frames": 4, "overlap_frames": 4}


@each_recipe
@pytest.mark.parametrize("pitch", [1.0, 1.2])
def test_a_voice_sounds_the_same_whatever_surrounds_the_call(
    recipe: VoiceRecipe, pitch: float
) -> None:
    """Autocast, and the defaults that a program sets for its own tensors."""
    voice = FlowVocoder(build(recipe), recipe.preset, device="cpu")
    pitch = pitch if isinstance(voice.model, PitchedVoice) else 1.0
    mel = some_mel(recipe, 9)[0]
    settings: dict[str, Any] = {"seed": 3, "refine": 1, "pitch": pitch}

    def spoken() -> Tensor:
        whole = voice.synthesize(mel, **settings)
        pieces = voice.stream(mel.split([2, 7], dim=1), **blocks_of(voice), **settings)
        return torch.cat([whole, *pieces, voice.vocode(whole, **settings)])

    alone = spoken()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(spoken(), alone)
    with torch.device("meta"):
        assert torch.equal(spoken(), alone)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(spoken(), alone)
    finally:
        torch.set_default_dtype(torch.float32)


@each_recipe
def test_what_a_voice_returns_is_a_tensor_like_any_other(recipe: VoiceRecipe) -> None:
    """It may be changed in place and learnt from, as tensors of inference mode may not."""
    voice = FlowVocoder(build(recipe), recipe.preset, device="cpu")
    mel = some_mel(recipe, 9)[0]
    audio = voice.synthesize(mel, seed=3)
    pieces = voice.stream([mel], **blocks_of(voice), seed=3)
    for sound in (audio, voice.mel(audio), Denoiser(voice)(audio), *pieces):
        factor = torch.ones((), requires_grad=True)
        (sound.mul_(0.5) * factor).sum().backward()
        assert factor.grad is not None


@each_recipe
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_or_refused_in_a_line(recipe: VoiceRecipe, dtype: str) -> None:
    wide = FlowVocoder(build(recipe), recipe.preset, device="cpu")
    try:
        half = FlowVocoder(build(recipe), recipe.preset, device="cpu", dtype=dtype)
    except VocoderError:
        return
    mel = some_mel(recipe, 9)
    expected = wide.synthesize(mel, seed=3)
    audio = half.synthesize(mel, seed=3)
    assert (audio - expected).abs().max() <= 0.2 * expected.abs().max()


@each_recipe
def test_no_steps_of_mel_consistency_are_the_voice_alone(recipe: VoiceRecipe) -> None:
    voice = FlowVocoder(build(recipe), recipe.preset, device="cpu")
    mel = some_mel(recipe, 5)
    assert torch.equal(
        voice.synthesize(mel, seed=3, refine=0), voice._render(mel, None, 1.0, [3]).float()
    )
    held = voice.synthesize(mel, seed=3, refine=1)
    expected = hold_to_mel(voice.synthesize(mel, seed=3, refine=0), mel, recipe.preset, 1)
    assert torch.equal(held, expected)


@each_recipe
def test_an_exported_graph_is_the_inverse(recipe: VoiceRecipe, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """`export_onnx` compares onnxruntime's audio with that of `model.inverse` itself."""
    pytest.importorskip("onnxruntime")
    from vocoder.export.voice_file import export_onnx

    voice = FlowVocoder(build(recipe), recipe.preset, device="cpu")
    try:
        report = export_onnx(voice, tmp_path / "voice.onnx", explicit_noise=True)
    except VocoderError as error:
        assert "has no ONNX graph" in str(error)
        assert not (tmp_path / "voice.onnx").exists()
        return
    assert report.difference <= 1e-4 * report.peak


# ---- a class that nothing is registered for ----


class Louder(NanoFlow):
    """A NanoFlow whose first step divides the audio by 3."""

    def forward(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Map audio to noise."""
        z, logdet = super().forward(x / 3, cond, offset)
        return z, logdet - x.shape[1] * torch.tensor(3.0).log()

    def inverse(self, z: Tensor, cond: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map noise to audio."""
        return 3 * super().inverse(z, cond, lengths)


class Wrapped(VoiceModel):
    """A NanoFlow in a model of its own."""

    def __init__(self, config: NanoFlowConfig) -> None:
        super().__init__(config)
        self.flow = NanoFlow(config)

    def forward(self, x: Tensor, cond: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Map audio to noise."""
        return self.flow(-x, cond, offset)

    def inverse(self, z: Tensor, cond: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map noise to audio."""
        return -self.flow.inverse(z, cond, lengths)

    def log_prob_per_sample(self, x: Tensor, cond: Tensor) -> Tensor:
        """Return the terms of the likelihood."""
        return self.flow.log_prob_per_sample(-x, cond)


TINY = next(recipe for recipe in RECIPES if recipe.name == "tiny/nanoflow")


@pytest.mark.parametrize("flow", [Louder, Wrapped])
@pytest.mark.parametrize("backend", NAMES)
def test_a_subclass_or_a_wrapped_flow_is_rendered_with_all_of_its_steps(
    flow: type[VoiceModel], backend: str
) -> None:
    """The fault of its kind: fast paths once took every NanoFlow, and left out the new step."""
    model = perturb(flow(TINY.config), size=0.05).eval()
    assert_rendered_as_inverted(model, TINY, backend, "float32")
    if backend in ("cpu", "triton"):
        with pytest.raises(BackendError, match=f"registered for exactly the class {flow.__name__}"):
            make_renderer(model.fold(), None, backend)


@pytest.mark.parametrize("flow", [Louder, Wrapped])
def test_a_subclass_or_a_wrapped_flow_is_neither_streamed_nor_exported_unasked(
    flow: type[VoiceModel],
) -> None:
    model = perturb(flow(TINY.config), size=0.05).eval()
    voice = FlowVocoder(model, TINY.preset, device="cpu")
    with pytest.raises(VocoderError, match=f"a {flow.__name__} does not tell how far it sees"):
        voice.stream([some_mel(TINY, 3)[0]])
    if importlib.util.find_spec("onnx"):
        from vocoder.export.voice_graph import voice_graph

        with pytest.raises(VocoderError, match=f"a {flow.__name__} has no ONNX graph"):
            voice_graph(model)


def test_only_registered_models_have_fast_paths() -> None:
    """Otherwise no law above would look at them."""
    models = {find_model(name)[0] for name in VOICES}
    assert {*RENDERERS.classes(), *STREAMINGS.classes()} <= models
    if importlib.util.find_spec("onnx"):
        from vocoder.export.voice_graph import GRAPHS

        assert set(GRAPHS.classes()) <= models
