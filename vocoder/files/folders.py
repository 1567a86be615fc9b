"""The files below a folder, links to other folders followed."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger("vocoder")


@dataclass(frozen=True)
class FolderFiles:
    """What lies below a folder.

    Attributes:
        files: Relative to the folder, sorted; hidden ones and those in hidden folders left out.
        left_out: (place, reason) of each folder that was not entered.
    """

    files: tuple[Path, ...]
    left_out: tuple[tuple[str, str], ...]


def walk_files(root: Path) -> FolderFiles:
    """List the files below a folder.

    A link to a folder is followed, but no folder is entered twice: not by two ways, which would
    give every file twice, and not through a link to a folder that holds the link, which would never
    end. Of two ways, the one without a link counts.
    """
    above = {_identity(folder) for folder in root.resolve().parents}
    files: list[Path] = []
    left_out: list[tuple[str, str]] = []
    entered: dict[tuple[int, int], Path] = {}
    links: list[Path] = []
    pending = [Path()]
    while pending or links:
        # Links last, so that a folder is named by its own path where it has one below the root.
        place = pending.pop() if pending else links.pop(0)
        try:
            identity = _identity(root / place)
            if identity in above:
                left_out.append((str(place), "a link to a folder that holds this one"))
                continue
            before = entered.setdefault(identity, place)
            if before is not place:
                left_out.append((str(place), f"the same folder as {before}, which is read"))
                continue
            names = [name for name in sorted(os.listdir(root / place)) if not name.startswith(".")]
            for name in names:
                path = root / place / name
                if os.path.isdir(path):
                    (links if path.is_symlink() else pending).append(place / name)
                # A link to nothing is named as a file, for whoever opens it to tell of.
                elif os.path.isfile(path) or path.is_symlink():
                    files.append(place / name)
        except OSError as error:
            left_out.append((str(place), f"cannot be entered ({error.strerror or error})"))
    return FolderFiles(tuple(sorted(files)), tuple(sorted(left_out)))


def warn_of_left_out(
    folder: Path, found: FolderFiles, foreign: Collection[str], kind: str, remedy: str
) -> None:
    """Tell in warnings which folders were not entered, and of files that cannot be read.

    Args:
        folder: The folder that was walked.
        found: What lies below it.
        foreign: The suffixes, in small letters, of the files that cannot be read.
        kind: What such files are, such as "pictures".
        remedy: What to do with them, such as "convert them to PNG".
    """
    unread = [path for path in found.files if path.suffix.lower() in foreign]
    if unread:
        logger.warning(
            "%s: left out %d %s that cannot be read (the first: %s); %s",
            *(folder, len(unread), kind, unread[0], remedy),
        )
    for place, why in found.left_out:
        logger.warning("%s: left out: %s", folder / place, why)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts `clip9` before `clip10`."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def _identity(folder: Path) -> tuple[int, int]:
    state = os.stat(folder)
    return state.st_dev, state.st_ino
