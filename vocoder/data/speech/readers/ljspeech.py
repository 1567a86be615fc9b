"""LJSpeech (Ito and Johnson, 2017), and any corpus in its shape.

    metadata.csv       id|text|normalised text; or with tabs, semicolons or commas; or ids alone
    wavs/ID.wav        or ID.flac

The published split of NanoFlow and WaveFlow takes the ids in sorted order: the first 1310 of 13,100
are the test, the rest the training. Their code puts one clip into both; here it is a test clip.
"""

from __future__ import annotations

import logging
from pathlib import Path

from vocoder.data.speech.reader import (
    Clip,
    Listing,
    first_ids,
    is_safe_id,
    n_test_clips,
    register_dataset,
)
from vocoder.errors import VocoderError
from vocoder.files.text import decode_text

logger = logging.getLogger("vocoder")


@register_dataset("ljspeech")
def read_ljspeech(source: Path, test_clips: int | None, seed: int) -> Listing:
    """List the clips of `source`, the folder that holds metadata.csv and wavs.

    Args:
        source: Such as LJSpeech-1.1.
        test_clips: Length of the test; None: a tenth, 1310 of the real corpus.
        seed: Not used, the split is fixed.

    Raises:
        VocoderError: The folder is of another shape, or too few clips are listed.
    """
    metadata = source / "metadata.csv"
    try:
        content = metadata.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise VocoderError(
            f"{metadata}: not found; give the folder that holds metadata.csv and wavs/, such as "
            "LJSpeech-1.1, or read a plain folder with `preprocess wavs`"
        ) from None
    ids, problems = parse_metadata(decode_text(content, str(metadata)))
    paths = {}
    for identity in ids:
        candidates = (source / "wavs" / f"{identity}{suffix}" for suffix in (".wav", ".flac"))
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            problems.append((f"wavs/{identity}.wav", "listed in metadata.csv but not there"))
        else:
            paths[identity] = path
    if not paths:
        first = f", such as {ids[0][:80]!r}," if ids else ""
        raise VocoderError(
            f"{source}: none of the {len(ids)} clips in metadata.csv{first} is in wavs/ as .wav or "
            ".flac"
        )
    n_test = n_test_clips(len(ids), test_clips, source)
    test = first_ids(ids, n_test)
    clips = tuple(
        Clip(identity, path, "test" if identity in test else "train")
        for identity, path in sorted(paths.items())
    )
    rule = f"test: the first {n_test} of {len(ids)} ids in sorted order"
    return Listing(clips, rule, tuple(problems), frozenset(ids) - paths.keys())


# Tried in this order where no line has the usual bar: a text holds commas sooner than tabs.
_SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}


def parse_metadata(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the ids of metadata.csv, and (line, reason) of every line that cannot be used.

    Only the id matters to a vocoder, so that the number of text columns is free, and a file of ids
    alone will do; but where other lines have columns, a line without any is broken. Another
    separator than `|` is told of in a warning. An id that could leave the folder wavs is refused.
    """
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    separator = _separator([line for _, line in lines])
    ids: dict[str, int] = {}
    problems = []
    for number, line in lines:
        identity, bar, _ = line.partition(separator) if separator else (line, "", "")
        identity = identity.strip().strip('"')
        reason = None
        if separator and not bar:
            reason = f"has no `{separator}`; a line is `id|text|normalised text`"
        elif not is_safe_id(identity):
            reason = f"id {identity[:40]!r} is not fit for a file name"
        elif identity in ids:
            reason = f"id {identity!r} is already on line {ids[identity]}"
        if reason:
            problems.append((f"metadata.csv line {number}", reason))
        else:
            ids[identity] = number
    return list(ids), problems


def _separator(lines: list[str]) -> str:
    """Return what divides the columns: `|`, else what every line has, else nothing."""
    if any("|" in line for line in lines):
        return "|"
    for separator, name in _SEPARATORS.items():
        if lines and all(separator in line for line in lines):
            logger.warning("metadata.csv: no line has `|`; taken for columns between %s", name)
            return separator
    logger.warning("metadata.csv: no line has `|`; taken for a list of ids alone")
    return ""
