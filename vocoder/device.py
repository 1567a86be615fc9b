"""Where to compute."""

from __future__ import annotations

import torch

from vocoder.errors import VocoderError


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
        reason = str(error).strip().splitlines()[0]
        raise VocoderError(f"device {str(device)!r}: not usable here ({reason})") from None
    return resolved


def as_float64(x: torch.Tensor) -> torch.Tensor:
    """Return `x` in float64: on its device, or from an Apple GPU, which has none, on the CPU."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def check_dtype(device: torch.device, dtype: torch.dtype) -> None:
    """Raise a `VocoderError` for a type that a device cannot compute in."""
    if device.type == "mps" and dtype == torch.float64:
        raise VocoderError("dtype float64: Apple GPUs have none; use float32, or device 'cpu'")
