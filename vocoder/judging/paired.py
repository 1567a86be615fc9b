"""Two models judged on the same examples: how sure the difference is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vocoder.errors import VocoderError


class PairedDifference(NamedTuple):
    """By how much one model exceeds another in a figure, with 95 % confidence.

    All examples are scored by both, so that the differences of pairs vary less than the figures.
    """

    mean: float  # NaN of no examples, and where both models have an infinite figure of one
    low: float  # ends of the interval; NaN of fewer than two examples, or if the mean is not finite
    high: float
    n_examples: int  # that have the figure of both


def paired_difference(
    scores: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64]
) -> PairedDifference:
    """Return the mean of `scores` − `baseline`, with the interval of Student's t.

    Args:
        scores: A figure of each example (n,); NaN where an example has no such figure, which leaves
            the pair out. A model that failed has an infinite figure, which counts.
        baseline: The same of the other model, in the same order.

    Raises:
        VocoderError: They are of different numbers of examples.
    """
    if scores.shape != baseline.shape:
        raise VocoderError(
            f"figures of {scores.size} examples beside those of {baseline.size}: cannot be paired; "
            "score both models on the same examples"
        )
    known = ~(np.isnan(scores) | np.isnan(baseline))
    n = int(known.sum())
    with np.errstate(invalid="ignore"):  # two infinities: which is the greater is unknown
        differences = scores[known] - baseline[known]
        mean = float(differences.mean()) if n else math.nan
    if n < 2 or not math.isfinite(mean):
        return PairedDifference(mean, math.nan, math.nan, n)
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1) * differences.std(ddof=1) / math.sqrt(n))
    return PairedDifference(mean, mean - half, mean + half, n)
