"""Time `vocoder preprocess` beside a plain librosa loop on the same clips, one core each.

    python egs/preprocess_speed.py data/espeak --clips 300

Both read each clip, compute its mel by the preset tacotron2-22k and save it; `vocoder preprocess`
also saves the audio, keeps its journal and can be killed. Times are of the processor, so that other
programs disturb them less; each way runs several times in turn, and its best time counts.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is loaded

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import torch

from vocoder.data.speech.preprocess import preprocess
from vocoder.mel.spectrogram import MelSpectrogram


def librosa_loop(source: Path, out: Path) -> None:
    for path in sorted((source / "wavs").iterdir()):
        audio, rate = librosa.load(path, sr=22050)
        mel = librosa.feature.melspectrogram(
            y=audio, sr=rate, n_fft=1024, hop_length=256, n_mels=80, fmin=0, fmax=8000, power=1
        )
        np.save(out / f"{path.stem}.npy", np.log(np.maximum(mel, 1e-5)))


def librosa_loop_with_kept_filters(source: Path, out: Path) -> None:
    filters = librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0, fmax=8000)
    for path in sorted((source / "wavs").iterdir()):
        audio, _ = librosa.load(path, sr=22050)
        spectrum = np.abs(librosa.stft(audio, n_fft=1024, hop_length=256))
        np.save(out / f"{path.stem}.npy", np.log(np.maximum(filters @ spectrum, 1e-5)))


def vocoder_preprocess(source: Path, out: Path) -> None:
    preprocess("ljspeech", source, out, n_jobs=1)


def fourier_transform_alone(source: Path, out: Path) -> None:
    window = torch.hann_window(1024)
    for path in sorted((source / "wavs").iterdir()):
        frames = torch.zeros(path.stat().st_size // 2 + 1024).unfold(0, 1024, 256)
        for block in frames.split(256):
            torch.fft.rfft(block * window)


def seconds(way: Callable[[Path, Path], None], source: Path, work: Path) -> float:
    out = Path(tempfile.mkdtemp(dir=work))
    begin = time.process_time()
    way(source, out)
    taken = time.process_time() - begin
    shutil.rmtree(out)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="LJSpeech-shaped folder with 16-bit wavs")
    parser.add_argument("--clips", type=int, default=300, help="how many of them (default 300)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ways = (
        librosa_loop,
        librosa_loop_with_kept_filters,
        vocoder_preprocess,
        fourier_transform_alone,
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        few, subset = work / "few", work / "subset"
        paths = sorted((arguments.source / "wavs").glob("*.wav"))
        for target, n_clips in ((few, 20), (subset, arguments.clips)):
            (target / "wavs").mkdir(parents=True)
            for path in paths[:n_clips]:
                (target / "wavs" / path.name).symlink_to(path.resolve())
            lines = (arguments.source / "metadata.csv").read_text().splitlines(keepends=True)
            (target / "metadata.csv").write_text("".join(lines[:n_clips]))
        audio = sum(librosa.get_duration(path=path) for path in (subset / "wavs").iterdir())
        MelSpectrogram("tacotron2-22k")(torch.zeros(22050))
        for way in ways:
            seconds(way, few, work)  # imports and caches
        rounds = [[seconds(way, subset, work) for way in ways] for _ in range(arguments.rounds)]
        taken = {
            way: min(times) for way, times in zip(ways, zip(*rounds, strict=True), strict=True)
        }
    print(f"{audio:.0f} s of audio, {arguments.clips} clips, {arguments.rounds} rounds")
    for way, time_taken in taken.items():
        ratio = taken[librosa_loop] / time_taken
        print(
            f"{way.__name__:32} {1e3 * time_taken / arguments.clips:6.2f} ms a clip, "
            f"{audio / time_taken:6.0f} × real time per core, {ratio:5.2f} × the librosa loop"
        )


if __name__ == "__main__":
    main()
