"""Many files to speech: which inputs there are, where their audio goes, and the run itself."""

from __future__ import annotations

import errno
import io
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from vocoder.audio import float_to_int16, read_wav, wav_stream_header, write_wav
from vocoder.denoiser import Denoiser, check_strength
from vocoder.engine import GriffinLimVocoder, Vocoder, check_settings, pad_mels
from vocoder.errors import VocoderError
from vocoder.mel import MelSpectrogram, convert_mel, looks_like
from vocoder.mel_files import MEL_SUFFIXES, read_mel, read_mel_pieces, write_mel
from vocoder.presets import MelPreset, preset_difference

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")
STANDARD_STREAM = "-"


@dataclass(frozen=True)
class Source:
    """One utterance to speak.

    Attributes:
        path: a mel file or an audio file; None for a `.npy` array that came on standard input.
        name: where its audio goes below the output folder, without a suffix.
        data: what came on standard input.
    """

    path: Path | None
    name: PurePosixPath
    data: bytes = field(default=b"", repr=False)

    @property
    def is_recording(self) -> bool:
        """Whether it is audio, not a mel."""
        return self.path is not None and self.path.suffix.lower() in AUDIO_SUFFIXES

    def __str__(self) -> str:
        return "standard input" if self.path is None else str(self.path)


@dataclass
class Report:
    """What a run did.

    Attributes:
        n_files: utterances written.
        audio_seconds: their duration.
        compute_seconds: time spent between a mel or audio in memory and its speech in memory;
            reading, checking and writing files is left out.
        clipped: samples clipped, of each output that has any.
    """

    n_files: int = 0
    audio_seconds: float = 0.0
    compute_seconds: float = 0.0
    clipped: dict[str, int] = field(default_factory=dict)

    @property
    def times_real_time(self) -> float:
        """Seconds of audio made in one second."""
        return self.audio_seconds / max(self.compute_seconds, 1e-9)


def standard_input() -> BinaryIO:
    """Return the stream that `-` stands for as an input.

    Raises:
        VocoderError: it is closed.
    """
    if sys.stdin is None:
        raise VocoderError("standard input: is closed; pipe a mel into it, or name a file")
    return sys.stdin.buffer


def collect_sources(inputs: Sequence[str]) -> list[Source]:
    """Return the utterances that the inputs stand for, in order.

    An input is a mel file, an audio file, a `.txt` list of such files (one a line, relative to the
    list), a folder (searched through, in natural order; of a preprocessed corpus, its mels), or "-"
    for a `.npy` array on standard input.

    Raises:
        VocoderError: an input is missing, empty or of an unknown kind.
    """
    sources: list[Source] = []
    for text in inputs:
        path = Path(text)
        if text == STANDARD_STREAM:
            if any(source.path is None for source in sources):
                raise VocoderError("-: standard input can be read only once")
            sources.append(Source(None, PurePosixPath("stdin"), standard_input().read()))
        elif path.is_dir():
            sources += _folder_sources(path)
        elif path.suffix.lower() == ".txt":
            sources += _list_sources(path)
        else:
            sources.append(Source(_known_file(path), PurePosixPath(path.stem)))
    return sources


def _folder_sources(folder: Path) -> list[Source]:
    # The audio of a preprocessed corpus is .npy too, and must not be taken for mels.
    mels = folder / "mels"
    is_corpus = (folder / "manifest.json").is_file() and mels.is_dir()
    root = mels if is_corpus else folder
    found = [
        path.relative_to(root)
        for path in root.rglob("*")
        if path.suffix.lower() in MEL_SUFFIXES + AUDIO_SUFFIXES and path.is_file()
    ]
    visible = [path for path in found if not any(part.startswith(".") for part in path.parts)]
    if not visible:
        raise VocoderError(f"{folder}: holds no mel or audio files")
    return [
        Source(root / path, PurePosixPath(path.with_suffix("").as_posix()))
        for path in sorted(visible, key=lambda path: natural_key(path.as_posix()))
    ]


def _list_sources(path: Path) -> list[Source]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise VocoderError(f"{path}: not a list of paths, one a line, in UTF-8") from None
    sources = []
    for number, line in enumerate(lines, start=1):
        entry = Path(line.strip())
        if not line.strip():
            continue
        try:
            file = _known_file(path.parent / entry)
        except VocoderError as error:
            raise VocoderError(f"{path}: line {number}: {error}") from None
        inside = not entry.is_absolute() and ".." not in entry.parts
        name = entry.with_suffix("").as_posix() if inside else entry.stem
        sources.append(Source(file, PurePosixPath(name)))
    if not sources:
        raise VocoderError(f"{path}: lists no files")
    return sources


