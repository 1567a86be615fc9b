"""LJSpeech (Ito and Johnson, 2017), and any corpus in its shape.

    metadata.csv       id|text|normalised text
    wavs/ID.wav        or ID.flac

The published split of NanoFlow and WaveFlow takes the ids in sorted order: the first 1310 of 13,100
are the test, the rest the training. Their code puts one clip into both; here it is a test clip.
"""

from __future__ import annotations

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


@register_dataset("ljspeech")
def read_ljspeech(source: Path, test_clips: int | None, seed: int) -> Listing:
    """List the clips of `source`, the folder that holds metadata.csv and wavs.

    Args:
        source: such as LJSpeech-1.1.
        test_clips: length of the test; None: a tenth, 1310 of the real corpus.
        seed: not used, the split is fixed.

    Raises:
        VocoderError: the folder is of another shape, or too few clips are listed.
    """
    metadata = source / "metadata.csv"
    try:
        content = metadata.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise VocoderError(
            f"{metadata}: not found; give the folder that holds metadata.csv and wavs/, such as "
            "LJSpeech-1.1, or read a plain folder with `preprocess wavs`"
        ) from None
    ids, problems = parse_metadata(content)
    paths = {}
    for identity in ids:
        candidates = (source / "wavs" / f"{identity}{suffix}" for suffix in (".wav", ".flac"))
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            problems.append((f"wavs/{identity}.wav", "listed in metadata.csv but not there"))
        else:
            paths[identity] = path
    if not paths:
        raise VocoderError(f"{source}: none of the {len(ids)} clips in metadata.csv is in wavs/")
    n_test = n_test_clips(len(ids), test_clips, source)
    test = first_ids(ids, n_test)
    clips = tuple(
        Clip(identity, path, "test" if identity in test else "train")
        for identity, path in sorted(paths.items())
    )
    rule = f"test: the first {n_test} of {len(ids)} ids in sorted order"
    return Listing(clips, rule, tuple(problems))


def parse_metadata(content: bytes) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the ids of metadata.csv, and (line, reason) of every line that cannot be used.

    Only the id matters to a vocoder, so that the number of text columns is free; but a line without
    any is broken. An id that could leave the folder wavs is refused.
    """
    ids: dict[str, int] = {}
    problems = []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not raw.strip():
            continue
        identity, bar, _ = raw.decode("utf-8", "replace").partition("|")
        identity = identity.strip()
        reason = None
        if not bar:
            reason = "has no `|`; a line is `id|text|normalised text`"
        elif not is_safe_id(identity):
            reason = f"id {identity[:40]!r} is not fit for a file name"
        elif identity in ids:
            reason = f"id {identity!r} is already on line {ids[identity]}"
        if reason:
            problems.append((f"metadata.csv line {number}", reason))
        else:
            ids[identity] = number
    return list(ids), problems
