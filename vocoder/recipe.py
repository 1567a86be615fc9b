"""Recipes: what to train and how, as YAML that states only what differs from the defaults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from vocoder.config import ConfigError, from_dict, suggest, to_dict, unknown_key
from vocoder.data.images.batches import Augmentation
from vocoder.data.images.reader import IMAGE_SETS
from vocoder.errors import VocoderError, reason
from vocoder.files.text import read_text
from vocoder.mel.presets import MelPreset, get_preset
from vocoder.models.families.voice import VoiceConfig
from vocoder.registry import find_model
from vocoder.seeds import check_seed

# Of the file of a recipe: a thousand lines, so that nothing in it takes long to read.
_MOST_BYTES = 2**16


@dataclass(frozen=True)
class TrainConfig:
    """How any model is trained; the defaults are those of the NanoFlow paper."""

    steps: int = 1_000_000  # optimiser steps
    batch_size: int = 8  # crops or images per step, over all processes
    optimizer: Literal["adam", "adamax"] = "adam"
    lr: float = 1e-3
    warmup_steps: int = 0  # the rate rises linearly over the first so many steps
    lr_decay_steps: int = 200_000  # the rate is multiplied by lr_decay_gamma every so many steps
    lr_decay_gamma: float = 0.5
    weight_decay: float = 0.0  # of every parameter, added to its gradient
    grad_clip: float = 5.0  # largest global norm of the gradient; 0: no limit
    ema_decay: float = 0.9995  # of the averaged weights that are evaluated and shipped; 0: none
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"  # auto: bf16 where that is fast
    checkpointing: bool = False  # recompute each flow going backward: less memory, more time
    seed: int = 1234
    log_every: int = 50  # steps
    eval_every: int = 5_000  # steps
    save_every: int = 5_000  # steps
    keep_last: int = 3  # checkpoints besides the best; 2 or more, since the newest may be bad
    max_bad_steps: int = 20  # non-finite steps in a row that end the run

    def __post_init__(self) -> None:
        if not self.keep_last >= 2:
            raise ValueError(f"keep_last must be at least 2, got {self.keep_last}")
        intervals = ("log_every", "eval_every", "save_every", "max_bad_steps")
        self._check_positive("steps", "batch_size", "lr", "lr_decay_steps", *intervals)
        for name in ("warmup_steps", "weight_decay", "grad_clip"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        check_seed(self.seed)

    def _check_positive(self, *names: str) -> None:
        for name in names:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class VoiceTraining(TrainConfig):
    """How a model of sound is trained."""

    segment_length: int = 16_000  # samples per crop
    eval_clips: int = 16  # whole test clips scored during training

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("segment_length", "eval_clips")


@dataclass(frozen=True)
class ImageTraining(TrainConfig):
    """How a model of images is trained; the defaults are those of NanoFlow's image experiments."""

    steps: int = 2_343_750  # 3000 epochs of CIFAR-10
    batch_size: int = 64
    optimizer: Literal["adam", "adamax"] = "adamax"
    lr: float = 5e-4
    warmup_steps: int = 3_906  # 5 epochs of CIFAR-10
    lr_decay_gamma: float = 1.0
    weight_decay: float = 5e-5
    grad_clip: float = 0.0
    ema_decay: float = 0.0
    eval_images: int = 1_000  # validation images scored during training

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("eval_images")


@dataclass(frozen=True)
class ImagesConfig:
    """Which images a model learns, and how they are split and varied."""

    dataset: str = ""
    variant: str = ""  # of the data set, where several share its name; "": whichever it is
    side: int = 0  # pad both sides with black to this many pixels; 0: leave them
    n_validation: int = 0  # training images that select the model instead
    seed: int = 0  # of their choice
    augmentation: Augmentation = Augmentation()  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        IMAGE_SETS.find(self.dataset)
        check_seed(self.seed)


@dataclass(frozen=True)
class Recipe(ABC):
    """A model and its training; a `VoiceRecipe` or an `ImageRecipe` says on what."""

    name: str
    description: str
    model: str  # registered name
    config: Any
    train: TrainConfig

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe with every field spelt out, ready for JSON."""
        return {
            "name": self.name,
            "description": self.description,
            "model": {"name": self.model, **to_dict(self.config)},
            **self._data_section(),
            "train": to_dict(self.train),
        }

    @abstractmethod
    def _data_section(self) -> dict[str, Any]:
        """Return the section that says on what."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], name: str = "") -> VoiceRecipe | ImageRecipe:
        """Build a recipe from the mapping of a YAML file, or from what `to_dict` gave.

        The section `images` makes it one for images; otherwise it is one for a voice.

        Raises:
            ConfigError: an unknown key, model or preset, or a value that does not fit.
        """
        is_for_images = "images" in values
        known = ["name", "description", "model", "train", "images" if is_for_images else "preset"]
        for key in values:
            if key not in known:
                raise unknown_key(key, known)
        model = values.get("model")
        if not isinstance(model, Mapping) or not isinstance(model.get("name"), str):
            raise ConfigError("model.name: missing; name the model to train")
        config_class = find_model(model["name"])[1]
        if is_for_images == issubclass(config_class, VoiceConfig):
            raise ConfigError(
                f"model.name: {model['name']} is a model of sound; leave out the section `images`"
                if is_for_images
                else f"model.name: {model['name']} is a model of images; add `images.dataset`"
            )
        settings = {key: value for key, value in model.items() if key != "name"}
        head = (str(values.get("name", name)), str(values.get("description", "")), model["name"])
        train = values.get("train", {})
        if is_for_images:
            config = from_dict(config_class, settings, "model")
            images = from_dict(ImagesConfig, values["images"], "images")
            return ImageRecipe(*head, config, from_dict(ImageTraining, train, "train"), images)
        given = values.get("preset", "tacotron2-22k")
        preset = (
            MelPreset.from_dict(given) if isinstance(given, Mapping) else get_preset(str(given))
        )
        if "preset" in (field.name for field in fields(config_class)):
            settings["preset"] = preset  # a model that knows its mels knows those of the recipe
        config = from_dict(config_class, settings, "model")
        return VoiceRecipe(*head, config, from_dict(VoiceTraining, train, "train"), preset)


