"""Checkpoints: one safetensors file that describes itself and can only name what it needs.

The header holds one JSON text with the model's name and configuration, the mel preset and its
fingerprint or a description of the images, the recipe, what was changed of it during training, step
and metrics. Tensors under `model.` are the weights to use (the averaged ones, if the training
averages); those under `training.` serve only to resume.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

import vocoder
from vocoder.config import ConfigError, from_dict, to_dict
from vocoder.data.images.description import ImageDescription
from vocoder.errors import VocoderError, reason
from vocoder.files.atomic import atomic_path
from vocoder.files.tensors import open_tensors
from vocoder.mel.presets import MelPreset
from vocoder.models.families.filling import empty_model, fill
from vocoder.models.families.flow import FlowModel
from vocoder.registry import find_model, name_of

FORMAT = 1
_KEY = "vocoder"
_OF_RUN = re.compile(r"checkpoint-[0-9]{9,}\.safetensors")  # what `training_path` names
# Of the header's entries that nothing else checks.
_TYPES: dict[str, Any] = {
    "recipe": (dict, type(None)),
    "changes": list,
    "step": int,
    "metrics": dict,
    "versions": dict,
    "training": dict,
}

DataDescription = MelPreset | ImageDescription


class DamagedFileError(VocoderError):
    """A file that was a checkpoint, or was to become one, and is not whole."""


@dataclass
class TrainingState:
    """What resuming needs beyond the model: tensors, and plain values for the header."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """A loaded checkpoint; `model` is in eval mode."""

    path: Path
    model: FlowModel
    model_name: str
    data: DataDescription  # what the model was trained on: mels of a preset, or images
    recipe: dict[str, Any] | None
    changes: list[dict[str, Any]]  # of the recipe, each with the step that it was made at
    step: int
    metrics: dict[str, float]
    versions: dict[str, str]

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    @property
    def preset(self) -> MelPreset:
        """The mels of a voice.

        Raises:
            VocoderError: the model is one of images.
        """
        if isinstance(self.data, MelPreset):
            return self.data
        raise VocoderError(
            f"{self.path}: a {self.model_name} of images is not a voice and makes no sound; "
            "`vocoder sample` makes pictures with it"
        )

    @property
    def images(self) -> ImageDescription:
        """The images of an image model.

        Raises:
            VocoderError: the model is a voice.
        """
        if isinstance(self.data, ImageDescription):
            return self.data
        raise VocoderError(
            f"{self.path}: a {self.model_name} is a voice and knows no images; "
            "`vocoder synthesize` speaks with it"
        )


def save(
    path: str | Path,
    model: FlowModel,
    data: DataDescription,
    *,
    recipe: Mapping[str, Any] | None = None,
    changes: Sequence[Mapping[str, Any]] = (),
    step: int = 0,
    metrics: Mapping[str, float] | None = None,
    training: TrainingState | None = None,
) -> None:
    """Write a checkpoint; the file appears whole or not at all.

    Args:
        path: The file to make or to replace.
        model: the model with the weights to use.
        data: what the model was trained on.
        recipe: what `Recipe.to_dict` gave.
        changes: what was changed of the recipe during training, and at which steps.
        step: optimiser steps that the weights have seen.
        metrics: scores by name, of the latest evaluation.
        training: what resuming needs; None for a checkpoint that is only used.

    Raises:
        VocoderError: The model is folded, and what it was folded from cannot be told from it.
        OSError: The folder cannot be written to, or the disk is full.
    """
    if model.is_folded:
        raise VocoderError(
            f"{path}: the model is folded for inference, as that of a voice is; save the model "
            "that it was folded from, such as `vocoder.checkpoint.load` returns it"
        )
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    header: dict[str, Any] = {
        "format": FORMAT,
        "model": name_of(model),
        "config": to_dict(model.config),
        **_describe(data),
        "recipe": recipe,
        "changes": [dict(change) for change in changes],
        "step": step,
        "metrics": dict(metrics or {}),
        "versions": {
            "vocoder": vocoder.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    if training is not None:
        tensors |= {f"training.{name}": tensor for name, tensor in training.tensors.items()}
        header["training"] = training.values
    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(whole, temporary, {_KEY: json.dumps(header)})
        except safetensors.SafetensorError as error:
            raise _write_error(error, path) from None


def _write_error(error: Exception, path: str | Path) -> OSError:
    """Return what safetensors tells in words, such as that the disk is full, as Python does."""
    number = re.search(r"\b(?:os error|code:) (\d+)", str(error))
    if number is None:
        return OSError(f"{path}: cannot be written: {reason(error)}")
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))


def _describe(data: DataDescription) -> dict[str, Any]:
    if isinstance(data, MelPreset):
        return {"preset": data.to_dict(), "fingerprint": data.fingerprint}
    return {"images": to_dict(data)}


def _read_description(header: Mapping[str, Any]) -> DataDescription:
    if "images" in header:
        return from_dict(ImageDescription, header["images"], "images")
    preset = MelPreset.from_dict(header["preset"])
    if preset.fingerprint != header.get("fingerprint"):
        raise ConfigError("the mel preset does not fit its fingerprint; the file was altered")
    return preset


def is_of_images(path: str | Path) -> bool:
    """Return whether a checkpoint file or run folder is that of an image model.

    Raises:
        VocoderError: There is no such file, or it is not a checkpoint of ours.
    """
    return "images" in read_header(find_checkpoint(path))


def find_checkpoint(path: str | Path) -> Path:
    """Return the file that `path` means: itself, or of a run folder the best or newest.

    Raises:
        VocoderError: There is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise VocoderError(f"{path}: no such checkpoint file or run folder")
    best = path / "best.safetensors"
    if best.is_file():
        return best
    newest = newest_checkpoint(path)
    if newest is None:
        raise VocoderError(
            f"{path}: holds no checkpoint (best.safetensors, checkpoint-000000100.safetensors); "
            "name the file itself if it has another name"
        )
    return newest


