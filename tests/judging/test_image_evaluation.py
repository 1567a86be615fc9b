"""Figures of an image model: with what they hold for, and on no other images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import perturb, save_images

from vocoder import checkpoint
from vocoder.data.images.description import ImageDescription
from vocoder.data.images.sets import open_images
from vocoder.errors import VocoderError
from vocoder.images.sampling import ImageModel, sample_grid
from vocoder.judging import images as image_evaluation
from vocoder.judging.bits_per_dim import bits_per_dim
from vocoder.judging.frechet import Gaussian, read_statistics, write_statistics
from vocoder.judging.images import evaluate_images
from vocoder.models.glow import Glow, GlowConfig


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save_images(tmp_path / "images.npz", test=10)


def save_model(data: Path, side: int = 0, size: float = 0.1) -> Path:
    images = open_images("arrays", data, n_validation=6, seed=0, side=side)
    channels, height, width = images.image_shape
    torch.manual_seed(0)
    config = GlowConfig(channels, height, width, n_levels=1, n_steps=2, channels=4)
    model = perturb(Glow(config), size=size).eval()
    path = data.with_name("model.safetensors")
    checkpoint.save(path, model, ImageDescription.of(images, side=side, seed=0))
    return path


def test_the_figures(data: Path) -> None:
    path = save_model(data)
    figures = evaluate_images(path, data, n_draws=3, seed=4, device="cpu")
    test = open_images("arrays", data, n_validation=6, seed=0).test
    expected = bits_per_dim(checkpoint.load(path).model, test, 8, n_draws=3, seed=4)
    assert figures.pop("inversion error") < 1e-4
    assert figures == {
        "data": f"{data} (arrays 1x4x8, 8 values)",
        "test images": 10,
        "dequantisations": 3,
        "bits/dim at 1x4x8": expected.mean,
        "standard error": expected.standard_error,
        "bits/dim at 1x4x8, importance-weighted": expected.importance_weighted,
    }
    assert evaluate_images(path, data, n_images=4, device="cpu")["test images"] == 4


def test_other_images_may_be_fewer_than_selected_the_model(data: Path, tmp_path: Path) -> None:
    """Only the test images are asked for, of a set that has hardly any others."""
    path = save_model(data)
    other = save_images(tmp_path / "others.npz", train=1, test=4, seed=1)
    assert evaluate_images(path, other, device="cpu")["test images"] == 4
    drawn = sample_grid(path, tmp_path / "a.png", 4, data=other, show="reconstructions")
    assert drawn.n_images == 8  # four originals, and what comes back of them


def test_the_bits_of_each_image_are_written_where_they_can_be(data: Path, tmp_path: Path) -> None:
    path, bits = save_model(data), tmp_path / "bits.npy"
    figures = evaluate_images(path, data, n_draws=3, device="cpu", bits=bits)
    test = open_images("arrays", data, n_validation=6, seed=0).test
    expected = bits_per_dim(checkpoint.load(path).model, test, 8, n_draws=3)
    np.testing.assert_array_equal(np.load(bits), expected.by_image)
    assert np.load(bits).mean() == pytest.approx(figures["bits/dim at 1x4x8"], abs=1e-12)
    for place, words in ((tmp_path / "bits.txt", "go into an .npy"), (bits / "a.npy", "no folder")):
        with pytest.raises(VocoderError, match=words):
            evaluate_images(path, data, device="cpu", bits=place)


@pytest.mark.parametrize(("option", "name"), [("bits", "a.npy"), ("save_statistics", "a.npz")])
def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_scored(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str
) -> None:
    path = save_model(data)
    for work in ("bits_per_dim", "fit_gaussian"):
        monkeypatch.setattr(image_evaluation, work, lambda *a, **k: pytest.fail("begun"))
    (tmp_path / "folder" / name).mkdir(parents=True)
    places: list[tuple[Path, type[Exception], str]] = [
        (tmp_path / "folder" / name, VocoderError, f"{name}: is a folder; name a file"),
        (tmp_path / "no" / name, VocoderError, "there is no folder .*; make it first"),
    ]
    if Path("/proc").is_dir():  # where nobody may make a file
        places.append((Path("/proc") / name, OSError, f"/proc/{name}"))
    for place, error, message in places:
        with pytest.raises(error, match=message):
            evaluate_images(path, data, device="cpu", **{option: place})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(pytest.fail.Exception, match="begun"):
        evaluate_images(path, data, device="cpu", **{option: tmp_path / name})
    assert sorted(tmp_path.iterdir()) == before  # the look at the place leaves nothing


def test_padding_is_named_and_its_bits_counted_to_the_image(data: Path) -> None:
    figures = evaluate_images(save_model(data, side=8), data, device="cpu")
    assert figures["bits/dim at 1x8x8, all bits counted to 1x4x8"] == pytest.approx(
        2 * figures["bits/dim at 1x8x8"]
    )


def test_other_images_of_the_same_kind_are_named_and_warned_of(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, report = save_model(data), tmp_path / "report.html"
    assert "warning" not in evaluate_images(path, data, device="cpu")
    assert not caplog.messages
    other = save_images(tmp_path / "other.npz", seed=1)
    figures = evaluate_images(path, other, device="cpu", report=report, n_examples=0)
    warning = "other images than those the model was trained on"
    assert warning in caplog.text
    assert figures["data"] == f"{other} (arrays 1x4x8, 8 values)"
    assert figures["warning"] == f"{warning} (arrays 1x4x8, 8 values)"
    page = report.read_text(encoding="utf-8")
    assert f"<title>{path} on {other} (arrays 1x4x8, 8 values)</title>" in page
    assert page.count(warning) == 1


def test_a_bad_inverse_is_warned_of(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    honest = Glow.inverse
    monkeypatch.setattr(Glow, "inverse", lambda self, z: honest(self, z) + 0.01)
    figures = evaluate_images(save_model(data), data, device="cpu")
    assert figures["inversion error"] == pytest.approx(0.01, rel=1e-3)
    assert "does not invert well: images come back up to 0.01 away" in caplog.text
    monkeypatch.setattr(Glow, "inverse", lambda self, z: honest(self, z) * math.nan)
    assert math.isnan(evaluate_images(save_model(data), data, device="cpu")["inversion error"])
    assert "up to nan away" in caplog.text


def test_the_distance_names_its_features(data: Path, tmp_path: Path) -> None:
    path = save_model(data)
    saved = tmp_path / "features.npz"
    figures = evaluate_images(path, data, n_samples=70, save_statistics=saved, device="cpu")
    assert (figures["samples"], figures["non-finite samples, left out"]) == (70, 0)
    distance = figures["Fréchet distance (random features)"]
    assert distance > 0
    assert read_statistics(saved).count == 10
    again = evaluate_images(path, data, n_samples=70, statistics=saved, device="cpu")
    assert again["Fréchet distance (random features)"] == pytest.approx(distance)


def test_an_extractor_of_the_callers(data: Path, tmp_path: Path) -> None:
    class Means(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().mean(dim=(2, 3))[:, :1]

    file = tmp_path / "means.pt"
    torch.jit.script(Means()).save(str(file))
    figures = evaluate_images(save_model(data), data, extractor=file, device="cpu")
    (name,) = (name for name in figures if name.startswith("Fréchet"))
    assert "features of means.pt, sha256" in name
    assert figures["samples"] == 10


def test_refusals(data: Path, tmp_path: Path) -> None:
    path = save_model(data)
    larger = save_images(tmp_path / "larger.npz", height=8)
    with pytest.raises(
        VocoderError, match=r"larger\.npz: holds arrays 1x8x8, .* trained on arrays 1x4x8"
    ):
        evaluate_images(path, larger, device="cpu")
    arrays = dict(np.load(data)) | {"n_values": np.array(9)}
    np.savez(tmp_path / "nine.npz", **arrays)
    with pytest.raises(VocoderError, match=r"1x4x8, 9 values, .* 1x4x8, 8 values"):
        evaluate_images(path, tmp_path / "nine.npz", device="cpu")
    with pytest.raises(VocoderError, match="needs the file or folder that holds it"):
        evaluate_images(path, device="cpu")
    with pytest.raises(VocoderError, match="seed -1: must lie between 0 and"):
        evaluate_images(path, data, seed=-1, device="cpu")
    with pytest.raises(VocoderError, match="draws 0: must be at least 1"):
        evaluate_images(path, data, n_draws=0)
    stored = checkpoint.load(path)
    anonymous = tmp_path / "anonymous.safetensors"
    checkpoint.save(anonymous, stored.model, ImageDescription((1, 4, 8)))
    with pytest.raises(VocoderError, match="does not tell which images"):
        evaluate_images(anonymous, data, device="cpu")


def test_what_the_distance_lacks_is_told_before_anything_is_scored(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_model(data)
    monkeypatch.setattr(image_evaluation, "bits_per_dim", lambda *a, **k: pytest.fail("scored"))
    (tmp_path / "junk.pt").write_bytes(b"junk")
    write_statistics(tmp_path / "a.npz", Gaussian(np.zeros(1), np.eye(1)))
    for settings, message in (
        ({"extractor": tmp_path / "none.pt"}, r"none\.pt: no such file"),
        ({"extractor": tmp_path / "junk.pt"}, r"junk\.pt: not a TorchScript network"),
        ({"statistics": tmp_path / "none.npz"}, r"none\.npz: no such file"),
        ({"save_statistics": tmp_path / "x.npy"}, r"x\.npy: statistics go into an \.npz file"),
        ({"save_statistics": tmp_path / "no/x.npz"}, r"no/x\.npz: there is no folder"),
        ({"n_samples": 1}, "samples 1: a Fréchet distance needs at least 2"),
        ({"n_images": 1, "statistics": tmp_path / "a.npz"}, "samples 1: a Fréchet distance"),
        ({"n_images": 1, "n_samples": 2}, "a covariance needs at least 2 images, not 1"),
    ):
        with pytest.raises(VocoderError, match=message):
            evaluate_images(path, data, device="cpu", **settings)  # type: ignore[arg-type]


def test_samples_that_all_diverge_leave_the_other_figures(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ImageModel.sample
    monkeypatch.setattr(ImageModel, "sample", lambda *a, **k: honest(*a, **k) * math.nan)
    figures = evaluate_images(save_model(data), data, n_samples=5, device="cpu")
    assert math.isfinite(figures["bits/dim at 1x4x8"])
    assert (figures["samples"], figures["non-finite samples, left out"]) == (5, 5)
    assert math.isnan(figures["Fréchet distance (random features)"])


def test_a_variant_is_part_of_the_data(data: Path) -> None:
    images = open_images("arrays", data, n_validation=0, seed=0)
    described = ImageDescription.of(images, side=0, seed=0)
    other = ImageDescription((1, 4, 8), 8, "arrays", variant="another")
    with pytest.raises(VocoderError, match=r"holds arrays 1x4x8, .* arrays \(another\) 1x4x8"):
        other.open(data)
    assert described.open(data).fingerprint == images.fingerprint