def _known_file(path: Path) -> Path:
    if not path.is_file():
        raise VocoderError(f"{path}: no such file or folder")
    if path.suffix.lower() not in MEL_SUFFIXES + AUDIO_SUFFIXES:
        known = ", ".join((*MEL_SUFFIXES, *AUDIO_SUFFIXES, ".txt"))
        raise VocoderError(f"{path}: neither a mel nor audio; its name should end in {known}")
    return path


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts `clip9` before `clip10`."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts if part]


def plan_outputs(
    sources: Sequence[Source], out: str, suffixes: Sequence[str] = (".wav",)
) -> list[Path]:
    """Return the file that each source is written to.

    `out` is a folder, in which the relative names are kept, if it is there as one, ends in a slash
    or has no suffix. Otherwise it is a file, for one source only.

    Args:
        sources: see `collect_sources`.
        out: a file or a folder.
        suffixes: of the files that can be written; the first is for those in a folder.

    Raises:
        VocoderError: `out` is neither such a file nor a folder, two sources would go to the same
            file, or one would replace an input.
    """
    target = Path(out)
    if not out or out == STANDARD_STREAM:
        raise VocoderError(f"-o {out!r}: name a file ({', '.join(suffixes)}) or a folder")
    if target.is_dir() or out.endswith("/") or not target.suffix:
        outputs = [target / f"{source.name}{suffixes[0]}" for source in sources]
    elif target.suffix.lower() not in suffixes:
        raise VocoderError(
            f"{out}: only {', '.join(suffixes)} files are written; give one, or a folder "
            f"({out}/ if that is one)"
        )
    elif len(sources) > 1:
        raise VocoderError(f"{out}: one file for {len(sources)} inputs; give a folder")
    else:
        outputs = [target]
    taken: dict[Path, Source] = {}
    for source, output in zip(sources, outputs, strict=True):
        if output in taken:
            raise VocoderError(
                f"{output}: wanted by both {taken[output]} and {source}; "
                "rename one, or give them in separate runs"
            )
        taken[output] = source
    inputs = {source.path.resolve() for source in sources if source.path is not None}
    for output in outputs:
        if output.resolve() in inputs:
            raise VocoderError(f"{output}: would replace an input; choose another output folder")
    return outputs


def prepare_folders(outputs: Sequence[Path]) -> None:
    """Make the folders of the outputs.

    Raises:
        OSError: one cannot be made or written to; better known before an hour of synthesis.
    """
    for folder in {output.parent for output in outputs}:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


@dataclass(frozen=True)
class _Job:
    source: Source
    output: Path | BinaryIO
    voice: Vocoder
    n_frames: int


def synthesize_files(
    voice: Vocoder,
    sources: Sequence[Source],
    outputs: Sequence[Path | BinaryIO],
    *,
    preset: MelPreset | None = None,
    temperature: float = 1.0,
    seed: int | None = None,
    batch_size: int = 1,
    denoise: float = 0.0,
) -> Report:
    """Speak every source into its output, with a progress bar on standard error.

    All inputs are read and checked before the first is spoken, so that a bad one costs no time and
    leaves nothing behind. Mels are of `preset`, else of the preset that they name, else of the
    voice's, provided that their values look like it. Audio is copied through the same preset.
    Griffin-Lim takes every mel by its own preset.

    Args:
        voice: the voice.
        sources: see `collect_sources`.
        outputs: a WAV path or an open binary file for each source.
        preset: what all mels are made with, whatever they say.
        temperature: see `Vocoder.synthesize`.
        seed: the same for every file, so that a file's audio does not depend on its neighbours.
        batch_size: utterances spoken at once; with more than one they go in order of length.
        denoise: strength of the `Denoiser`; 0 is none.

    Raises:
        VocoderError: an input is unreadable or does not fit the voice.
        OSError: an output cannot be written.
    """
    if batch_size < 1:
        raise VocoderError(f"batch size {batch_size}: must be at least 1")
    check_settings(temperature, seed)
    check_strength(denoise)
    voices = {voice.preset.fingerprint: voice}
    jobs = []
    for source, output in zip(sources, outputs, strict=True):
        mel, stated = _read(source, preset, voice)
        fitting = _fitting_voice(voices, voice, mel, stated, source)
        jobs.append(_Job(source, output, fitting, mel.shape[-1]))
    if batch_size > 1:
        jobs.sort(key=lambda job: (job.voice.preset.fingerprint, job.n_frames))
    prepare_folders([output for output in outputs if isinstance(output, Path)])

    speakers = {job.voice for job in jobs} if denoise else ()
    denoisers = {speaker: Denoiser(speaker) for speaker in speakers}
    report = Report()
    total = sum(job.n_frames * job.voice.hop_length / job.voice.sample_rate for job in jobs)
    bar_format = "{l_bar}{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}]"
    with tqdm(total=total, desc=voice.name, bar_format=bar_format, disable=None) as bar:
        for batch in _batches(jobs, batch_size):
            speaker = batch[0].voice
            mels = [_read(job.source, preset, voice)[0] for job in batch]
            start = time.perf_counter()
            padded, lengths = pad_mels(mels, speaker.preset)
            audio = speaker.synthesize(padded, lengths, temperature=temperature, seed=seed)
            if denoise:
                audio = denoisers[speaker](audio, denoise)
            audio = audio.cpu()
            report.compute_seconds += time.perf_counter() - start
            for job, row, n_frames in zip(batch, audio, lengths, strict=True):
                n_samples = n_frames * speaker.hop_length
                _write(job, row[:n_samples], report)
                bar.update(n_samples / speaker.sample_rate)
    return report


