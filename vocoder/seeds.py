"""Which numbers are seeds: those that the generators of NumPy and of torch both take."""

from __future__ import annotations

import operator

from vocoder.errors import VocoderError


def check_seed(seed: int) -> int:
    """Return the seed; refuse what some generator would refuse, such as -1, 2**70 or 1.5.

    Raises:
        VocoderError: the seed is no whole number, or out of range.
    """
    try:
        seed = operator.index(seed)  # of NumPy's integers too, which torch takes for none
    except TypeError:
        raise VocoderError(f"seed {seed!r}: must be a whole number") from None
    if not 0 <= seed < 2**63:
        raise VocoderError(f"seed {seed}: must lie between 0 and 2**63 - 1")
    return seed
