"""Which sizes a configuration may ask for: one that a file claims is not to exhaust the machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

# Far beyond every published model. Dilations double from layer to layer, and 2³² columns are days.
_MOST = {
    "n_layers": 32,
    "prior_layers": 32,
    "n_flows": 256,
    "n_steps": 256,
    "n_blocks": 256,
    "n_levels": 16,
}
_MOST_OF_OTHERS = 2**16  # channels, bands, samples and pixels
_MOST_STRIDES = 16


def check_sizes(config: Any, *names: str) -> None:
    """Refuse sizes of a configuration that are not positive, or that no machine could hold.

    Args:
        config: The configuration whose fields are checked.
        names: The names of its fields that are sizes.

    Raises:
        ValueError: One is out of bounds.
    """
    for name in names:
        value = getattr(config, name)
        most = _MOST.get(name, _MOST_OF_OTHERS)
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
        if value > most:
            raise ValueError(f"{name} must be at most {most}, got {value:.6g}")


def check_strides(strides: Sequence[int]) -> None:
    """Refuse strides of an upsampler that no hop length has.

    Raises:
        ValueError: There are none or too many, one is not positive, or their product, which is the
            hop length, is too large.
    """
    if not strides or min(strides) < 1:
        raise ValueError(f"upsample_strides must be positive, got {tuple(strides)}")
    if len(strides) > _MOST_STRIDES or math.prod(strides) > _MOST_OF_OTHERS:
        raise ValueError(
            f"upsample_strides must be at most {_MOST_STRIDES}, and their product, the hop length, "
            f"at most {_MOST_OF_OTHERS}"
        )
