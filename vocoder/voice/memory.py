"""One line for memory that is short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vocoder.device import lacks_memory
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
        if not lacks_memory(error):
            raise
        raise VocoderError(f"{device}: not enough memory for {work}") from None
