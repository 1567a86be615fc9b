"""Where float32 is claimed no GPU may convolve in TF32; the switch for that shows on a CPU too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from helpers import make_corpus, save_images, tiny_image_recipe
from voices import voice_models

from vocoder import checkpoint
from vocoder.data.images.description import ImageDescription
from vocoder.data.images.sets import open_images
from vocoder.data.speech.corpus import Corpus
from vocoder.flows.base import full_precision
from vocoder.flows.linear import Conv1x1
from vocoder.images.sampling import ImageModel
from vocoder.judging.bits_per_dim import bits_per_dim, inversion_error
from vocoder.judging.likelihood import clip_likelihood
from vocoder.models.glow import Glow

CPU = torch.device("cpu")
CUDNN = torch.backends.cudnn.conv


@pytest.fixture(params=["tf32", "ieee"])
def before(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the caller has set."""
    default = CUDNN.fp32_precision
    CUDNN.fp32_precision = request.param
    yield request.param
    CUDNN.fp32_precision = default


def test_it_ends_as_it_began(before: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision(CPU):
            assert CUDNN.fp32_precision == "ieee"
            assert not torch.is_autocast_enabled("cpu")
        assert CUDNN.fp32_precision == before
        assert torch.is_autocast_enabled("cpu")
    with pytest.raises(KeyError), full_precision(CPU):
        raise KeyError
    assert CUDNN.fp32_precision == before


def test_a_step_computes_in_it_whoever_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    honest = torch.conv1d

    def watched(*arguments: object) -> torch.Tensor:
        seen.append(CUDNN.fp32_precision)
        return honest(*arguments)  # type: ignore[call-overload]

    monkeypatch.setattr("vocoder.flows.linear.F.conv1d", watched)
    step, x = Conv1x1(4), torch.randn(2, 4, 3, 3)
    z, _ = step(x)
    step.inverse(z)
    assert seen == ["ieee", "ieee"]


@pytest.fixture(scope="module")
def scorings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[], object]]:
    folder = tmp_path_factory.mktemp("data")
    images = open_images("arrays", save_images(folder / "images.npz"), n_validation=6, seed=0)
    flow = Glow(tiny_image_recipe().config).eval()
    path = folder / "model.safetensors"
    checkpoint.save(path, flow, ImageDescription.of(images, side=0, seed=0))
    model, x = ImageModel(path, CPU), torch.rand(2, 1, 4, 8) - 0.5
    corpus = Corpus.open(make_corpus(folder / "corpus", n_clips=2))
    clip = corpus.utterances("test")[0]
    return {
        "bits/dim": lambda: bits_per_dim(flow, images.test, 8),
        "inversion": lambda: inversion_error(flow, x),
        "encoding": lambda: model.encode(x),
        "decoding": lambda: model.sample(2),
        "a clip": lambda: clip_likelihood(voice_models()["nanoflow"], corpus, clip),
    }


@pytest.mark.parametrize("name", ["bits/dim", "inversion", "encoding", "decoding", "a clip"])
def test_scores_are_computed_in_it(scorings: dict[str, Callable[[], object]], name: str) -> None:
    seen = set()
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: seen.add(CUDNN.fp32_precision)
    )
    with hook:
        scorings[name]()
    assert seen == {"ieee"}
    assert CUDNN.fp32_precision != "ieee"
