"""Any folder of recordings, searched to its depth."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath

from vocoder.data.speech.reader import Clip, Listing, n_test_clips, random_ids, register_dataset
from vocoder.errors import VocoderError
from vocoder.files.audio import AUDIO_SUFFIXES, FOREIGN_AUDIO_SUFFIXES
from vocoder.files.folders import walk_files


@register_dataset("wavs")
def read_wav_folder(source: Path, test_clips: int | None, seed: int) -> Listing:
    """List the sound files in `source` and its folders, hidden ones left out.

    Sound of a kind that cannot be read, such as .m4a, is a problem of the listing, and so is a link
    to a folder that is read already.

    Args:
        source: Folder of the recordings.
        test_clips: length of the test, drawn by `seed`; None: a tenth.
        seed: Seed of the split.

    Raises:
        VocoderError: `source` is no folder, or holds too few recordings.
    """
    if not source.is_dir():
        raise VocoderError(f"{source}: not a folder; give the folder that holds the recordings")
    found = walk_files(source)
    problems = [*found.left_out, *_foreign(found.files)]
    relative_paths = [path for path in found.files if path.suffix.lower() in AUDIO_SUFFIXES]
    if not relative_paths:
        first = f"; the first of {len(problems)}: {': '.join(problems[0])}" if problems else ""
        raise VocoderError(f"{source}: holds no recording, such as .wav or .flac{first}")
    ids = clip_ids(relative_paths)
    n_test = n_test_clips(len(ids), test_clips, source)
    test = random_ids(ids, n_test, seed)
    clips = tuple(
        Clip(identity, source / path, "test" if identity in test else "train")
        for identity, path in sorted(ids.items())
    )
    rule = f"test: {n_test} of {len(clips)} clips, drawn with seed {seed}"
    return Listing(clips, rule, tuple(problems))


def _foreign(files: Iterable[Path]) -> list[tuple[str, str]]:
    """Return (file, reason) of sound that cannot be read."""
    return [
        (str(path), f"{path.suffix} cannot be read; convert it to WAV or FLAC, as by ffmpeg")
        for path in files
        if path.suffix.lower() in FOREIGN_AUDIO_SUFFIXES
    ]


def clip_ids(relative_paths: Iterable[PurePath]) -> dict[str, PurePath]:
    """Give every path a different id that is fit for a file name, on any file system.

    `anna/take 1.wav` becomes `anna-take 1`. Where several paths would share an id, or differ only
    in case, each of them gets `~` and a hash of its path, as do names that were cut or left empty.
    """
    paths = list(relative_paths)
    slugs = [_slug(path) for path in paths]
    counts = Counter(slug.casefold() for slug in slugs)
    ids = {}
    for path, slug in zip(paths, slugs, strict=True):
        short = slug.encode()[:120].decode(errors="ignore").rstrip()
        if counts[slug.casefold()] > 1 or short != slug or not slug:
            digest = hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape"))
            short = f"{short or 'clip'}~{digest.hexdigest()[:12]}"
        ids[short] = path
    return ids


def _slug(path: PurePath) -> str:
    text = unicodedata.normalize("NFC", "-".join(path.with_suffix("").parts))
    return re.sub(r"^\W+", "", re.sub(r"[^\w. -]", "_", text)).rstrip()
