"""Which numbers are seeds: those that the generators of NumPy and of torch both take."""

from __future__ import annotations

from vocoder.errors import VocoderError


def check_seed(seed: int) -> None:
    """Refuse what some generator would refuse, such as -1 or 2**70.

    Raises:
        VocoderError: the seed is out of range.
    """
    if not 0 <= seed < 2**63:
        raise VocoderError(f"seed {seed}: must lie between 0 and 2**63 - 1")
