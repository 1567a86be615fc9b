"""Splits that the caller states, clip by clip, in place of those that a reader draws.

A list names a clip on each line: its recording within the source, such as `digits/1.wav`, the same
without the suffix, or the clip's id. Figures of different times compare only on the same clips.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath

from vocoder.data.speech.reader import Clip, Listing, Split
from vocoder.errors import VocoderError
from vocoder.files.text import path_text, printable, read_text


def split_by_lists(listing: Listing, source: Path, lists: Mapping[Split, Path]) -> Listing:
    """Give the clips that a list names its split, and all others to the training.

    Args:
        listing: The clips of the source.
        source: Folder of their recordings.
        lists: a text file for each split but the training.

    Raises:
        VocoderError: A list cannot be read, is empty, names what is no clip or may be several, or
            names a clip that another line or list has named.
    """
    named = _names(listing, source)
    broken = {*listing.lost}
    for file, _ in listing.problems:
        broken |= {file, PurePath(file).with_suffix("").as_posix()}
    splits: dict[str, Split] = {}
    rules = []
    for split, path in lists.items():
        lines = read_list(path)
        for number, name in lines:
            fitting = named.get(name, [])
            if not fitting and name in broken:
                continue  # it is told of already
            if not fitting:
                raise VocoderError(
                    f"{path} line {number}: {name[:80]!r} is no clip of {source}; "
                    "a line is the path of a recording within that folder"
                )
            if len(fitting) > 1:
                one, other = (clip.path.relative_to(source).as_posix() for clip in fitting[:2])
                raise VocoderError(
                    f"{path} line {number}: {name[:80]!r} may be {one} or {other}; write which, "
                    "with its suffix"
                )
            identity = fitting[0].id
            if identity in splits:
                raise VocoderError(f"{path} line {number}: {name[:80]!r} is named a second time")
            splits[identity] = split
        rules.append(f"{split}: the {len(lines)} clips of {printable(path.name)}")
    clips = tuple(replace(clip, split=splits.get(clip.id, "train")) for clip in listing.clips)
    return replace(listing, clips=clips, split_rule="; ".join(rules))


def _names(listing: Listing, source: Path) -> dict[str, list[Clip]]:
    """Return the clips that each name stands for; the whole path of one is never another's name."""
    named: dict[str, list[Clip]] = {}
    for clip in listing.clips:
        recording = clip.path.relative_to(source)
        for name in {clip.id, recording.with_suffix("").as_posix()}:
            named.setdefault(name, []).append(clip)
    whole = {clip.path.relative_to(source).as_posix(): [clip] for clip in listing.clips}
    return named | whole


def read_list(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a text file that are not blank, each with its number.

    Raises:
        VocoderError: It cannot be read, see `read_text`, or has no such line.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise VocoderError(f"{path}: cannot be opened ({error.strerror or error})") from None
    lines = [
        (number, path_text(line.strip()))
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]
    if not lines:
        raise VocoderError(f"{path}: names no clip; write one on each line")
    return lines


def digest_of(path: Path) -> str:
    """Return what tells one list from another: the number of its lines, and their SHA-256.

    Raises:
        VocoderError: The list cannot be used.
    """
    names = [name for _, name in read_list(path)]
    digest = hashlib.sha256(os.fsencode("\n".join(names))).hexdigest()
    return f"{len(names)} clips, SHA-256 {digest}"