def newest_checkpoint(run_dir: Path) -> Path | None:
    """Return the training checkpoint of `run_dir` with the highest step, if there is one."""
    return next(reversed(training_checkpoints(run_dir)), None)


def training_checkpoints(run_dir: Path) -> list[Path]:
    """Return the training checkpoints of `run_dir` in the order of their steps.

    They are told by their whole names: a copy under another name is its owner's affair.
    """
    paths = run_dir.glob("checkpoint-*.safetensors")
    return sorted((path for path in paths if _OF_RUN.fullmatch(path.name)), key=step_of)


def step_of(path: Path) -> int:
    """Return the step of one of the `training_checkpoints`."""
    return int(path.stem.partition("-")[2])


def training_path(run_dir: Path, step: int) -> Path:
    """Return where the training checkpoint of a step lies in `run_dir`."""
    return run_dir / f"checkpoint-{step:09d}.safetensors"


def load(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Load the model of a checkpoint, from a file or a run folder.

    Raises:
        VocoderError: No such file, truncated, not a checkpoint of ours, or one whose tensors do not
            fit the model that it names.
    """
    path = find_checkpoint(path)
    header = read_header(path)
    try:
        model_class, config_class = find_model(str(header["model"]))
        config = from_dict(config_class, header["config"], "config")
        data = _read_description(header)
    except ConfigError as error:
        raise VocoderError(f"{path}: {error}") from None
    except KeyError as error:
        raise VocoderError(f"{path}: the header lacks {error}; write the checkpoint anew") from None
    shape = data.shape if isinstance(data, ImageDescription) else None
    if getattr(config, "image_shape", None) != shape:
        raise VocoderError(f"{path}: what it was trained on does not fit a {header['model']}")
    tensors = read_tensors(path, "model.", device)
    try:
        model = fill(empty_model(model_class, config, len(tensors)), tensors)
    except ValueError as error:
        raise VocoderError(f"{path}: {error}") from None
    return Checkpoint(
        path=path,
        model=model,
        model_name=header["model"],
        data=data,
        recipe=header.get("recipe"),
        changes=list(header.get("changes", [])),
        step=int(header.get("step", 0)),
        metrics=dict(header.get("metrics", {})),
        versions=dict(header.get("versions", {})),
    )


def load_training(path: Path, device: str | torch.device) -> TrainingState:
    """Load what resuming needs from a checkpoint.

    Raises:
        VocoderError: The file holds only a voice.
    """
    header = read_header(path)
    if "training" not in header:
        raise VocoderError(
            f"{path}: holds a model without its training state; use --init-from to start from it"
        )
    return TrainingState(read_tensors(path, "training.", device), header["training"])


def read_header(path: Path) -> dict[str, Any]:
    """Return the JSON header of a checkpoint.

    Raises:
        VocoderError: Not a whole checkpoint of ours, or one of a later format.
    """
    try:
        with open_tensors(path) as file:
            text = (file.metadata() or {}).get(_KEY)
    except safetensors.SafetensorError as error:
        foreign = _foreign_kind(path)
        if foreign is not None:
            raise VocoderError(f"{path}: {foreign}") from None
        raise DamagedFileError(
            f"{path}: not a whole safetensors file ({error}); copy it again"
        ) from None
    if text is None:
        raise VocoderError(
            f"{path}: not a vocoder checkpoint; `vocoder import` reads the published ones"
        )
    try:
        header = json.loads(text)
        known = header["format"] == FORMAT
        whole = not known or _is_whole(header)
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise DamagedFileError(f"{path}: the header is damaged; copy the file again")
    if not known:
        raise VocoderError(
            f"{path}: format {header['format']!r} is not {FORMAT}; upgrade vocoder to read it"
        )
    return dict(header)


def _is_whole(header: Mapping[str, Any]) -> bool:
    return (
        all(isinstance(header[key], kind) for key, kind in _TYPES.items() if key in header)
        and all(isinstance(value, int | float) for value in header.get("metrics", {}).values())
        and all(isinstance(change, dict) for change in header.get("changes", []))
    )


def _foreign_kind(path: Path) -> str | None:
    """Say what a file is that begins as a file of another program, and what to do with it."""
    with open(path, "rb") as file:
        start = file.read(8)
    published = "convert a published checkpoint with `vocoder import`"
    # A model of ONNX begins with the version of its format and the name of its producer.
    if path.suffix.lower() == ".onnx" or (start[:1] == b"\x08" and start[2:3] == b"\x12"):
        return (
            "an ONNX graph, which onnxruntime runs (docs/onnx.md); name the checkpoint that it was "
            "exported from"
        )
    kinds = {
        b"PK": f"a zip archive, as torch.save and numpy write; {published}",
        b"\x80": f"a pickle, as torch.save writes; {published}",
        b"\x93NUMPY": "an array of numpy, such as a mel; name a voice",
        b"\x89HDF": f"an HDF5 file, as Keras writes; {published}",
        b"RIFF": "a recording; name a voice",
    }
    # Two bytes could begin a checkpoint of ours too: the length of its header.
    is_ours = start[4:] == bytes(4) and path.suffix == ".safetensors"
    return next(
        (kind for mark, kind in kinds.items() if start.startswith(mark) and not is_ours), None
    )


def read_tensors(path: Path, prefix: str, device: str | torch.device) -> dict[str, Tensor]:
    """Return the tensors whose name starts with `prefix`, without it."""
    with open_tensors(path, str(device)) as file:
        return {
            # Cloned, since a view of the file is not aligned as fresh memory is: it could compute
            # other last bits, and would change or crash with the file.
            name.removeprefix(prefix): file.get_tensor(name).clone()
            for name in file.keys()  # noqa: SIM118 (not a dict)
            if name.startswith(prefix)
        }


def first_non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of a tensor that holds an infinity or NaN, if there is one."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)
