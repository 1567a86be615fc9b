"""Readers of corpora: what a source of recordings holds, and how it is split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from vocoder.errors import VocoderError
from vocoder.registry import Registry

# The validation clips are for choosing settings and checkpoints, the test clips for the last word.
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Clip:
    """One recording of a source."""

    id: str
    path: Path
    split: Split
    mel: Path | None = None  # the mel given with it, in place of its own


@dataclass(frozen=True)
class Listing:
    """What a reader found: clips, the rule of their split in words, and lines it could not use."""

    clips: tuple[Clip, ...]
    split_rule: str
    problems: tuple[tuple[str, str], ...] = ()  # (file, reason)
    lost: frozenset[str] = frozenset()  # ids of clips that have no recording


# A reader takes the source folder, how many clips to hold out for the test (None: its default) and
# the seed of a random split. It opens no audio.
Reader = Callable[[Path, "int | None", int], Listing]


R = TypeVar("R", bound=Reader)
DATASETS: Registry[Reader] = Registry("corpus", "vocoder.data.speech.readers")


def register_dataset(name: str) -> Callable[[R], R]:
    """Decorator of a reader: make it known to `vocoder preprocess` as `name`.

    Raises:
        ConfigError: The name is taken.
    """

    def register(reader: R) -> R:
        DATASETS.register(reader, name)
        return reader

    return register


def is_safe_id(identity: str) -> bool:
    """Tell whether a name is fit for a file: it cannot leave its folder, hide, or be too long."""
    fits = len(identity.encode("utf-8", "surrogateescape")) <= 200
    return fits and re.fullmatch(r"\w[\w.~ -]*", identity) is not None


def n_test_clips(n_clips: int, wanted: int | None, source: Path) -> int:
    """Return how many of `n_clips` clips are held out for the test; by default a tenth, rounded up.

    Raises:
        VocoderError: that would leave nothing to train with, or nothing to test with.
    """
    n_test = -(-n_clips // 10) if wanted is None else wanted
    if n_clips < 2:
        raise VocoderError(
            f"{source}: has {n_clips} usable clips; at least 2 are needed, one for the test"
        )
    if not 1 <= n_test < n_clips:
        raise VocoderError(
            f"test_clips: {n_test} of the {n_clips} clips in {source}; "
            f"choose 1 to {n_clips - 1}, or leave it out for a tenth"
        )
    return n_test


def first_ids(ids: Iterable[str], n_test: int) -> set[str]:
    """Return the `n_test` ids that come first in sorted order."""
    return set(sorted(ids)[:n_test])


def random_ids(ids: Iterable[str], n_test: int, seed: int) -> set[str]:
    """Return `n_test` ids drawn by `seed`; a clip added to the source moves few others."""

    def rank(identity: str) -> bytes:
        return hashlib.sha256(f"{seed}/{identity}".encode("utf-8", "surrogateescape")).digest()

    return set(sorted(ids, key=rank)[:n_test])
