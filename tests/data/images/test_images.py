"""Image sets: splits, batches that follow from the step, dequantisation, prepared folders."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run_killed
from hypothesis import given, settings
from hypothesis import strategies as st

from vocoder.data.images import dequantise as dequantise_module
from vocoder.data.images import sets as images_module
from vocoder.data.images.batches import Augmentation, ImageBatches
from vocoder.data.images.dequantise import dequantise, dequantise_each, middles, quantise
from vocoder.data.images.prepared import prepare_images
from vocoder.data.images.sets import Images, open_images
from vocoder.errors import VocoderError
from vocoder.images.pictures import grid


def numbered(n: int, channels: int = 1, height: int = 4, width: int = 4) -> Images:
    """Return images of which each is filled with its own number."""
    array = np.arange(n, dtype=np.uint8)[:, None, None, None]
    array = np.broadcast_to(array, (n, channels, height, width)).copy()
    return Images(array, np.arange(n))


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "a.npz"
    random = np.random.default_rng(0)
    train, test = (random.integers(256, size=(n, 3, 4, 6), dtype=np.uint8) for n in (30, 7))
    np.savez(path, train=train, test=test)
    return path


# ---- splits ----


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    digits = open_images("digits", n_validation=150, seed=0)
    assert [s.shape for s in (digits.train, digits.validation, digits.test)] == [
        (1350, 1, 8, 8),
        (150, 1, 8, 8),
        (297, 1, 8, 8),
    ]
    found = np.concatenate([digits.train[:], digits.validation[:], digits.test[:]])
    original = load_digits().images[:, None]
    assert Counter(i.tobytes() for i in found) == Counter(
        i.astype(np.uint8).tobytes() for i in original
    )
    assert (digits.n_values, digits.image_shape) == (17, (1, 8, 8))
    assert digits.fingerprint.startswith("629428bdef94f271")  # published figures are on this split
    assert str(digits) == (
        "digits: 1350 training, 150 validation and 297 test images of 8x8x1, 17 values"
    )


def test_validation_is_seeded_and_the_test_is_not(npz):
    sets = [open_images("arrays", npz, n_validation=10, seed=seed) for seed in (0, 0, 1)]
    rows = [set(s.validation.rows) for s in sets]
    assert rows[0] == rows[1] != rows[2]
    for opened, held_out in zip(sets, rows, strict=True):
        assert set(opened.train.rows) == set(range(30)) - held_out
        np.testing.assert_array_equal(opened.test[:], np.load(npz)["test"])
    assert len({s.fingerprint for s in sets}) == 1


def test_no_validation_at_all(npz):
    opened = open_images("arrays", npz, n_validation=0, seed=0)
    assert (len(opened.train), len(opened.validation)) == (30, 0)
    np.testing.assert_array_equal(opened.train[:], np.load(npz)["train"])


@pytest.mark.parametrize("n_validation", [-1, 30, 31])
def test_validation_must_leave_something_to_train_on(npz, n_validation):
    with pytest.raises(VocoderError, match="30 training images"):
        open_images("arrays", npz, n_validation=n_validation, seed=0)


def test_a_seed_out_of_range(npz):
    with pytest.raises(VocoderError, match="seed -1: must lie between 0 and"):
        open_images("arrays", npz, n_validation=1, seed=-1)


def test_the_fingerprint_sees_every_pixel_the_shape_and_the_split(tmp_path):
    train, test = np.zeros((4, 1, 2, 6), np.uint8), np.zeros((2, 1, 2, 6), np.uint8)
    touched = train.copy()
    touched[3, 0, 1, 5] = 1
    versions = {
        "plain": {"train": train, "test": test},
        "touched": {"train": touched, "test": test},
        "reshaped": {"train": train.reshape(4, 1, 3, 4), "test": test.reshape(2, 1, 3, 4)},
        "split": {"train": train[:3], "test": np.concatenate([train[3:], test])},
        "values": {"train": train, "test": test, "n_values": 2},
    }
    prints = set()
    for name, arrays in versions.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        opened = open_images("arrays", tmp_path / f"{name}.npz", n_validation=1, seed=0)
        prints.add(opened.fingerprint)
    assert len(prints) == len(versions)


def test_padding_surrounds_the_image_with_zeros(npz):
    opened = open_images("arrays", npz, n_validation=3, seed=0, side=9)
    assert opened.image_shape == (3, 9, 9)
    assert opened.test.shape == (7, 3, 9, 9)
    padded = opened.test[:]
    np.testing.assert_array_equal(padded[:, :, 2:6, 1:7], np.load(npz)["test"])
    assert padded.sum(dtype=int) == np.load(npz)["test"].sum(dtype=int)
    plain = open_images("arrays", npz, n_validation=3, seed=0)
    assert opened.fingerprint == plain.fingerprint
    with pytest.raises(VocoderError, match=r"images.side: is 5, the images of arrays have 6"):
        open_images("arrays", npz, n_validation=3, seed=0, side=5)


def test_reading_never_gives_a_view():
    images = numbered(5)
    for index in (slice(0, 3), [0, 1], np.array([4])):
        images[index][:] = 99
    np.testing.assert_array_equal(images[:], numbered(5)[:])


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(VocoderError, match=r"unknown image set 'digit'; did you mean 'digits'\?"):
        open_images("digit", n_validation=1, seed=0)


# ---- batches ----


def originals(batch: torch.Tensor) -> list[int]:
    """Return the numbers of the images in a batch of `numbered` ones."""
    pixels = quantise(batch, 256)
    assert (pixels == pixels[:, :1, :1, :1]).all()
    return pixels[:, 0, 0, 0].tolist()


def test_an_epoch_holds_every_image_once_in_an_order_of_its_own():
    batches = ImageBatches(numbered(12), 256, seed=5)
    places = [n for step in range(9) for n in originals(batches.batch(step, 4))]
    epochs = [places[start : start + 12] for start in (0, 12, 24)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_batch_may_span_epochs_and_outnumber_the_images():
    batches = ImageBatches(numbered(5), 256, seed=0)
    assert Counter(originals(batches.batch(0, 15))) == dict.fromkeys(range(5), 3)
    joined = [*originals(batches.batch(0, 3)), *originals(batches.batch(1, 3))]
    assert sorted(joined[:5]) == list(range(5))


AUGMENTED = Augmentation(flip=True, shift=2)


@given(step=st.integers(0, 10**9), n_ranks=st.sampled_from([1, 2, 3, 6]))
@settings(deadline=None, max_examples=25)
def test_a_batch_follows_from_its_step_whatever_the_processes(step, n_ranks):
    images = numbered(7, 3)
    whole = ImageBatches(images, 256, 1, AUGMENTED).batch(step, 6)
    again = ImageBatches(images, 256, 1, AUGMENTED)
    again.batch(3, 6)  # what came before does not matter
    parts = [again.batch(step, 6, rank, n_ranks) for rank in range(n_ranks)]
    assert torch.equal(torch.cat(parts), whole)


def test_seeds_and_steps_give_other_batches():
    images = numbered(7)
    batches = [ImageBatches(images, 256, seed).batch(step, 6) for seed in (0, 1) for step in (0, 1)]
    noises = {tuple(((b + 0.5) * 256 % 1).flatten().tolist()) for b in batches}
    assert len(noises) == 4


def test_augmentation_moves_and_mirrors_without_changing_pixels_or_noise():
    random = np.random.default_rng(0)
    array = random.integers(1, 256, size=(2, 3, 6, 8), dtype=np.uint8)
    images = Images(array, np.arange(2))
    settings = {"plain": Augmentation(), "flip": Augmentation(flip=True), "both": AUGMENTED}
    batches = {name: ImageBatches(images, 256, 0, a).batch(0, 60) for name, a in settings.items()}
    pixels = {name: quantise(batch, 256).numpy() for name, batch in batches.items()}
    fractions = [(batch + 0.5) * 256 % 1 for batch in batches.values()]
    assert torch.equal(fractions[0], fractions[1])
    assert torch.equal(fractions[0], fractions[2])
    np.testing.assert_array_equal(images[:], array)

    mirrored = 0
    for plain, flipped in zip(pixels["plain"], pixels["flip"], strict=True):
        is_mirrored = (flipped == plain[:, :, ::-1]).all()
        assert is_mirrored or (flipped == plain).all()
        mirrored += is_mirrored
    assert 15 <= mirrored <= 45

    shifts = set()
    for flipped, moved in zip(pixels["flip"], pixels["both"], strict=True):
        wide = np.pad(flipped, [(0, 0), (2, 2), (2, 2)])
        # A mirrored image was moved before it was mirrored; the set of windows is the same.
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if (wide[:, y : y + 6, x : x + 8] == moved).all()
        ]
        assert len(found) == 1
        shifts.update(found)
    assert len(shifts) > 15
    assert {y for y, _ in shifts} == {x for _, x in shifts} == set(range(5))


def test_what_comes_in_at_the_edge():
    images = numbered(200, 1, 3, 3)
    edge = ImageBatches(images, 256, 0, Augmentation(shift=2, fill="edge")).batch(0, 200)
    assert sorted(originals(edge)) == list(range(200))  # constant images stay constant
    zero = quantise(ImageBatches(images, 256, 0, Augmentation(shift=2)).batch(0, 200), 256)
    assert (zero == 0).any(dim=(1, 2, 3)).float().mean() > 0.9


# ---- dequantisation ----


@given(n_values=st.integers(2, 256), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_noise_stays_within_its_value(n_values, seed):
    pixels = torch.arange(n_values, dtype=torch.uint8).repeat(300)
    x = dequantise(pixels, n_values, torch.Generator().manual_seed(seed))
    assert x.dtype == torch.float32
    assert x.min() >= -0.5
    assert x.max() < 0.5
    assert torch.equal(quantise(x, n_values), pixels)


@pytest.mark.parametrize("noise", [0, dequantise_module._NOISE_LEVELS - 1])
def test_the_least_and_the_most_noise_stay_within_every_value(noise):
    for n_values in range(2, 257):
        pixels = torch.arange(n_values, dtype=torch.uint8)
        x = dequantise_module._spread(pixels, n_values, torch.full((n_values,), noise))
        assert torch.equal(quantise(x, n_values), pixels)
        assert x.min() >= -0.5
        assert x.max() < 0.5


def test_noise_is_uniform_over_a_value():
    pixels = torch.full((200_000,), 200, dtype=torch.uint8)
    x = dequantise(pixels, 256, torch.Generator().manual_seed(0)).double()
    noise = (x + 0.5) * 256 - 200
    counts = torch.histc(noise, bins=20, min=0, max=1)
    assert counts.sum() == 200_000
    assert ((counts - 10_000).abs() < 500).all()  # five standard deviations


def test_the_callers_pixels_are_left_alone():
    pixels = torch.randint(256, (4, 3, 5, 5), dtype=torch.uint8)
    before = pixels.clone()
    first, second = (dequantise(pixels, 256, torch.Generator().manual_seed(s)) for s in (0, 1))
    dequantise_each(pixels.numpy(), 256, [np.random.default_rng(i) for i in range(4)])
    assert torch.equal(pixels, before)
    assert not torch.equal(first, second)


def test_the_noise_of_an_image_does_not_hang_on_its_batch():
    pixels = np.random.default_rng(0).integers(17, size=(5, 1, 8, 8), dtype=np.uint8)
    whole = dequantise_each(pixels, 17, [np.random.default_rng((3, i)) for i in range(5)])
    for i in range(5):
        alone = dequantise_each(pixels[i : i + 1], 17, [np.random.default_rng((3, i))])
        assert torch.equal(alone[0], whole[i])


def test_quantising_takes_the_nearest_value_and_refuses_nan():
    x = torch.tensor([-9.0, -0.5, -0.4999, 0.0, 0.4999, 0.5, float("inf"), -float("inf")])
    assert quantise(x, 17).tolist() == [0, 0, 0, 8, 16, 16, 16, 0]
    with pytest.raises(VocoderError, match="NaN in 1 of 2"):
        quantise(torch.tensor([0.0, float("nan")]), 17)


# ---- prepared folders ----


def test_a_prepared_folder_is_the_same_data_set(npz, tmp_path):
    prepared = prepare_images("arrays", npz, tmp_path / "out")
    assert str(prepared) == "arrays: 30 training and 7 test images of 3x4x6, 256 values"
    direct = open_images("arrays", npz, n_validation=5, seed=3)
    mapped = open_images("arrays", tmp_path / "out", n_validation=5, seed=3)
    assert isinstance(mapped.train.array, np.memmap)
    assert mapped.fingerprint == direct.fingerprint
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(mapped, split)[:], getattr(direct, split)[:])
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["images.json", "test.npy", "train.npy"]


def test_preparing_is_refused_where_it_was_done(npz, tmp_path):
    prepare_images("arrays", npz, tmp_path)
    with pytest.raises(VocoderError, match="holds prepared images already"):
        prepare_images("arrays", npz, tmp_path)


def test_a_failed_preparation_leaves_no_file(tmp_path):
    images = np.zeros((3, 1, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", train=images, test=images[:0])
    with pytest.raises(VocoderError, match="has no test images"):
        prepare_images("arrays", tmp_path / "a.npz", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("names", [["train"], ["test"], ["train", "test"]])
@pytest.mark.parametrize("linked", [False, True])
def test_arrays_of_another_origin_are_never_replaced(npz, tmp_path, names, linked):
    out = tmp_path / "mine"
    out.mkdir()
    for name in names:
        (out / f"{name}.npy").write_bytes(b"mine")
    place = out
    if linked:
        place = tmp_path / "link"
        place.symlink_to(out)
    with pytest.raises(VocoderError, match=rf"holds a {names[0]}\.npy .*; choose another folder"):
        prepare_images("arrays", npz, place)
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{name}.npy" for name in names)
    assert all((out / f"{name}.npy").read_bytes() == b"mine" for name in names)


@pytest.mark.parametrize("spelling", ["{}", "{}/.", "{}/../mine", "link"])
def test_a_source_is_never_written_to(npz, tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "mine"
    source.mkdir()
    (tmp_path / "link").symlink_to(source)
    for name, array in np.load(npz).items():
        np.save(source / name, array)
    before = {path: path.read_bytes() for path in source.iterdir()}
    with pytest.raises(VocoderError, match="is the source"):
        prepare_images("arrays", source, Path(spelling.format(source)))
    assert {path: path.read_bytes() for path in source.iterdir()} == before


@pytest.mark.parametrize("n_finished", range(3))
def test_a_killed_preparation_goes_on(npz, tmp_path, n_finished):
    prepare_images("arrays", npz, tmp_path / "whole")
    out = tmp_path / "out"
    run_killed(lambda: prepare_images("arrays", npz, out), n_finished)
    assert not (out / "images.json").exists()
    assert any(path.name.startswith(".") for path in out.iterdir())
    prepare_images("arrays", npz, out)
    contents = [
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (tmp_path / "whole", out)
    ]
    assert contents[0] == contents[1]
    assert sorted(contents[0]) == ["images.json", "test.npy", "train.npy"]


@pytest.mark.parametrize("n_finished", range(3))
def test_a_full_disk_leaves_no_array(npz, tmp_path, monkeypatch, n_finished):
    finished = []

    def replace(old, new):
        if len(finished) == n_finished:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.rename(old, new)
        finished.append(new)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        prepare_images("arrays", npz, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_does_not_fit_in_memory_is_to_be_prepared(npz, monkeypatch):
    monkeypatch.setattr(images_module, "_MAX_IN_MEMORY", 1000)
    with pytest.raises(VocoderError, match="vocoder preprocess arrays --source"):
        open_images("arrays", npz, n_validation=5, seed=3)


def test_a_prepared_folder_keeps_its_name(npz, tmp_path):
    prepare_images("arrays", npz, tmp_path)
    with pytest.raises(VocoderError, match="holds images of 'arrays', not 'mnist'"):
        open_images("mnist", tmp_path, n_validation=5, seed=3)


DAMAGE = {
    "format": "other",
    "version": 2,
    "n_values": 1,
    "train_shape": [30, 3, 4],
    "test_shape": [7, 3, 6, 4],
    "variant": None,
    "name": 3,
    "fingerprint": [],
}


@pytest.mark.parametrize("key", DAMAGE)
def test_a_damaged_description_is_refused(npz, tmp_path, key):
    prepare_images("arrays", npz, tmp_path)
    path = tmp_path / "images.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: DAMAGE[key]}))
    with pytest.raises(VocoderError, match=r"images\.json: [^\n]*\Z"):
        open_images("arrays", tmp_path, n_validation=5, seed=3)


@given(content=st.binary(max_size=40) | st.just(b"[" * 100_000))
@settings(deadline=None, max_examples=40)
def test_a_description_of_anything_else_is_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "images.json").write_bytes(content)
    with pytest.raises(VocoderError):
        open_images("arrays", folder, n_validation=5, seed=3)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_cut_array_is_refused(npz, tmp_path, split):
    prepare_images("arrays", npz, tmp_path)
    path = tmp_path / f"{split}.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(VocoderError, match=f"{split}.npy: "):
        open_images("arrays", tmp_path, n_validation=5, seed=3)


def test_a_whole_pixel_is_shown_as_the_level_that_it_is():
    for n_values in range(2, 257):
        levels = np.arange(n_values, dtype=np.uint8)
        shown = grid(middles(levels.reshape(1, 1, 1, -1), n_values), n_values)
        np.testing.assert_array_equal(shown[0, :, 0], np.rint(levels * 255.0 / (n_values - 1)))
        np.testing.assert_array_equal(quantise(middles(levels, n_values), n_values), levels)
