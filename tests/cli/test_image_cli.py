"""The commands that train, score and draw with image models, through the real entry point."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from commands import assert_one_error_line, left_in
from helpers import make_corpus, save_images
from PIL import Image
from voices import save_tiny_voice

SMALL = ("-o", "model.n_steps=1", "-o", "model.channels=4", "-o", "train.steps=2")
SMALL += ("-o", "train.batch_size=8", "--device=cpu")
ARRAYS = ("-o", "images.dataset=arrays", "-o", "images.n_validation=4")
GREY = ("-o", "model.image_channels=1", "-o", "model.image_height=4")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_images(tmp_path_factory.mktemp("data") / "images.npz")


@pytest.fixture
def model(run, data, tmp_path):
    flags = ("--data", data, "--run-dir", tmp_path / "run", *SMALL, *ARRAYS, *GREY)
    result = run("train", "digits/glow", *flags)
    assert result.code == 0, result.err
    return tmp_path / "run"


def row(result, name):
    assert result.code == 0, result.err
    found = re.search(rf"^{re.escape(name)} +(\S.*)$", result.out.decode(), re.MULTILINE)
    assert found, (name, result.out.decode())
    return found[1]


def test_train_evaluate_sample_on_digits(run, tmp_path):
    """The main job in three commands; no data is to be had first."""
    run_dir = tmp_path / "run"
    result = run("train", "digits/glow", "--run-dir", run_dir, *SMALL)
    assert result.code == 0, result.err
    assert Path(result.out.decode().strip()).is_file()
    result = run("evaluate-images", run_dir, "--draws=2", "--images=50", "--device=cpu")
    assert row(result, "data") == "digits 1x8x8, 17 values"
    assert (row(result, "test images"), row(result, "dequantisations")) == ("50", "2")
    assert 2 < float(row(result, "bits/dim at 1x8x8")) < 8
    assert float(row(result, "inversion error")) < 1e-3
    result = run("sample", run_dir, "-o", tmp_path / "out/x.png", "-n", "9", "--device=cpu")
    assert result.code == 0, result.err
    assert re.search(r"vocoder: 9 images of 1x8x8 in \S+ s: \S+ images/s", result.err)
    with Image.open(tmp_path / "out/x.png") as picture:
        assert picture.size == (4 * 28, 4 * 28)  # enlarged


def test_json_has_no_nan(run, model, data):
    """One image has no standard error."""
    result = run("evaluate-images", model, "--data", data, "--images=1", "--json", "--device=cpu")
    assert result.code == 0, result.err
    figures = json.loads(result.out, parse_constant=lambda name: pytest.fail(name))
    assert figures["standard error"] is None
    assert figures["test images"] == 1


def test_a_report_is_written(run, model, data, tmp_path):
    flags = ("--data", data, "--report", tmp_path / "report.html", "--examples=1", "--device=cpu")
    assert run("evaluate-images", model, *flags).code == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count('alt="Test image') == 2  # the dearest and the cheapest
    result = run("evaluate-images", model, "--data", data, "--report", tmp_path / "no/x.html")
    assert_one_error_line(result, "no/x.html", "there is no folder")


def test_the_same_samples_again(run, model, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        flags = ("-o", tmp_path / f"{name}.png", f"--seed={seed}", "--device=cpu")
        assert run("sample", model, *flags, "--temperature=0.7").code == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("flags", [["--reconstruct"], ["--interpolate=spherical"]])
def test_pictures_of_test_images(run, model, data, tmp_path, flags):
    out = ("-o", tmp_path / "x.png", "-n", "2", "--device=cpu")
    assert run("sample", model, *out, *flags, "--data", data).code == 0
    assert_one_error_line(run("sample", model, *out, *flags), "needs the file or folder")


def test_preprocessed_images_are_the_same_data(run, model, data, tmp_path):
    result = run("preprocess", "arrays", "--source", data, "--out", tmp_path / "prepared")
    assert result.out.decode().startswith("arrays: 24 training and 6 test images of 1x4x8")
    sources = (data, tmp_path / "prepared")
    scored, *figures = zip(
        *(
            run("evaluate-images", model, "--data", source, "--device=cpu").out.splitlines()
            for source in sources
        ),
        strict=True,
    )
    for line, source in zip(scored, sources, strict=True):
        assert str(source).encode() in line
    assert figures
    assert all(one == other for one, other in figures)


def test_info_of_an_image_model(run, model):
    result = run("info", model)
    assert row(result, "images") == "arrays 1x4x8, 8 values"
    assert row(result, "selected by") == "4 validation images"
    assert row(result, "recipe") == "digits/glow"


def test_both_kinds_of_recipes_are_listed(run):
    names = [line.split()[0] for line in run("recipes").out.decode().splitlines()]
    assert {"digits/glow", "cifar10/nanoglow-k48", "ljspeech/nanoflow"} <= set(names)


# ---- what is refused ----


def test_images_that_do_not_fit_the_recipe(run, data, tmp_path):
    where = ("--data", data, "--run-dir", tmp_path / "run", "--device=cpu")
    result = run("train", "cifar10/glow-256", *where, *ARRAYS)
    assert_one_error_line(result, data, "1x4x8", "3x32x32", "model.image_channels")
    result = run("train", "digits/glow", *where, *ARRAYS, "-o", "model.image_height=6")
    assert_one_error_line(result, "6", "4")
    result = run("train", "digits/glow", *where, *ARRAYS, *GREY, "-o", "images.side=5")
    assert_one_error_line(result, "images.side", "8")
    result = run("train", "digits/glow", *where)
    assert_one_error_line(result, data, "leave the path out")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_resolution(run, model, tmp_path):
    larger = save_images(tmp_path / "larger.npz", height=8)
    result = run("evaluate-images", model, "--data", larger, "--device=cpu")
    assert_one_error_line(result, larger, "1x8x8", "was trained on arrays 1x4x8")
    flags = ("-o", tmp_path / "x.png", "--reconstruct", "--device=cpu")
    assert_one_error_line(run("sample", model, *flags, "--data", larger), larger, "1x8x8")
    assert not (tmp_path / "x.png").exists()


def test_a_model_of_the_other_kind_is_told_its_command(run, model, data, tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    for command in ("evaluate", "compare"):
        result = run(command, model, "--data", corpus)
        assert_one_error_line(result, model, "not a voice", "`vocoder evaluate-images` scores it")
    for voice in (save_tiny_voice(tmp_path / "v.safetensors"), "griffin-lim", "prompts-22k"):
        result = run("evaluate-images", voice, "--data", data)
        assert_one_error_line(result, voice, "not an image model", "`vocoder evaluate` scores it")
    assert_one_error_line(run("evaluate-images", tmp_path / "none"), "no such checkpoint")
    result = run("evaluate", "griffin-lim")
    assert_one_error_line(result, "'--data' is missing; for example: vocoder evaluate")


def test_options_of_the_other_kind(run, data, tmp_path):
    flags = ("--source", data, "--out", tmp_path / "out")
    result = run("preprocess", "arrays", *flags, "--test-clips=3")
    assert_one_error_line(result, "--test-clips", "arrays holds images")
    assert_one_error_line(run("preprocess", "wavs", *flags, "--side=8"), "--side")
    assert_one_error_line(run("preprocess", "imagenet23", *flags), "did you mean 'imagenet32'?")
    result = run("train", "tiny/nanoflow", "--run-dir", tmp_path / "voice")
    assert_one_error_line(result, "--data")
    assert not (tmp_path / "out").exists()


def test_sampling_what_cannot_be_sampled(run, model, data, tmp_path):
    voice = save_tiny_voice(tmp_path / "tiny.safetensors")
    picture = ("-o", tmp_path / "x.png")
    assert_one_error_line(run("sample", voice, *picture), voice, "knows no images")
    result = run("synthesize", data, "-o", tmp_path, "--voice", model)
    assert_one_error_line(result, model, "is not a voice", "`vocoder sample`")
    assert_one_error_line(run("sample", tmp_path / "none", *picture), "no such checkpoint")
    assert_one_error_line(run("sample", model, "-o", tmp_path / "x.jpg"), "x.jpg", ".png")
    result = run("sample", model, *picture, "--reconstruct", "--interpolate=linear")
    assert_one_error_line(result, "choose one")
    assert_one_error_line(run("sample", model, *picture, "--data", data), "samples need none")
    result = run("sample", model, *picture, "--reconstruct", "--temperature=0.5", "--data", data)
    assert_one_error_line(result, "--temperature")
    assert_one_error_line(run("sample", model, *picture, "--temperature=-1"), "temperature")
    assert not [name for name in left_in(tmp_path) if name.endswith((".png", ".wav"))]


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def hostile_files(folder, mark):
    """Files that look like data sets, and what is wrong with each: (data set, path, words)."""
    cifar = folder / "cifar"
    cifar.mkdir()
    for name in ("data_batch_1", "test_batch"):
        (cifar / name).write_bytes(pickle.dumps(Evil(mark)))
    np.savez(folder / "objects.npz", train=np.array([Evil(mark)]), test=np.zeros(1))
    escaping = folder / "cifar.tar.gz"
    with tarfile.open(escaping, "w:gz") as archive:
        member = tarfile.TarInfo("../../data_batch_1.bin")
        member.size = 3073
        archive.addfile(member, io.BytesIO(bytes(3073)))
    mnist = folder / "mnist"
    mnist.mkdir()
    for name in ("train", "t10k"):
        content = b"\0\0\x08\x03" + b"\0\0\0\x02\0\0\0\x1c\0\0\0\x1c" + bytes(100)
        with gzip.open(mnist / f"{name}-images-idx3-ubyte.gz", "wb") as file:
            file.write(content)
    return [
        ("cifar10", cifar),
        ("arrays", folder / "objects.npz"),
        ("cifar10", escaping),
        ("mnist", mnist),
    ]


@pytest.mark.parametrize("index", range(4))
def test_hostile_and_damaged_images(run, tmp_path, index):
    mark = tmp_path / "executed"
    (tmp_path / "files").mkdir()
    dataset, path = hostile_files(tmp_path / "files", mark)[index]
    where = ("--data", path, "--run-dir", tmp_path / "run", "--device=cpu")
    result = run("train", "cifar10/nanoglow", *where, "-o", f"images.dataset={dataset}")
    assert_one_error_line(result, path)
    result = run("preprocess", dataset, "--source", path, "--out", tmp_path / "out")
    assert_one_error_line(result, path)
    assert not mark.exists()
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "out").exists() or not left_in(tmp_path / "out")
