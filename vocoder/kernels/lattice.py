"""The inverse of `flows.linear_prediction` on a CPU: one loop over samples and stages.

It is `flows.linear_prediction.synthesise`, which defines it, without the matrices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def synthesise_on_cpu(z: Floats, reflections: Floats, deviations: Floats, state: Floats) -> Floats:
    """Map the excitation of one item to sound.

    Args:
        z: The excitation (N,), float32 or float64, N = T · block length.
        reflections: Reflection coefficients (T, p) of each block, of the type of z.
        deviations: The deviation of the sound at each sample, (N,), likewise.
        state: The state (p,) of the lattice before the first sample, likewise; it becomes that
            after the last.

    Returns:
        The sound (N,).
    """
    cosines = np.sqrt((1 - reflections) * (1 + reflections))
    sound = np.empty_like(z)
    _loop()(z, reflections, cosines, deviations, state, sound)
    return sound


@functools.cache
def _loop() -> Callable[..., None]:
    """Return the compiled loop, from a cache where one can be kept: compiling it takes a second."""
    import numba

    compiled = functools.partial(numba.njit, nogil=True, error_model="numpy", fastmath={"contract"})
    try:
        return compiled(cache=True)(_samples)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder of a cache can be written to
        return compiled()(_samples)  # type: ignore[no-any-return]


def _samples(z: Any, k: Any, c: Any, deviations: Any, state: Any, sound: Any) -> None:
    n_blocks, order = k.shape
    length = len(z) // n_blocks
    for n in range(len(z)):
        block = n // length
        f = z[n]
        for stage in range(order - 1, -1, -1):
            b = state[stage]
            if stage + 1 < order:
                state[stage + 1] = k[block, stage] * f + c[block, stage] * b
            f = c[block, stage] * f - k[block, stage] * b
        if order:
            state[0] = f
        sound[n] = deviations[n] * f