def synthesize_stream(
    voice: Vocoder,
    source: BinaryIO,
    output: BinaryIO,
    form: Literal["pcm", "wav"],
    *,
    preset: MelPreset | None = None,
    temperature: float = 1.0,
    seed: int | None = None,
) -> Report:
    """Speak the pieces of one mel as they come, and hand the audio on at once.

    Args:
        voice: the voice; see `Vocoder.stream`.
        source: `.npy` arrays (M, f), one after the other.
        output: gets 16-bit samples, of the least significant byte first, for "wav" behind a header.
        form: "pcm" or "wav".
        preset: what the mel is made with; None is the voice's, provided that its first piece looks
            like it.
        temperature: see `Vocoder.synthesize`.
        seed: likewise.

    Returns:
        What was done; waiting for pieces and for the output is no computing.

    Raises:
        VocoderError: what comes is no mel of the voice, or the voice cannot stream.
        OSError: the output cannot be written.
    """
    report = Report(n_files=1)
    pieces = _timed(_fitting_pieces(source, preset or voice.preset, voice), report)
    parts = voice.stream(pieces, temperature=temperature, seed=seed)

    def hand_on(content: bytes) -> None:
        try:
            with _naming("standard output"):
                output.write(content)
                output.flush()
        except BrokenPipeError:  # in which click would end the program without a word
            raise VocoderError("standard output: closed by the program that reads it") from None

    if form == "wav":
        hand_on(wav_stream_header(voice.sample_rate))
    start = time.perf_counter()
    for part in parts:
        samples, n_clipped = float_to_int16(torch.as_tensor(part).cpu().numpy())
        report.compute_seconds += time.perf_counter() - start
        hand_on(samples.astype("<i2").tobytes())
        report.audio_seconds += len(samples) / voice.sample_rate
        if n_clipped:
            report.clipped.setdefault("standard output", 0)
            report.clipped["standard output"] += n_clipped
        start = time.perf_counter()
    report.compute_seconds += time.perf_counter() - start
    return report


def _timed(pieces: Iterator[Tensor], report: Report) -> Iterator[Tensor]:
    """Yield the pieces, and take the time that they are waited for off the computing."""
    start = time.perf_counter()
    for piece in pieces:
        report.compute_seconds -= time.perf_counter() - start
        yield piece
        start = time.perf_counter()
    report.compute_seconds -= time.perf_counter() - start


def _fitting_pieces(source: BinaryIO, preset: MelPreset, voice: Vocoder) -> Iterator[Tensor]:
    """Yield the pieces of a mel of `preset` as the voice takes them."""
    n_frames = 0
    for piece in read_mel_pieces(source, preset.n_mels):
        if n_frames == 0 and piece.shape[0] == preset.n_mels and piece.isfinite().all():
            appearance = looks_like(piece, preset)
            if appearance is not None:
                raise VocoderError(
                    f"standard input: the values do not fit the preset {preset.name}: "
                    f"{appearance}; state what made it with --preset NAME"
                )
        n_frames += piece.shape[1]
        if preset.fingerprint != voice.preset.fingerprint and piece.shape[0] == preset.n_mels:
            # What is not finite stays so, for the voice to name its frame.
            bad = ~piece.isfinite()
            piece = convert_mel(piece, preset, voice.preset).masked_fill(bad, torch.nan)
        yield piece


def _read(source: Source, preset: MelPreset | None, voice: Vocoder) -> tuple[Tensor, MelPreset]:
    """Return the (M, F) mel of a source and the preset it is made with."""
    if source.path is not None and source.is_recording:
        stated = preset or voice.preset
        audio, _ = read_wav(source.path, sample_rate=stated.sample_rate)
        try:
            with torch.inference_mode():
                return MelSpectrogram(stated)(torch.from_numpy(audio)), stated
        except VocoderError as error:
            raise VocoderError(f"{source}: {error}") from None
    file = io.BytesIO(source.data) if source.path is None else source.path
    read = read_mel(file, n_mels=voice.n_mels, preset=preset)
    if read.preset is not None:
        return read.mel, read.preset
    if read.mel.shape[0] == voice.n_mels:
        appearance = looks_like(read.mel, voice.preset)
        if appearance is not None:
            raise VocoderError(
                f"{source}: no preset stated, and the values do not fit the voice's "
                f"{voice.preset.name}: {appearance}; state what made it with --preset NAME"
            )
    return read.mel, voice.preset


