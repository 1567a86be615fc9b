"""One line for memory that is short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vocoder.errors import VocoderError


@contextmanager
def telling_of_memory(device: torch.device, work: str) -> Iterator[None]:
    """Say in one line that memory was short, and what to do.

    Args:
        device: The device whose memory it is.
        work: "NOUN; REMEDY", which the line ends with.

    Raises:
        VocoderError: an allocation failed in the block.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _lacks_memory(error):
            raise
        raise VocoderError(f"{device}: not enough memory for {work}") from None


def _lacks_memory(error: Exception) -> bool:
    """Whether an allocation failed; torch has no type of its own for it on a CPU."""
    full = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return full or "can't allocate memory" in str(error)
