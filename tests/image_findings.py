"""What a report of an image model may have to show, hostile texts and damaged figures included."""

from __future__ import annotations

import numpy as np
from comparisons import HOSTILE

from vocoder.judging.report.image_findings import Drawing, ImageFindings, ScoredImage


def made_up_findings(n_examples: int = 3) -> ImageFindings:
    """Return findings of ten images, one of which cost infinitely many bits."""
    random = np.random.default_rng(0)
    bits = np.sort(random.normal(3, 0.5, 10))[::-1].copy()
    bits[0] = np.inf
    picture = random.integers(256, size=(8, 8, 3), dtype=np.uint8)
    scored = [ScoredImage(int(place), float(bits[place]), picture) for place in range(10)]
    steps = np.arange(50.0, 1001, 50)
    fall = 3 + 5 * np.exp(-steps / 100)
    return ImageFindings(
        name=HOSTILE,
        figures={"data": f"data {HOSTILE}", "bits/dim at 1x8x8": 3.25, "inversion error": 2e-6},
        bits=bits,
        dearest=scored[:n_examples],
        cheapest=scored[::-1][:n_examples],
        drawings=[Drawing(f"{name} {HOSTILE}", HOSTILE, picture) for name in ("one", "two")],
        curves={"training": (steps, fall), "validation": (steps[::4], fall[::4] + 0.1)},
    )
