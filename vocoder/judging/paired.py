"""Two models judged on the same examples: how sure the difference is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class PairedDifference(NamedTuple):
    """By how much one model exceeds another in a figure, with 95 % confidence.

    All examples are scored by both, so that the differences of pairs vary less than the figures.
    """

    mean: float  # NaN of no examples
    low: float  # ends of the interval; NaN of fewer than two examples
    high: float
    n_examples: int  # that have the figure of both


def paired_difference(
    scores: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64]
) -> PairedDifference:
    """Return the mean of `scores` − `baseline`, with the interval of Student's t.

    Args:
        scores: A figure of each example (n,); NaN where an example has none.
        baseline: The same of the other model, in the same order.
    """
    differences = scores - baseline
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    mean = float(differences.mean()) if n else math.nan
    if n < 2 or math.isinf(mean):
        return PairedDifference(mean, math.nan, math.nan, n)
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1) * differences.std(ddof=1) / math.sqrt(n))
    return PairedDifference(mean, mean - half, mean + half, n)
