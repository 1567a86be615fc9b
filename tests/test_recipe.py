"""Recipes by name, with overrides, and their refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from vocoder.config import ConfigError, to_dict
from vocoder.recipe import (
    ImageRecipe,
    ImagesConfig,
    Recipe,
    list_recipes,
    load_recipe,
    recipe_path,
    recipes_folder,
)
from vocoder.registry import find_model


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    written = yaml.safe_load(recipe_path(name).read_text())
    ours = recipe.to_dict()
    defaults = {"model": to_dict(type(recipe.config)()), "train": to_dict(type(recipe.train)())}
    if isinstance(recipe, ImageRecipe):
        defaults["images"] = to_dict(ImagesConfig(dataset=recipe.images.dataset))
    for section in ("model", "train", "images"):
        for key, value in written.get(section, {}).items():
            if key not in ("name", "dataset"):
                stated = f"{section}.{key}={value}"
                assert ours[section][key] != defaults[section][key], f"{stated} is the default"


PUBLISHED = {
    "ljspeech/waveflow-r64": 5_950_180,
    "ljspeech/waveflow-r128": 22_385_892,
    "ljspeech/nanoflow-naive": 2_798_408,
    "ljspeech/nanoflow-decomposed": 2_800_228,
    "ljspeech/nanoflow": 3_865_188,
    "ljspeech/nanoflow-k16": 4_936_324,
    "cifar10/glow-256": 15_972_912,
    "cifar10/glow-512": 44_235_312,
    "cifar10/glow-large": 287_488_560,
    "cifar10/nanoglow-naive": 9_263_064,
    "cifar10/nanoglow-decomposed": 9_934_896,
    "cifar10/nanoglow": 10_113_264,
    "cifar10/nanoglow-k48": 10_718_544,
    "cifar10/marscf-affine": 17_411_378,
    "cifar10/marscf-mixlogcdf": 46_011_410,
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_the_published_recipes_are_the_published_models(name: str, count: int) -> None:
    recipe = load_recipe(name)
    with torch.device("meta"):
        model = find_model(recipe.model)[0](recipe.config)
    assert model.n_parameters() == count


@pytest.mark.slow
def test_counts_of_the_table() -> None:
    table = (recipes_folder() / "README.md").read_text(encoding="utf-8")
    row = r"^\| `(cifar10/[^`]*)`.* \| ([\d,]+) \| ([\d,]+) \|$"
    rows = re.findall(row, table, re.MULTILINE)
    assert {name for name, _, _ in rows} == {n for n in list_recipes() if n.startswith("cifar10/")}
    for name, total, effective in rows:
        recipe = load_recipe(name)
        with torch.device("meta"):
            model = find_model(recipe.model)[0](recipe.config)
        assert f"{model.n_parameters():,}" == total
        assert f"{model.n_parameters(effective=True):,}" == effective


def test_sections_of_the_other_domain_are_refused() -> None:
    for name, override, message in (
        ("digits/glow", "train.segment_length=1", r"train\.segment_length: unknown key"),
        ("digits/glow", "preset=pwg-24k", "preset: unknown key"),
        ("digits/glow", "model.name=waveflow", "waveflow is a model of sound; leave out"),
        ("digits/glow", "images.dataset=digit", "unknown image set 'digit'; did you mean 'digits'"),
        ("digits/glow", "images.seed=-1", "images: seed -1: must lie between 0 and"),
        ("digits/glow", "images.augmentation.flips=1", r"augmentation\.flips: unknown key"),
        ("digits/glow", "model.image_height=10", "10"),
        ("ljspeech/nanoflow", "train.eval_images=1", r"train\.eval_images: unknown key"),
        ("ljspeech/nanoflow", "model.name=glow", "glow is a model of images; add `images"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            load_recipe(name, (override,))
        assert "\n" not in str(caught.value)


def test_overrides() -> None:
    recipe = load_recipe("ljspeech/nanoflow", ("train.lr=1e-4", "model.channels=32"))
    assert (recipe.train.lr, recipe.config.channels) == (1e-4, 32)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stepz=3", r"train\.stepz: unknown key; did you mean 'steps'\?"),
        ("train.lr=fast", r"train\.lr: expected float, got 'fast'"),
        ("train.lr=-1", "train: lr must be positive"),
        ("train.seed=-1", "train: seed -1: must lie between 0 and"),
        ("train=3", "train: expected a mapping"),
        ("model.name=nanoflaw", "unknown model 'nanoflaw'; did you mean 'nanoflow'"),
        ("model.name=base", "unknown model 'base'"),
        ("model.name=../../x", "unknown model"),
        ("model.n_height=15", "15 does not divide the hop length 256 .* use one of"),
        ("model.upsample_strides=5,55", "does not divide the hop length 275 .*5, 11, 25, 55"),
        ("model.upsample_strides=16,32", "model: gives hop_length 512, but .* 256"),
        ("model.n_mels=100", "model: gives n_mels 100, but the preset tacotron2-22k has 80"),
        ("preset=tacotron-22k", "did you mean 'tacotron2-22k'"),
        ("train.segment_length=1001", "1001 is not a multiple of 16 samples.*use 992"),
        ("lr", "expected key=value"),
        ("description.x=1", "'description' has no keys"),
    ],
)
def test_refusals_name_key_and_remedy(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_recipe("ljspeech/nanoflow", (override,))
    assert "\n" not in str(caught.value)


def test_unknown_recipe_and_bad_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'ljspeech/nanoflow'"):
        load_recipe("ljspeech/nanflow")
    with pytest.raises(ConfigError, match="no such recipe file"):
        load_recipe(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    for text in ("a: b: c", "!!python/object/apply:os.system ['true']", "- 1", "3", ""):
        bad.write_text(text)
        with pytest.raises(ConfigError, match=r"bad\.yaml"):
            load_recipe(bad)
    bad.write_text("model: {name: nanoflow}\ntrain:\n  lr: 1e-3\n  steps: 9\n  lr: 2e-3\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml.*'lr' is given twice"):
        load_recipe(bad)
    text_file = tmp_path / "my.txt"
    text_file.write_text("model: {name: nanoflow}\n")
    with pytest.raises(ConfigError, match=r"my\.txt.*\.yaml"):
        load_recipe(text_file)
    bad.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_recipe(bad)