def _fitting_voice(
    voices: dict[str, Vocoder], voice: Vocoder, mel: Tensor, stated: MelPreset, source: Source
) -> Vocoder:
    """Return the voice for a mel of the preset `stated`, or raise with the way out."""
    if mel.shape[0] != stated.n_mels:
        # With both presets the same, the voice's own words say it best.
        raise VocoderError(
            f"{source}: mel has {mel.shape[0]} bands, this voice was trained with {stated.n_mels} "
            f"(preset {stated.name})"
            if stated == voice.preset
            else f"{source}: mel has {mel.shape[0]} bands, its preset {stated.name} has "
            f"{stated.n_mels}; state another with --preset NAME"
        )
    if stated.fingerprint in voices:
        return voices[stated.fingerprint]
    if isinstance(voice, GriffinLimVocoder):
        twin = GriffinLimVocoder(stated, device=voice.device, dtype=voice.dtype)
        return voices.setdefault(stated.fingerprint, twin)
    difference = ", ".join(preset_difference(stated, voice.preset))
    if source.is_recording:
        raise VocoderError(
            f"{source}: is a recording, whose mel by preset {stated.name} is not the voice's "
            f"{voice.preset.name} ({difference}); leave --preset out"
        )
    misfit = (
        f"{source}: made with preset {stated.name}, but the voice wants {voice.preset.name} "
        f"({difference})"
    )
    try:
        convert_mel(mel, stated, voice.preset)
    except VocoderError:
        remedy = "it cannot be converted exactly: make it anew, or use --voice griffin-lim"
        raise VocoderError(f"{misfit}; {remedy}") from None
    path = source.path or Path("MEL.npy")
    target = path.with_name(f"{path.stem}.{voice.preset.name}.npz")
    command = ["vocoder", "convert-mel", str(path), "-o", str(target)]
    command += ["--from", stated.name, "--to", voice.preset.name]
    raise VocoderError(f"{misfit}; convert it: {shlex.join(command)}")


def _batches(jobs: Sequence[_Job], size: int) -> Iterator[list[_Job]]:
    """Yield runs of at most `size` jobs of the same voice."""
    batch: list[_Job] = []
    for job in jobs:
        if batch and (len(batch) == size or job.voice is not batch[0].voice):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _write(job: _Job, audio: Tensor, report: Report) -> None:
    name = str(job.output) if isinstance(job.output, Path) else "standard output"
    with _naming(name):
        n_clipped = write_wav(job.output, audio.numpy(), job.voice.sample_rate)
        if not isinstance(job.output, Path):
            job.output.flush()
    report.n_files += 1
    report.audio_seconds += len(audio) / job.voice.sample_rate
    if n_clipped:
        report.clipped[name] = n_clipped


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the output in errors: a failed write knows the reason, but not what it was for."""
    try:
        yield
    except VocoderError as error:
        raise VocoderError(f"{name}: {error}") from None
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), name) from None


def convert_files(
    sources: Sequence[Source], outputs: Sequence[Path], origin: MelPreset | None, target: MelPreset
) -> None:
    """Convert every mel to the preset `target`, exactly, and write it with that preset.

    All are read and converted before the first is written, so that a bad one leaves nothing behind.

    Args:
        sources: mel files.
        outputs: see `mel_files.write_mel`.
        origin: what the mels were made with; None is what each says of itself.
        target: the preset wanted.

    Raises:
        VocoderError: a mel is unreadable, names no preset, or cannot be converted exactly.
        OSError: an output cannot be written.
    """
    for source in sources:
        _convert(source, origin, target)
    prepare_folders(outputs)
    for source, output in zip(sources, outputs, strict=True):
        mel = _convert(source, origin, target)  # anew, since all at once may not fit into memory
        with _naming(str(output)):
            write_mel(output, mel, target)


def _convert(source: Source, origin: MelPreset | None, target: MelPreset) -> Tensor:
    """Return the mel (M, F) of a source by the preset `target`."""
    file = io.BytesIO(source.data) if source.path is None else source.path
    read = read_mel(file, n_mels=target.n_mels, preset=origin)
    if read.preset is None:
        raise VocoderError(f"{source}: states no preset; say with --from what it was made with")
    try:
        return convert_mel(read.mel, read.preset, target)
    except VocoderError as error:
        raise VocoderError(f"{source}: {error}") from None
