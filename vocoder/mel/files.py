"""Mel-spectrogram files of any origin: what they hold, which way round, and by which preset.

Files come from strangers, so nothing here unpickles an object or trusts a header: whatever is wrong
with a file becomes one `VocoderError` that names it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from vocoder.errors import VocoderError
from vocoder.files.arrays import npy_header, read_array, read_npz
from vocoder.files.atomic import atomic_path
from vocoder.files.tensors import open_tensors
from vocoder.files.text import read_text
from vocoder.files.torch_files import read_torch_file
from vocoder.mel.presets import MelPreset, get_preset

MEL_SUFFIXES = (".npy", ".npz", ".pt", ".safetensors")
WRITTEN_SUFFIXES = (".npz", ".safetensors", ".npy")

# A day of speech at 22.05 kHz, 80 bands in float32. More is a damaged header or an attack.
MAX_BYTES = 2**31


@dataclass(frozen=True)
class MelFile:
    """One utterance as read from a file.

    Attributes:
        mel: float32, (M, F).
        preset: what the caller, the file, its sidecar or its folder says the mel was made with;
            None where nobody says.
        name: The file's name, for messages.
    """

    mel: torch.Tensor
    preset: MelPreset | None
    name: str


def read_mel(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    n_mels: int | None = None,
    preset: MelPreset | None = None,
) -> MelFile:
    """Read one mel-spectrogram.

    A `.npz`, `.pt` or `.safetensors` file may hold other arrays too if the mel is called `mel`. The
    preset is the first of: the argument; the file's own (`preset` beside the mel in `.npz` and
    `.pt`, metadata in `.safetensors`); `"preset"` in NAME.json beside the file; `"preset"` in the
    `manifest.json` of its folder or of the one above. It is a preset's name or its full fields.

    An array of shape (F, M) is turned round where that is certain: its second axis has the number
    of bands and its first has not. A square array is taken as (M, F).

    Args:
        source: A path with a suffix of `MEL_SUFFIXES`, or an open binary file in `.npy` format.
        n_mels: number of bands expected where no preset is known; None takes the array as (M, F).
        preset: what the mel was made with, whatever the file says.

    Raises:
        VocoderError: Not a mel file, not exactly one utterance, no frames, not finite, or with
            something behind its array.
        OSError: The file cannot be opened.
    """
    own: str | Mapping[str, Any] | None = None
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        name = str(path)
        suffix = path.suffix.lower()
        if suffix not in MEL_SUFFIXES:
            known = ", ".join(MEL_SUFFIXES)
            raise VocoderError(f"{name}: not a mel file; its name should end in one of {known}")
        path.open("rb").close()  # a missing or forbidden file is an OSError, not a damaged mel
        try:
            arrays, own = _READERS[suffix](path)
            mel = _as_float32(_only_mel(arrays), name)
            if preset is None and own is not None:
                preset = _parse_preset(own)
        except VocoderError as error:
            raise VocoderError(f"{name}: {error}") from None
        except Exception as error:  # the parsers raise anything at all on hostile bytes
            raise VocoderError(
                f"{name}: not a readable {suffix} file of numbers ({_first_line(error)}); "
                "save the mel again"
            ) from None
        if preset is None:
            preset = _preset_beside(path)
    else:
        name = "standard input"
        try:
            mel = _as_float32(read_array(source, MAX_BYTES), name)
        except Exception as error:
            raise VocoderError(
                f"{name}: not an .npy array of numbers ({_first_line(error)}); "
                "send it with numpy.save"
            ) from None
        _check_end(source, name)

    bands = preset.n_mels if preset is not None else n_mels
    if mel.shape[0] != bands and mel.shape[1] == bands:
        mel = mel.T.contiguous()
    check_mel(mel, name)
    return MelFile(mel, preset, name)


def read_mel_pieces(
    source: BinaryIO, n_mels: int, name: str = "standard input"
) -> Iterator[torch.Tensor]:
    """Yield the pieces (M, f) of one mel, as they come: `.npy` arrays one after the other.

    A piece is not looked into: it may hold NaN, or another number of bands. One of shape (f, M) is
    turned round as `read_mel` does.

    Args:
        source: An open binary file; it need not be seekable.
        n_mels: Number of bands that are expected.
        name: Name of the source for messages.

    Raises:
        VocoderError: What comes is no `.npy` array of floats in two dimensions, or ends within it.
    """
    number, turned = 0, False
    while start := source.read(8):
        number += 1
        try:
            piece = _as_float32(read_array(source, MAX_BYTES, start), name)
        except Exception as error:  # numpy reads the header as Python
            raise VocoderError(
                f"{name}: array {number}: not an .npy array of numbers ({_first_line(error)}); "
                "send each piece with numpy.save"
            ) from None
        if piece.shape[1] == n_mels and (turned or piece.shape[0] != n_mels):
            turned = True  # and so will be a later piece of just M frames
            piece = piece.T.contiguous()
        yield piece


def read_mel_array(array: npt.NDArray[Any], n_mels: int, name: str) -> torch.Tensor:
    """Return an array as the mel (M, F) of an utterance, turned round as `read_mel` does.

    Args:
        array: The array as it came.
        n_mels: Bands that are expected.
        name: The name of the array, for messages.

    Raises:
        VocoderError: It is not one utterance of floats, has no frames, or is not finite.
    """
    try:
        mel = _as_float32(array, name)
    except VocoderError as error:
        raise VocoderError(f"{name}: {error}") from None
    if mel.shape[0] != n_mels and mel.shape[1] == n_mels:
        mel = mel.T.contiguous()
    check_mel(mel, name)
    return mel


def write_mel(path: str | os.PathLike[str], mel: torch.Tensor, preset: MelPreset) -> None:
    """Write one (M, F) mel as float32 `.npy`, or with its preset as `.npz` or `.safetensors`."""
    path = Path(path)
    stated = json.dumps(preset.to_dict())
    array = mel.detach().cpu().float().contiguous()
    suffix = path.suffix.lower()
    if suffix not in WRITTEN_SUFFIXES:
        raise VocoderError(f"{path}: mels are written as {', '.join(WRITTEN_SUFFIXES)}")
    # Into an open file: to a name in capitals, numpy would add its own suffix.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if suffix == ".npy":
            values = array.numpy()
            file.write(npy_header(values.dtype, values.shape))
            file.write(values.data)
        elif suffix == ".npz":
            np.savez(file, mel=array.numpy(), preset=np.array(stated))
        else:
            from safetensors.torch import save

            file.write(save({"mel": array}, metadata={"preset": stated}))


def check_mel(mel: torch.Tensor, name: str = "mel") -> None:
    """Raise a `VocoderError` unless `mel`, (…, M, F), has frames and only finite values."""
    if mel.shape[-1] == 0 or mel.numel() == 0:
        raise VocoderError(f"{name}: 0 frames (shape {tuple(mel.shape)}); there is nothing to say")
    # The two extremes tell it without a copy of an hour of mel.
    if not torch.stack(torch.aminmax(mel)).isfinite().all():
        finite = torch.isfinite(mel)
        n_bad = int((~finite).sum())
        first = int((~finite).reshape(-1, mel.shape[-1]).any(dim=0).nonzero()[0])
        raise VocoderError(
            f"{name}: NaN or infinite in {n_bad} of {mel.numel()} values, first in frame {first}; "
            "mend the model that made it"
        )


def _read_npy(path: Path) -> tuple[dict[str, Any], None]:
    with open(path, "rb") as file:
        n_bytes = os.fstat(file.fileno()).st_size
        mel = read_array(file, min(n_bytes, MAX_BYTES))
        _check_end(file)
        return {"mel": mel}, None


def _check_end(file: BinaryIO, name: str = "") -> None:
    """Raise a `VocoderError` where something follows an array, which would be left out."""
    where = f"{name}: " * bool(name)
    rest = file.read(6)
    if rest == np.lib.format.MAGIC_PREFIX:
        raise VocoderError(
            f"{where}holds a second array; give pieces of one mel to vocoder synthesize --stream, "
            "one utterance after the other to vocoder serve, or save each alone"
        )
    if rest:
        raise VocoderError(f"{where}holds more than its array; save the mel again")


def _read_npz(path: Path) -> tuple[dict[str, Any], str | None]:
    with open(path, "rb") as file:
        arrays: dict[str, Any] = read_npz(file, MAX_BYTES)
    stated = arrays.pop("preset", None)
    return arrays, None if stated is None else str(stated)


def _read_pt(path: Path) -> tuple[dict[str, Any], Any]:
    try:
        loaded = read_torch_file(path)
    except VocoderError as error:
        raise VocoderError(str(error).removeprefix(f"{path}: ")) from None
    if isinstance(loaded, torch.Tensor):
        return {"mel": loaded}, None
    if not isinstance(loaded, dict):
        raise VocoderError(f"holds a {type(loaded).__name__}; save the mel tensor alone")
    stated = loaded.get("preset")
    return {key: value for key, value in loaded.items() if key != "preset"}, stated


def _read_safetensors(path: Path) -> tuple[dict[str, Any], str | None]:
    with open_tensors(path) as file:
        metadata = file.metadata() or {}
        return {key: file.get_tensor(key) for key in file.keys()}, metadata.get("preset")  # noqa: SIM118


_READERS = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_pt,
    ".safetensors": _read_safetensors,
}


def _only_mel(arrays: dict[str, Any]) -> Any:
    if "mel" in arrays:
        return arrays["mel"]
    if len(arrays) != 1:
        keys = ", ".join(map(str, sorted(arrays, key=str)[:5])) or "none"
        raise VocoderError(f"holds {len(arrays)} arrays ({keys}); name the one to use 'mel'")
    return next(iter(arrays.values()))


def _as_float32(array: Any, name: str) -> torch.Tensor:
    """Return the array as a (rows, columns) float32 tensor, or raise a `VocoderError`."""
    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows is refused as infinite
            array = torch.from_numpy(np.ascontiguousarray(array, dtype="=f4"))
    if not isinstance(array, torch.Tensor) or not array.is_floating_point():
        kind = getattr(array, "dtype", type(array).__name__)
        raise VocoderError(f"holds {kind}, and a mel is an array of floating-point numbers")
    if array.ndim != 2:
        shape = tuple(array.shape)
        remedy = "save one utterance per file, as mel[0]" if array.ndim == 3 else "save it as such"
        raise VocoderError(f"has shape {shape}, and a mel is (bands, frames); {remedy}")
    # A strided tensor can claim any shape over one stored number.
    if array.layout != torch.strided or array.numel() * 4 > MAX_BYTES:
        raise VocoderError(f"claims shape {tuple(array.shape)}; this is not one mel")
    return array.detach().to(torch.float32).contiguous()


def _preset_beside(path: Path) -> MelPreset | None:
    sidecar = path.with_suffix(".json")
    for file in (sidecar, path.parent / "manifest.json", path.parent.parent / "manifest.json"):
        if file.is_file():
            stated = _stated_preset(file, file.stat().st_mtime_ns)
            if stated is not None:
                return stated
    return None


@lru_cache(maxsize=16)  # a corpus manifest is long, and every mel beside it asks again
def _stated_preset(file: Path, _mtime_ns: int) -> MelPreset | None:
    try:
        content = json.loads(read_text(file))
    except VocoderError:
        raise
    except (ValueError, RecursionError) as error:
        raise VocoderError(f"{file}: not JSON ({_first_line(error)}); mend or remove it") from None
    stated = content.get("preset") if isinstance(content, dict) else None
    try:
        return None if stated is None else _parse_preset(stated)
    except VocoderError as error:
        raise VocoderError(f"{file}: {error}") from None


def _parse_preset(stated: Any) -> MelPreset:
    """Return the preset of a name, of a mapping of its fields, or of such a mapping in JSON."""
    try:
        if isinstance(stated, str) and stated.lstrip().startswith("{"):
            stated = json.loads(stated)
        if isinstance(stated, Mapping):
            return MelPreset.from_dict(stated)
        if isinstance(stated, str):
            return get_preset(stated)
    except VocoderError as error:  # which may quote a name of several lines
        raise VocoderError(_first_line(error)) from None
    except (ValueError, RecursionError) as error:
        raise VocoderError(f"preset: not JSON ({_first_line(error)}); state its name") from None
    raise VocoderError(f"preset: is a {type(stated).__name__}; state its name or its fields")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
