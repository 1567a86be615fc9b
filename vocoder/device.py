"""Where to compute, and in which type."""

from __future__ import annotations

import re
from functools import cache

import torch

from vocoder.config import suggest
from vocoder.errors import VocoderError

# What torch says in a plain RuntimeError where the memory of a CPU does not suffice, or where a
# size does not even fit into 64 bits.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "Storage size calculation overflowed")
AUTO = "auto"
_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return the device of that name, or for None a GPU where there is one.

    Raises:
        VocoderError: there is no such device here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).item()  # a meta device holds no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # Torch lists what else it could compute with, in a kilobyte.
        reason = re.split(r"[.\n]\s", str(error).strip() + "\n ")[0][:120]
        raise VocoderError(f"device {str(device)!r}: not usable here ({reason})") from None
    return resolved


def as_float64(x: torch.Tensor) -> torch.Tensor:
    """Return `x` in float64: on its device, or from an Apple GPU, which has none, on the CPU."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """Return the floating-point type of that name; None and "auto" are float32."""
    if dtype is None or dtype == AUTO:
        return torch.float32
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        known = (*_DTYPES, AUTO)
        raise VocoderError(f"dtype {name!r}: not one of {', '.join(known)}{suggest(name, known)}")
    return _DTYPES[name]


@cache
def multiplies_bf16() -> bool:
    """Tell whether this CPU multiplies bfloat16 many times as fast as float32, by AMX.

    AVX-512's dot products of bfloat16 do not suffice: with those alone, a layer of 64 channels took
    as long to train as in float32.
    """
    return bool(torch.backends.mkldnn.is_available() and torch.cpu._is_amx_tile_supported())


def check_dtype(device: torch.device, dtype: torch.dtype) -> None:
    """Raise a `VocoderError` for a type that a device cannot compute in."""
    if device.type == "mps" and dtype == torch.float64:
        raise VocoderError("dtype float64: Apple GPUs have none; use float32, or device 'cpu'")


def lacks_memory(error: Exception) -> bool:
    """Tell whether an error is for want of memory; torch has no type of its own for a CPU's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)
