"""Dictionaries of arrays and plain values out of pickles that nobody vouches for.

Data sets of Python 2's days are pickles. Loading one with `pickle.load` runs whatever it names;
even allowing numpy's own functions is not safe, since an array or dtype takes any state on faith.
Here the few names such files need stand for small objects of ours, and arrays are built from their
parts afterwards.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError, reason


def load_arrays(content: bytes, where: str | Path) -> dict[str, Any]:
    """Return a pickled dictionary, with its keys as text and its arrays as numpy's.

    Args:
        content: Content of the file; protocols 0 to 4 of Python 2 or 3.
        where: Name of the file for messages.

    Raises:
        VocoderError: it is damaged, or names anything but numeric arrays and plain values.
    """
    try:
        stream = io.BytesIO(content)
        refuse_large_memo(stream, len(content))
        loaded = _Unpickler(stream, encoding="bytes").load()
        if not isinstance(loaded, dict):
            raise pickle.UnpicklingError(f"holds a {type(loaded).__name__}, not a dictionary")
        return {_text(key): _finished(value) for key, value in loaded.items()}
    except Exception as error:  # pickle's machine meets damage with almost any
        raise VocoderError(f"{where}: not a pickle of plain arrays ({reason(error)})") from None


def refuse_large_memo(stream: BinaryIO, n_bytes: int) -> None:
    """Refuse a memo index beyond the file's length, for which Python would allocate gigabytes.

    Args:
        stream: Stream that stands where the pickle starts; it stands there again afterwards.
        n_bytes: length of the file.

    Raises:
        pickle.UnpicklingError: there is such an index.
    """
    start = stream.tell()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > n_bytes:
            raise pickle.UnpicklingError(f"it claims {argument} memo entries")
    stream.seek(start)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


class _Global:
    """What a name in a pickle stands for: callable once, and without attributes to set."""

    __slots__ = ("_make",)

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it sets the state of a name")


class _Dtype:
    """A number's type: its code, and in the state its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _text(code)
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def finished(self) -> np.dtype[Any]:
        if not re.fullmatch(r"[biuf]\d{1,2}", self.code) or self.order not in tuple("<>|="):
            raise pickle.UnpicklingError(f"it holds an array of type {self.code!r}, not of numbers")
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """An array's state: version, shape, type, whether columns come first, bytes."""

    __slots__ = ("state",)

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def finished(self) -> npt.NDArray[Any]:
        _, shape, dtype, columns_first, content = self.state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it holds an array of something else than numbers")
        if not all(type(length) is int and length >= 0 for length in shape):
            raise pickle.UnpicklingError(f"it holds an array of shape {shape}")
        values = np.frombuffer(content, dtype.finished())
        if values.size != math.prod(shape):
            raise pickle.UnpicklingError(f"it holds {values.size} values in shape {shape}")
        return values.reshape(shape, order="F" if columns_first else "C")


def _encode(text: str, encoding: str) -> bytes:
    """Stand for _codecs.encode, in which Python 3 wraps bytes for protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes as {encoding!r}")
    return text.encode("latin1")


_ARRAY = _Global(_Array)
_ALLOWED: dict[tuple[str, str], _Global] = {
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _Global(_Dtype),
    ("_codecs", "encode"): _Global(_encode),
}


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _finished(value: Any) -> Any:
    return value.finished() if isinstance(value, _Array) else value
