"""What a training run tells the person who started it, on standard error."""

from __future__ import annotations

import sys


def notice(message: str) -> None:
    """Print one line on standard error, where progress goes too."""
    print(f"vocoder: {message}", file=sys.stderr, flush=True)
