"""What text-to-mel models do to their mels, undone: z-scores of each band, and other logarithms."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vocoder.errors import VocoderError, reason
from vocoder.files.arrays import load_npy, load_npz
from vocoder.files.text import read_text
from vocoder.mel.convert import convert_mel
from vocoder.mel.presets import MelPreset

Scale = Literal["db", "log10", "ln"]
STATS_SUFFIXES = (".npz", ".npy", ".h5", ".json")


@dataclass(frozen=True)
class MelStats:
    """The mean and standard deviation that z-scores were made with.

    Attributes:
        mean: Mean of each band, (M,).
        scale: Standard deviation of each band, (M,).
    """

    mean: Tensor
    scale: Tensor

    def undo(self, mel: Tensor) -> Tensor:
        """Return the mel (M, F) of z-scores (M, F).

        Raises:
            VocoderError: There is another number of bands.
        """
        if mel.shape[-2] != len(self.mean):
            raise VocoderError(
                f"mel has {mel.shape[-2]} bands, the statistics have {len(self.mean)}"
            )
        return mel * self.scale.to(mel)[:, None] + self.mean.to(mel)[:, None]


def read_mel_stats(path: str | Path) -> MelStats:
    """Read the mean and scale of each band.

    Args:
        path: An .npz, .h5 or .json file with `mean` and `scale`, or an .npy file (2, M) that holds
            the means above the scales: what compute_statistics of ParallelWaveGAN writes.

    Raises:
        VocoderError: It is no such file, or a scale is not positive.
    """
    path = Path(path)
    if path.suffix not in STATS_SUFFIXES:
        raise VocoderError(f"{path}: statistics end in one of {', '.join(STATS_SUFFIXES)}")
    try:
        named = _READERS[path.suffix](path)
        mean, scale = (np.array(named[key], np.float64).ravel() for key in ("mean", "scale"))
    except (VocoderError, OSError):
        raise
    except KeyError as error:
        raise VocoderError(f"{path}: lacks {error}; it should hold `mean` and `scale`") from None
    except Exception as error:  # the parsers raise anything on damaged bytes
        raise VocoderError(f"{path}: not readable as statistics ({reason(error)})") from None
    fits = mean.shape == scale.shape and len(mean) and np.isfinite([mean, scale]).all()
    if not fits or not (scale > 0).all():
        raise VocoderError(
            f"{path}: has {len(mean)} means and {len(scale)} scales; they should be as many, "
            "finite, and the scales positive"
        )
    return MelStats(torch.from_numpy(mean), torch.from_numpy(scale))


def _read_npy(path: Path) -> dict[str, Any]:
    array = load_npy(path)
    if array.ndim != 2 or array.shape[0] != 2:
        raise VocoderError(f"{path}: has shape {array.shape}; the statistics are (2, bands)")
    return {"mean": array[0], "scale": array[1]}


def _read_h5(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError:
        raise VocoderError(f"{path}: needs h5py; run: pip install h5py") from None
    content = path.read_bytes()  # so that only damage is left for h5py to raise an OSError about
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            # The sizes are known before any value is read.
            if any(file[key].size > 1 << 16 for key in ("mean", "scale")):
                raise ValueError("more values than a mel has bands")
            return {key: file[key][()] for key in ("mean", "scale")}
    except OSError as error:
        raise ValueError(str(error)) from None


_READERS = {
    ".npz": load_npz,
    ".npy": _read_npy,
    ".h5": _read_h5,
    ".json": lambda path: dict(json.loads(read_text(path))),
}


def rescale_mel(mel: Tensor, preset: MelPreset, scale: Scale) -> Tensor:
    """Return a mel by a preset, of one that differs from it in the logarithm alone.

    Args:
        mel: The mel (M, F), whose values are 20 times the decimal logarithm of amplitudes (10 times
            that of powers, where the preset takes those) for "db", or else a bare logarithm.
        preset: The preset that the mel would be of, but for the logarithm.
        scale: What stands in `mel`.

    Raises:
        VocoderError: The mel has another number of bands.
    """
    factor = {"db": 10.0 if preset.spectrum == "power" else 20.0}.get(scale, 1.0)
    log: Literal["ln", "log10"] = "ln" if scale == "ln" else "log10"
    floor = preset.floor or float(torch.finfo(torch.float32).tiny)
    source = dataclasses.replace(
        preset, name=f"{preset.name} in {scale}", log=log, floor=floor, scale=factor, shift=0.0,
        clip=None,
    )  # fmt: skip
    return convert_mel(mel, source, preset)
