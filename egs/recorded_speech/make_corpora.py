"""Turn Debian packages of recorded speech into a folder that `vocoder preprocess wavs` reads.

    python egs/recorded_speech/make_corpora.py prompts data/recorded/prompts

README.md tells what each collection holds, by which rules clips are left out and held out, and
whom to credit. Beside the recordings the folder gets test.txt and validation.txt, which name the
held-out clips, judge.txt, some of the test clips for quick judging, and left_out.tsv. A run that
was stopped is continued by the same command.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import soundfile
from packages import (
    DIALOGUE,
    PROMPTS,
    WORDS,
    Package,
    Recording,
    split_of_prompt,
    why_no_prompt,
    why_not_judged,
)
from synthetic import FESTIVAL_PACKAGE, FESTIVAL_VOICE, PROGRAMS, Sentence, plan, speak
from tqdm import tqdm

from vocoder.data.speech.readers.wav_folder import clip_ids
from vocoder.errors import VocoderError

QUIETEST = -40  # dB of full scale that the loudest 20 ms of a clip must reach
JUDGED, SHORTEST, LONGEST = 120, 1.5, 15.0  # clips in judge.txt, and their length in seconds


def why_no_sound(path: Path) -> str | None:
    """Return why a recording is no use by its sound, or None."""
    try:
        audio, rate = soundfile.read(path, always_2d=True)
    except soundfile.LibsndfileError as error:
        return f"cannot be read ({error})"
    frame = rate // 50
    frames = audio[: len(audio) // frame * frame, 0].reshape(-1, frame)
    loudest = 20 * np.log10(np.sqrt((frames**2).mean(axis=1)).max(initial=1e-9))
    return f"silent: {loudest:.0f} dB at its loudest" if loudest < QUIETEST else None


def to_judge(clips: Iterable[tuple[str, float]]) -> list[str]:
    """Return the test clips for quick judging, from pairs of path and length in seconds.

    Of those of a fit length the one with the smallest SHA-1 of its path is taken from each group
    in turn, until there are enough.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for path, seconds in clips:
        if SHORTEST <= seconds <= LONGEST:
            key = hashlib.sha1(path.encode()).hexdigest()
            groups.setdefault(path.split("/")[0], []).append((key, path))
    rounds = itertools.zip_longest(*(sorted(groups[name]) for name in sorted(groups)))
    return [pair[1] for pair in itertools.chain(*rounds) if pair][:JUDGED]


@dataclass(frozen=True)
class Collection:
    """What one call makes."""

    packages: Sequence[Package]
    split: Callable[[Recording], str]
    why_not: Callable[[Recording], str | None]
    synthetic: bool = False


COLLECTIONS = {
    "prompts": Collection(PROMPTS, split_of_prompt, why_no_prompt),
    "mixed": Collection(PROMPTS, split_of_prompt, why_no_prompt, synthetic=True),
    "dialogue": Collection(DIALOGUE, lambda _: "test", why_not_judged),
    "unseen": Collection((*DIALOGUE, *WORDS), lambda _: "test", why_not_judged),
}


def find(collection: Collection, share: Path) -> list[Recording]:
    """List the recordings of a collection.

    Raises:
        VocoderError: packages or programs are not installed.
    """
    found = {package.name: package.recordings(share) for package in collection.packages}
    programs = {"ffmpeg": "ffmpeg"} if collection.packages[0] in PROMPTS else {}
    programs |= PROGRAMS if collection.synthetic else {}
    missing = [package for program, package in programs.items() if shutil.which(program) is None]
    missing += [name for name, recordings in found.items() if not recordings]
    if collection.synthetic and not (share / FESTIVAL_VOICE).exists():
        missing.append(FESTIVAL_PACKAGE)
    if missing:
        names = " ".join(missing)
        raise VocoderError(f"not installed: {names}; run: apt-get install {names}")
    return [recording for recordings in found.values() for recording in recordings]


def fetch(recording: Recording, out: Path) -> str | None:
    """Decode or copy a recording, unless it is there; return why it is left out, or None."""
    path = out / recording.target
    if not recording.source.stat().st_size:
        return "empty"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")  # which no reader takes for a recording
        if recording.source.suffix == ".g722":
            command = ["ffmpeg", "-y", "-v", "error", "-f", "g722", "-i", recording.source]
            command += ["-ac", "1", "-bitexact", "-f", "wav", part]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                part.unlink(missing_ok=True)
                return (
                    f"cannot be read ({(done.stderr.strip() or 'ffmpeg failed').splitlines()[-1]})"
                )
        else:
            shutil.copyfile(recording.source, part)
        os.replace(part, path)
    reason = why_no_sound(path)
    if reason:
        path.unlink()
    return reason


