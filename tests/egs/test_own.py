"""The stories of a model and of a data set of one's own: short, and true to what they teach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import perturb

from vocoder.cli.plugin import load_plugin
from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.reader import DATASETS
from vocoder.errors import VocoderError
from vocoder.export.voice_file import export_onnx
from vocoder.recipe import load_recipe
from vocoder.registry import find_model
from vocoder.voice.flow import FlowVocoder

EGS = Path(__file__).parents[2] / "egs"
MODEL, DATASET = EGS / "new_model", EGS / "new_dataset"
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(EGS.parent),
}
SHORT = ("-o", "train.steps=2", "-o", "train.batch_size=2", "-o", "train.eval_clips=1")


def tell(story: Path, folder: Path) -> str:
    """Run a story in a folder of its own, with a training of two steps; return what it printed."""
    (folder / "egs").symlink_to(EGS)
    command = ["sh", f"egs/{story.name}/run.sh", *SHORT]
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_story_of_a_model(tmp_path):
    out = tell(MODEL, tmp_path)
    assert "shimmer" in out
    assert "none: exact" in out  # the overlap of its stream
    assert "log-likelihood" in out
    assert "griffin-lim" in out
    for name in ("waterfall", "streamed"):
        audio, rate = soundfile.read(tmp_path / "out/new_model" / f"{name}.wav")
        assert rate == 22_050
        assert len(audio) % 256 == 0
        assert np.abs(audio).max() > 0.001
    assert "<audio" in (tmp_path / "runs/new_model/report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_story_of_a_data_set(tmp_path):
    out = tell(DATASET, tmp_path)
    assert "18 training and 2 test clips" in out
    assert "griffin-lim" in out
    assert len(list((tmp_path / "out/new_dataset").glob("*.wav"))) == 20
    corpus = Corpus.open(tmp_path / "data/new_dataset")
    assert [clip.id for clip in corpus.utterances("test")] == ["ES000005", "ES000015"]


@pytest.mark.parametrize("path", [MODEL / "shimmer.py", DATASET / "tsv_corpus.py"])
def test_one_short_file_is_all(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 80
    assert [other for other in path.parent.glob("*.py") if other != path] == []


# ---- the model keeps to the contract ----


@pytest.fixture
def load_own(monkeypatch, forget_plugins):
    """Give a function that loads a plugin anew."""

    def load(path):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
        load_plugin(str(path))

    return load


@pytest.fixture
def recipe(load_own):
    load_own(MODEL / "shimmer.py")
    return load_recipe(MODEL / "shimmer.yaml")


@pytest.fixture
def model(recipe):
    torch.manual_seed(0)
    return perturb(find_model("shimmer")[0](recipe.config), size=0.05).eval()


def noise_and_mel(n_frames, batch=1):
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(batch, n_frames * 256, generator=generator)
    return noise, -5 + torch.randn(batch, 80, n_frames, generator=generator)


@torch.no_grad()
def test_its_inverse_undoes_its_forward(model):
    x, mel = (tensor.double() for tensor in noise_and_mel(3, batch=2))
    model = model.double()
    z, logdet = model(x, mel)
    assert (z - x).abs().max() > 0.01
    torch.testing.assert_close(model.inverse(z, mel), x, atol=1e-9, rtol=0)
    terms = model.log_prob_per_sample(x, mel)
    torch.testing.assert_close(terms.sum(dim=1), model.log_prob(x, mel))
    assert logdet.shape == (2,)


def test_its_logdet_is_that_of_the_jacobian(model):
    x, mel = (tensor.double() for tensor in noise_and_mel(1))
    model = model.double()
    jacobian = torch.autograd.functional.jacobian(lambda audio: model(audio, mel)[0], x)
    expected = torch.linalg.slogdet(jacobian[0, :, 0]).logabsdet
    torch.testing.assert_close(model(x, mel)[1][0], expected, atol=1e-7, rtol=1e-9)


@torch.no_grad()
def test_its_crops_and_its_padded_batches_are_as_in_the_whole(model):
    model = model.double()
    z, mel = (tensor.double() for tensor in noise_and_mel(4, batch=2))
    batch = model.inverse(z, mel, torch.tensor([2, 4]))
    alone = model.inverse(z[:1, :512], mel[:1, :, :2])
    torch.testing.assert_close(batch[:1, :512], alone, atol=1e-9, rtol=0)
    crop = model(z[:, 256:768], mel[..., 1:3])[0]
    torch.testing.assert_close(model(z[:, 256:768], mel, 256)[0], crop, atol=1e-9, rtol=0)


def test_its_stream_is_the_whole(model, recipe):
    voice = FlowVocoder(model, recipe.preset, device="cpu")
    mel = noise_and_mel(23)[1][0]
    pieces = voice.stream(mel.split([1, 7, 15], dim=1), seed=5, block_frames=4)
    whole = voice.synthesize(mel, seed=5)
    torch.testing.assert_close(torch.cat(list(pieces)), whole, atol=1e-5, rtol=1e-4)


def test_it_has_no_graph_and_says_so(model, recipe, tmp_path):
    pytest.importorskip("onnx")
    voice = FlowVocoder(model, recipe.preset, device="cpu")
    with pytest.raises(VocoderError, match="a Shimmer has no ONNX graph"):
        export_onnx(voice, tmp_path / "voice.onnx")


# ---- the reader ----


def test_the_reader_names_what_it_cannot_use(load_own, tmp_path):
    load_own(DATASET / "tsv_corpus.py")
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).write_bytes(b"")
    lines = ["a.wav\ttrain", "b.wav\ttest", "c.wav\tdev", "a.wav\ttest", "none.wav\ttrain"]
    (tmp_path / "clips.tsv").write_text("\n".join(lines))
    listing = DATASETS.find("tsv")(tmp_path, None, 0)
    assert [(clip.id, clip.split) for clip in listing.clips] == [("a", "train"), ("b", "test")]
    assert [place for place, _ in listing.problems] == [f"clips.tsv line {n}" for n in (3, 4, 5)]
    with pytest.raises(VocoderError, match="leave out --test-clips"):
        DATASETS.find("tsv")(tmp_path, 3, 0)
