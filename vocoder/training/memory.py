"""Errors of the many ways in which memory runs out, as one line that says what to make smaller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vocoder.device import lacks_memory
from vocoder.errors import VocoderError


@contextmanager
def enough_memory(what: str, remedy: str) -> Iterator[None]:
    """Turn an error for want of memory into one line.

    Args:
        what: what needs the memory, such as "the model".
        remedy: what the caller can do to need less.

    Raises:
        VocoderError: the memory does not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
    else:
        return
    # Out here, where the error no longer holds the frames, and with them their tensors.
    raise VocoderError(f"{what} does not fit into memory; {remedy}")
