"""Mels of a TTS model in place of those of the recordings, to fine-tune a voice on.

A voice that is trained on the mels that it will be given sounds cleaner with them. The model must
have spoken in the recordings' own rhythm (teacher forcing, or durations from an alignment), so that
a mel is as long as its recording.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from vocoder.data.speech.reader import Listing
from vocoder.errors import VocoderError
from vocoder.files.folders import walk_files
from vocoder.mel.appearance import looks_like
from vocoder.mel.convert import convert_mel
from vocoder.mel.files import MEL_SUFFIXES, read_mel
from vocoder.mel.presets import MelPreset

TOLERANCE = 2  # frames; models count those at the edges differently


def pair_mels(listing: Listing, source: Path, folder: Path) -> Listing:
    """Give each clip the mel file of its name.

    The name is that of the recording within its source, the clip's id, or where just one clip has
    it, the bare file name; the suffix is one of `MEL_SUFFIXES`. A clip without a mel, or with two,
    becomes a problem of the listing.

    Args:
        listing: The clips of the source.
        source: Folder of their recordings.
        folder: searched with all folders below it, hidden ones left out.

    Raises:
        VocoderError: `folder` is no folder, or holds no mel.
    """
    if not folder.is_dir():
        raise VocoderError(f"{folder}: not a folder; give the folder that holds the mels")
    named: dict[str, list[Path]] = defaultdict(list)
    bare: dict[str, list[Path]] = defaultdict(list)
    for name in walk_files(folder).files:
        if name.suffix.lower() in MEL_SUFFIXES:
            named[name.with_suffix("").as_posix()].append(folder / name)
            bare[name.stem].append(folder / name)
    if not named:
        raise VocoderError(f"{folder}: holds no {', '.join(MEL_SUFFIXES)} file")
    n_clips = Counter(clip.path.stem for clip in listing.clips)
    clips, problems = [], list(listing.problems)
    for clip in listing.clips:
        recording = clip.path.relative_to(source)
        stem = clip.path.stem
        found = named.get(recording.with_suffix("").as_posix()) or named.get(clip.id)
        found = found or (bare.get(stem) if n_clips[stem] == 1 else None)
        if not found:
            problems.append((str(recording), f"there is no mel {stem}.npy or the like in {folder}"))
        elif len(found) > 1:
            names = " and ".join(str(path.relative_to(folder)) for path in found[:2])
            problems.append((str(recording), f"{names} in {folder} both have its name; keep one"))
        else:
            clips.append(replace(clip, mel=found[0]))
    return replace(listing, clips=tuple(clips), problems=tuple(problems))


def read_given_mel(path: Path, preset: MelPreset, recorded: Callable[[], Tensor]) -> Tensor:
    """Return the mel (M, F) of a file by the preset, converted if that is exact.

    A file that names no preset is taken for one of `preset` if its values look like it. An array
    (F, M) is turned round; which way a square one lies, the recording tells.

    Args:
        path: Path of the file.
        preset: what the mel is wanted in.
        recorded: returns the recording's own mel (M, F) by `preset`.

    Raises:
        VocoderError: it is no mel, or not one of this preset.
    """
    stored = read_mel(path, n_mels=preset.n_mels)
    mel = stored.mel
    try:
        if stored.preset is not None:
            mel = convert_mel(mel, stored.preset, preset)
    except VocoderError as error:
        raise VocoderError(f"{path}: {error}") from None
    if mel.shape[0] == mel.shape[1] == preset.n_mels:
        mel = _upright(mel, recorded())
    if stored.preset is not None:
        return mel
    if mel.shape[0] != preset.n_mels:
        raise VocoderError(
            f"{path}: has shape {tuple(mel.shape)}; preset {preset.name} has {preset.n_mels} bands"
        )
    appearance = looks_like(mel, preset)
    if appearance is not None:
        raise VocoderError(
            f"{path}: no preset stated, and the values do not fit {preset.name}: {appearance}; "
            "state what made it by `vocoder convert-mel --from`, or preprocess with that --preset"
        )
    return mel


def _upright(square: Tensor, recorded: Tensor) -> Tensor:
    """Return a square array as it is or turned round, whichever is nearer to `recorded` (M, F)."""
    n_frames = min(square.shape[1], recorded.shape[1])

    def distance(mel: Tensor) -> float:
        return (mel[:, :n_frames] - recorded[:, :n_frames]).abs().mean().item()

    return min(square, square.T.contiguous(), key=distance)


def common_frames(n_given: int, n_recorded: int) -> int:
    """Return how many frames a given mel and its recording both have.

    Whichever is longer is cut: nothing is invented.

    Raises:
        VocoderError: they differ by more than `TOLERANCE`.
    """
    if abs(n_given - n_recorded) > TOLERANCE:
        raise VocoderError(
            f"the mel has {n_given} frames, the recording makes {n_recorded}; they may differ by "
            f"{TOLERANCE}: let the model speak in the recording's rhythm (teacher forcing)"
        )
    return min(n_given, n_recorded)