@dataclass(frozen=True)
class VoiceRecipe(Recipe):
    """A model of sound, the mels it hears and its training."""

    config: VoiceConfig
    train: VoiceTraining
    preset: MelPreset

    def __post_init__(self) -> None:
        try:
            self.config.check_preset(self.preset)
        except ValueError as error:
            raise ConfigError(f"model: {error}") from None
        granule, length = self.config.granule, self.train.segment_length
        if length % granule:
            raise ConfigError(
                f"train.segment_length: {length} is not a multiple of {granule} samples, which "
                f"the model wants; use {length // granule * granule or granule}"
            )
        shortest = self.config.shortest_crop
        if length < shortest:
            raise ConfigError(
                f"train.segment_length: {length} is too short for a model whose widest layer "
                f"reaches over {shortest} samples, so that some of its weights would never be "
                "trained; use longer crops or fewer layers (model.n_layers)"
            )

    def _data_section(self) -> dict[str, Any]:
        return {"preset": self.preset.to_dict()}


@dataclass(frozen=True)
class ImageRecipe(Recipe):
    """A model of images, which images, and its training."""

    train: ImageTraining
    images: ImagesConfig

    def _data_section(self) -> dict[str, Any]:
        return {"images": to_dict(self.images)}


def recipes_folder() -> Path:
    """Return the folder of the shipped recipes, installed or in a checkout."""
    package = Path(__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def list_recipes() -> list[str]:
    """Return the names of the shipped recipes, such as "ljspeech/nanoflow"."""
    folder = recipes_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in _yaml(folder))


def _yaml(folder: Path) -> list[Path]:
    return list(folder.glob("*/*.yaml"))


def recipe_path(name_or_path: str | Path) -> Path:
    """Return the file of a recipe, shipped or the caller's own.

    Raises:
        ConfigError: there is no such recipe.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"{path}: no such recipe file")
        return path
    if path.suffix or path.exists():
        raise ConfigError(
            f"{path}: not a recipe, which is a YAML file (.yaml or .yml) or the name of a shipped "
            "one, such as ljspeech/nanoflow; `vocoder recipes` lists them"
        )
    names = list_recipes()
    if str(name_or_path) not in names:
        raise ConfigError(
            f"unknown recipe {str(name_or_path)!r}"
            f"{suggest(str(name_or_path), names)}; `vocoder recipes` lists them"
        )
    return recipes_folder() / f"{name_or_path}.yaml"


def load_recipe(
    name_or_path: str | Path, overrides: Sequence[str] = ()
) -> VoiceRecipe | ImageRecipe:
    """Load a recipe by name or from a YAML file.

    Args:
        name_or_path: The name of a shipped recipe, such as "ljspeech/nanoflow", or the path of a
            YAML file, such as "my.yaml".
        overrides: Settings that take the place of the recipe's, each "key.path=value", such as
            "train.lr=1e-4" or "model.channels=32".

    Raises:
        ConfigError: No such recipe, not YAML, or an unknown, repeated or ill-fitting key.
    """
    path = recipe_path(name_or_path)
    values = _read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping with the key `model`")
    for override in overrides:
        _apply(values, override)
    shipped = path.parent.parent == recipes_folder()
    name = f"{path.parent.name}/{path.stem}" if shipped else path.stem
    try:
        return Recipe.from_dict(values, name)
    except ConfigError as error:
        # In a shipped recipe, only an override can be wrong.
        raise error if shipped else ConfigError(f"{path}: {error}") from None


def override_recipe(recipe: Recipe, overrides: Sequence[str]) -> VoiceRecipe | ImageRecipe:
    """Return a recipe with some settings changed.

    Args:
        recipe: the recipe to start from; it stays as it is.
        overrides: the settings to change, as those of `load_recipe`.

    Raises:
        ConfigError: an unknown or ill-fitting key.
    """
    values = recipe.to_dict()
    for override in overrides:
        _apply(values, override)
    return Recipe.from_dict(values)


def _read_yaml(path: Path) -> Any:
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(f"{path}: has more than {_MOST_BYTES:,} bytes, which is no recipe")
    try:
        return yaml.load(read_text(path), _PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not a recipe: too deeply nested") from None
    except VocoderError as error:
        raise ConfigError(str(error)) from None
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:  # a date of no calendar
        raise ConfigError(f"{path}: not valid YAML: {reason(error)}") from None


class _PlainLoader(yaml.SafeLoader):
    """Reads plain YAML, in which no mapping has a key twice (PyYAML takes the last).

    Aliases are refused: a few lines of them can stand for more than any memory holds.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None,
                None,
                f"*{event.anchor} is an alias, which no recipe needs; write out what it stands for",
                event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice; keep one", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {override!r}: expected key=value, such as train.lr=1e-4")
    *parents, leaf = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {key}: {parent!r} has no keys of its own")
    values[leaf] = value
