"""From a source of recordings to a preprocessed corpus.

A run may be killed at any moment: the next one keeps the clips whose line in the journal, source
and files agree. The manifest is written last and depends on the source and the settings alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocoder.data.speech.corpus import MANIFEST, Manifest, Utterance, array_folders
from vocoder.data.speech.epochs import EpochSummary, PitchRange, tool_version
from vocoder.data.speech.given_mels import pair_mels
from vocoder.data.speech.given_splits import digest_of, split_by_lists
from vocoder.data.speech.journal import Journal, Record, only_run, sweep
from vocoder.data.speech.maker import Maker
from vocoder.data.speech.reader import DATASETS, SPLITS, Clip, Listing, Split
from vocoder.data.speech.silence import MUCH_SILENCE, silence_warning
from vocoder.data.speech.workers import results_of, worthwhile_jobs
from vocoder.errors import VocoderError
from vocoder.files.atomic import atomic_path
from vocoder.mel.presets import MelPreset, get_preset

logger = logging.getLogger("vocoder")


@dataclass(frozen=True)
class PreprocessReport:
    """What a run did."""

    out: Path
    manifest: Manifest
    n_made: int  # clips made by this run
    n_kept: int  # clips that were there already
    n_clipped: int  # clips with samples beyond full scale, which were clipped
    seconds: float  # wall clock time of this run
    n_jobs: int
    failures: tuple[tuple[str, str], ...]  # (file, reason) of everything left out

    @property
    def hours(self) -> float:
        """Length of the whole corpus in hours."""
        samples = sum(utterance.n_samples for utterance in self.manifest.utterances)
        return samples / self.manifest.preset.sample_rate / 3600

    def __str__(self) -> str:
        """Say in one line what there is now and what was done for it."""
        utterances = self.manifest.utterances
        n_clips = Counter(utterance.split for utterance in utterances)
        validation = f", {n_clips['validation']} validation" if n_clips["validation"] else ""
        done = f"made {self.n_made} clips in {self.seconds:.1f} s, {self.n_kept} were there"
        if not self.n_made:
            done = "nothing to do, all of it was there"
        return (
            f"{self.out}: {n_clips['train']} training{validation} and "
            f"{n_clips['test']} test clips, "
            f"{self.hours:.2f} h, preset {self.manifest.preset.name}"
            f"{', given mels' if self.manifest.given_mels else ''}; {self.manifest.split_rule}; "
            f"{done}{'' if self.manifest.epochs is None else f'; {self.manifest.epochs}'}"
        )


def preprocess(
    corpus: str,
    source: str | Path,
    out: str | Path,
    *,
    preset: str | MelPreset = "tacotron2-22k",
    mels: str | Path | None = None,
    test_clips: int | None = None,
    test_list: str | Path | None = None,
    validation_list: str | Path | None = None,
    epochs: PitchRange | None = None,
    dither: bool = False,
    seed: int = 0,
    n_jobs: int | None = None,
    strict: bool = False,
) -> PreprocessReport:
    """Turn a source of recordings into a corpus for training, or continue where a run stopped.

    Worker processes are spawned, so a script that calls this with more than one job needs the usual
    `if __name__ == "__main__":`.

    Args:
        corpus: name of the reader, "ljspeech" or "wavs".
        source: The folder it reads.
        out: the folder to make, or to continue.
        preset: recipe of the mels.
        mels: a folder of mels that a TTS model has made of the same clips, to fine-tune on instead
            of the recordings' own; see `given_mels.pair_mels`. They may be up to two frames longer
            or shorter than their recordings.
        test_clips: Clips held out for the test; None: a tenth.
        test_list: a text file that names the test clips, in place of the reader's own split; see
            `given_splits`. All clips may be test clips, of a corpus to judge by alone.
        validation_list: one that names clips for choosing settings; only beside `test_list`.
        epochs: the range in which to look for the closures of the vocal folds, to store them beside
            the audio; None stores none.
        dither: add noise of half a step of 16 bits to the audio, which is then stored as float32.
        seed: Seed of the split, where it is random, and of the dither.
        n_jobs: processes; None: as many as there are cores and the work is worth.
        strict: stop at the first file that cannot be used, instead of leaving it out.

    Raises:
        VocoderError: The source cannot be used; `out` holds something else, or was made with other
            settings; nothing usable is left; or, with `strict`, any file cannot be used.
        OSError: `out` cannot be written.
        KeyboardInterrupt: on Ctrl-C or SIGTERM; the same call continues.
    """
    begin = time.monotonic()
    source, out = Path(source), Path(out)
    preset = get_preset(preset) if isinstance(preset, str) else preset
    if n_jobs is not None and n_jobs < 1:
        raise VocoderError(f"n_jobs: {n_jobs}; give 1 or more")
    if epochs is not None:
        epochs.check(preset.sample_rate)
    lists = _lists(test_clips, test_list, validation_list)
    listing = _listing(corpus, source, test_clips, seed, lists, mels, strict)
    settings = {
        "corpus": corpus,
        "source": str(source.resolve()),
        "preset": preset.name,
        "fingerprint": preset.fingerprint,
        "test_clips": test_clips,
        "seed": seed,
        "mels": None if mels is None else str(Path(mels).resolve()),
        "lists": {split: digest_of(path) for split, path in lists.items()} or None,
        "epochs": None if epochs is None else {**vars(epochs), "found_by": tool_version()},
        "dither": dither or None,
    }
    with only_run(out), _interrupted_by_sigterm():
        journal = Journal.open(out, settings)
        try:
            maker = Maker(source, out, preset, epochs, seed if dither else None)
            records = _kept(maker, listing.clips, journal)
            n_kept = len(records)
            todo = [clip for clip in listing.clips if clip.id not in records]
            n_jobs = n_jobs or worthwhile_jobs(todo)
            made = _make(maker, todo, journal, records, n_jobs, strict)
            failures = sorted([*listing.problems, *made])
            manifest = Manifest(
                name=corpus,
                preset=preset,
                seed=seed,
                split_rule=listing.split_rule,
                utterances=_utterances(maker, listing, records, failures),
                given_mels=mels is not None,
                dither=dither,
                epochs=None if epochs is None else _summary(epochs, records.values()),
            )
            _finish(out, manifest, journal, records)
        finally:
            sweep(out)
    n_clipped = sum(record.n_clipped > 0 for record in records.values())
    if n_clipped:
        logger.warning("%d clips go beyond full scale and were clipped", n_clipped)
    if not dither:
        _warn_of_silence(records.values())
    return PreprocessReport(
        out=out,
        manifest=manifest,
        n_made=len(records) - n_kept,
        n_kept=n_kept,
        n_clipped=n_clipped,
        seconds=time.monotonic() - begin,
        n_jobs=n_jobs,
        failures=tuple(failures),
    )


def _listing(
    corpus: str,
    source: Path,
    test_clips: int | None,
    seed: int,
    lists: dict[Split, Path],
    mels: str | Path | None,
    strict: bool,
) -> Listing:
    """Return the clips of a source, split and paired as was asked for."""
    listing = DATASETS.find(corpus)(source, test_clips, seed)
    if lists:
        listing = split_by_lists(listing, source, lists)
    wanted = {*lists, *(clip.split for clip in listing.clips)}
    if mels is not None:
        listing = pair_mels(listing, source, Path(mels))
    _check_splits(source, wanted, {clip.split for clip in listing.clips}, listing.problems)
    if strict and listing.problems:
        raise VocoderError(f"{source}: " + ": ".join(listing.problems[0]))
    return listing


def _lists(
    test_clips: int | None, test_list: str | Path | None, validation_list: str | Path | None
) -> dict[Split, Path]:
    """Return the lists that were given, by their splits."""
    if test_list is None:
        if validation_list is not None:
            raise VocoderError("validation list: give a test list too")
        return {}
    if test_clips is not None:
        raise VocoderError("test_clips: a test list says which they are; leave one of the two out")
    lists: dict[Split, Path] = {"test": Path(test_list)}
    if validation_list is not None:
        lists["validation"] = Path(validation_list)
    return lists


def _warn_of_silence(records: Iterable[Record]) -> None:
    n_samples = n_silent = 0
    for record in records:
        n_samples += record.n_samples
        n_silent += record.n_silent
    if n_silent > MUCH_SILENCE * n_samples:
        logger.warning("%s", silence_warning(n_silent / n_samples))


def _summary(pitch: PitchRange, records: Iterable[Record]) -> EpochSummary:
    records = list(records)
    return EpochSummary(
        f_min=float(pitch.f_min),
        f_max=float(pitch.f_max),
        found_by=tool_version(),
        n_voiced=sum(record.n_voiced for record in records),
        n_bad=sum(record.n_bad for record in records),
    )


def _kept(maker: Maker, clips: Iterable[Clip], journal: Journal) -> dict[str, Record]:
    """Return the records of the clips that need not be made again."""
    kept, n_changed, n_lost = {}, 0, 0
    for clip in clips:
        record = journal.records.get(clip.id)
        if record is None:
            continue
        with contextlib.suppress(OSError):
            before = (record.file, record.size, record.mtime_ns, tuple(record.mel))
            if maker.source_state(clip) != before:
                n_changed += 1
            elif not maker.has_files(record):
                n_lost += 1
            else:
                kept[clip.id] = record
    if n_changed:
        logger.warning("%d clips changed in the source and are made again", n_changed)
    if n_lost:
        logger.warning("%d clips lost their files and are made again", n_lost)
    if n_changed or n_lost:
        # What the manifest says of them is about to become wrong.
        (maker.out / MANIFEST).unlink(missing_ok=True)
    return kept


def _make(
    maker: Maker,
    clips: Sequence[Clip],
    journal: Journal,
    records: dict[str, Record],
    n_jobs: int,
    strict: bool,
) -> list[tuple[str, str]]:
    """Make clips, adding to `records`; return (file, reason) of those that cannot be used.

    Raises:
        VocoderError: With `strict`, one cannot be used.
    """
    failures = []
    with journal.appending(records.values()) as append:
        for result in results_of(maker, clips, n_jobs, len(records)):
            if isinstance(result, Record):
                append(result)
                records[result.id] = result
            elif strict:
                raise VocoderError(f"{maker.source / result.file}: {result.reason}")
            else:
                failures.append((result.file, result.reason))
    return failures


def _utterances(
    maker: Maker,
    listing: Listing,
    records: Mapping[str, Record],
    failures: Sequence[tuple[str, str]],
) -> tuple[Utterance, ...]:
    utterances = tuple(
        Utterance(
            clip.id,
            clip.split,
            n_samples,
            maker.preset.n_frames(n_samples),
            None if maker.pitch is None else records[clip.id].n_epochs,
        )
        for clip in sorted(listing.clips, key=lambda clip: clip.id)
        if clip.id in records
        for n_samples in (records[clip.id].n_samples,)
    )
    wanted = {clip.split for clip in listing.clips}
    _check_splits(maker.source, wanted, {utterance.split for utterance in utterances}, failures)
    return utterances


def _check_splits(
    source: Path, wanted: Set[Split], usable: Set[Split], failures: Sequence[tuple[str, str]]
) -> None:
    """Raise a `VocoderError` where a split that was to be made has no clip."""
    missing = [split for split in SPLITS if split in wanted - usable]
    if missing:
        which = f"{missing[0]} clip" if usable else "clip"
        first = f"; the first of {len(failures)}: {': '.join(failures[0])}" if failures else ""
        raise VocoderError(f"{source}: no usable {which}; mend the files{first}")


def _finish(out: Path, manifest: Manifest, journal: Journal, records: Mapping[str, Record]) -> None:
    """Write the manifest, then remove the files that it does not list."""
    content = manifest.to_json().encode()
    path = out / MANIFEST
    if not path.exists() or path.read_bytes() != content:
        if hasattr(os, "sync"):
            os.sync()  # the arrays are to be on the disk before the file that vouches for them
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    journal.close(records.values())
    for folder in array_folders(out):
        for file in folder.glob("*.npy"):
            if file.stem not in records:
                file.unlink()


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C, where this thread may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
