"""Arrays out of NumPy's files, without ever unpickling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError, reason


def load_npy(path: Path) -> npt.NDArray[Any]:
    """Map an .npy file.

    Raises:
        VocoderError: it is missing, damaged or holds objects.
    """
    array = _load(path)
    if not isinstance(array, np.ndarray):
        array.close()
        raise VocoderError(f"{path}: an archive, and belongs in an .npz")
    return array


def load_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an .npz file.

    Raises:
        VocoderError: it is missing or damaged, or any of them holds objects.
    """
    archive = _load(path)
    if isinstance(archive, np.ndarray):
        raise VocoderError(f"{path}: a single array, and belongs in an .npy")
    with archive:
        try:
            return {name: archive[name] for name in archive.files}
        except Exception as error:  # as below
            raise _unreadable(path, error) from None


def _load(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise VocoderError(f"{path}: no such file") from None
    # The header is parsed as Python, and zip has ways of its own: damage shows as anything at all.
    except Exception as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> VocoderError:
    return VocoderError(f"{path}: not readable as plain arrays ({reason(error)})")
