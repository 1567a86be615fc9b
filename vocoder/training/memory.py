"""Errors of the many ways in which memory runs out, as one line that says what to make smaller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vocoder.errors import VocoderError

# What torch says in a plain RuntimeError where the memory of a CPU does not suffice, or where a
# size does not even fit into 64 bits.
_SIGNS = ("can't allocate memory", "not enough memory", "Storage size calculation overflowed")


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
    except (MemoryError, torch.OutOfMemoryError):
        pass
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _SIGNS):
            raise
    else:
        return
    raise VocoderError(f"{what} does not fit into memory; {remedy}")