def make(collection: Collection, share: Path, out: Path, jobs: int) -> str:
    """Fill the folder `out`; return in one line what it holds.

    Raises:
        VocoderError: something is not installed, or `out` holds other recordings.
    """
    recordings = find(collection, share)
    sentences = plan() if collection.synthetic else []
    left_out = why_left_out(recordings, collection)
    wanted = [recording for recording in recordings if recording.target not in left_out]
    refuse_foreign(out, [item.target for item in (*wanted, *sentences)])
    splits: dict[str, str] = {}
    with ThreadPool(jobs) as pool:
        reasons = pool.imap(lambda recording: fetch(recording, out), wanted)
        pairs = zip(wanted, reasons, strict=True)
        for recording, reason in tqdm(pairs, "recordings", len(wanted), disable=None):
            if reason is None:
                splits[recording.target] = collection.split(recording)
            else:
                left_out[recording.target] = reason
        spoken = pool.imap(lambda sentence: speak(sentence, out), sentences)
        for sentence in tqdm(spoken, "sentences", len(sentences), disable=not sentences or None):
            splits[sentence.target] = split_of_sentence(sentence)
    return write_lists(out, splits, left_out)


def why_left_out(recordings: Iterable[Recording], collection: Collection) -> dict[str, str]:
    """Return why recordings are left out before they are heard, by their paths in the corpus."""
    reasons: dict[str, str] = {}
    seen: dict[bytes, str] = {}  # languages share files, sr and sr@latin say
    for recording in recordings:
        content = hashlib.sha1(recording.source.read_bytes()).digest()
        first = seen.setdefault(content, recording.target)
        reason = collection.why_not(recording)
        if reason is None and first != recording.target:
            reason = f"the same file as {first}"
        if reason is not None:
            reasons[recording.target] = reason
    return reasons


def split_of_sentence(sentence: Sentence) -> str:
    """Return "validation" for the sixteenth whose words have a SHA-1 beginning with 2."""
    digit = hashlib.sha1(sentence.text.encode()).hexdigest()[0]
    return "validation" if digit == "2" else "train"


def refuse_foreign(out: Path, targets: Iterable[str]) -> None:
    """Refuse a folder with recordings of something else, which would get into the corpus.

    Raises:
        VocoderError: naming the first of them.
    """
    ours = {out / target for target in targets}
    for path in sorted(out.rglob("*")):
        if path.suffix.lower() in (".wav", ".flac", ".ogg") and path not in ours:
            raise VocoderError(f"{path}: is not of this collection; give an empty folder")


def write_lists(out: Path, splits: dict[str, str], left_out: dict[str, str]) -> str:
    """Write the lists beside the recordings; return in one line what there is."""
    seconds = {target: soundfile.info(out / target).duration for target in splits}
    told = []
    for split in ("train", "validation", "test"):
        names = sorted(target for target in splits if splits[target] == split)
        if names:
            minutes = sum(seconds[name] for name in names) / 60
            told.append(f"{split} {len(names)} clips, {minutes:.1f} min")
            if split != "train":
                _write_lines(out / f"{split}.txt", names)
    ids = {path.as_posix(): identity for identity, path in clip_ids(map(Path, splits)).items()}
    test = ((name, seconds[name]) for name in splits if splits[name] == "test")
    _write_lines(out / "judge.txt", (ids[name] for name in to_judge(test)))
    _write_lines(out / "left_out.tsv", (f"{n}\t{why}" for n, why in sorted(left_out.items())))
    return f"{out}: {'; '.join(told)}; {len(left_out)} files left out, see left_out.tsv"


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", choices=COLLECTIONS, help="what to make; see README.md")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to fill, or to continue")
    parser.add_argument(
        "--share",
        type=Path,
        default=Path("/usr/share"),
        help="where the packages are installed (default /usr/share); without root, unpack them "
        "with `dpkg -x PACKAGE.deb DIR` and give DIR/usr/share",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="files at a time")
    arguments = parser.parse_args()
    try:
        collection = COLLECTIONS[arguments.collection]
        print(make(collection, arguments.share, arguments.out, arguments.jobs))
    except (VocoderError, OSError) as error:
        sys.exit(f"make_corpora: {error}")
    except KeyboardInterrupt:
        sys.exit("make_corpora: stopped; the same command continues")


if __name__ == "__main__":
    main()
