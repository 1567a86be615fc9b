from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from voices import some_mel

from vocoder.errors import VocoderError
from vocoder.mel.convert import convert_mel
from vocoder.mel.normalisation import STATS_SUFFIXES, read_mel_stats, rescale_mel
from vocoder.mel.presets import PRESETS, get_preset

MEAN, SCALE = np.linspace(-6, -2, 80), np.linspace(0.5, 2, 80)


def write_stats(path: Path, mean: np.ndarray, scale: np.ndarray) -> Path:
    """Write what compute_statistics of ParallelWaveGAN writes, or the same in another form."""
    if path.suffix == ".npy":
        np.save(path, np.stack([mean, scale]))
    elif path.suffix == ".npz":
        np.savez(path, mean=mean, scale=scale)
    elif path.suffix == ".json":
        path.write_text(json.dumps({"mean": mean.tolist(), "scale": scale.tolist()}))
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["mean"], file["scale"] = mean, scale
    return path


@pytest.mark.parametrize("suffix", STATS_SUFFIXES)
def test_z_scores_are_undone(tmp_path: Path, suffix: str) -> None:
    mel = some_mel(9)
    scores = (mel - torch.from_numpy(MEAN)[:, None]) / torch.from_numpy(SCALE)[:, None]
    stats = read_mel_stats(write_stats(tmp_path / f"stats{suffix}", MEAN, SCALE))
    restored = stats.undo(scores.float())
    assert restored.dtype == torch.float32
    torch.testing.assert_close(restored, mel, atol=1e-5, rtol=0)
    with pytest.raises(VocoderError, match="100 bands, the statistics have 80"):
        stats.undo(torch.zeros(100, 3))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".json"])
@pytest.mark.parametrize(
    ("mean", "scale"),
    [(MEAN, SCALE * 0), (MEAN, -SCALE), (MEAN * np.nan, SCALE), (MEAN[:0], SCALE[:0])],
    ids=["zero", "negative", "NaN", "empty"],
)
def test_statistics_that_cannot_be_are_named(tmp_path, suffix, mean, scale) -> None:
    path = write_stats(tmp_path / f"stats{suffix}", mean, scale)
    with pytest.raises(VocoderError, match=rf"stats{suffix}: has \d+ means"):
        read_mel_stats(path)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.h5", "a.json", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"junk", b"{}", b"[1]", b"PK\3\4junk", b"\x93NUMPY"])
def test_junk_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VocoderError, match=rf"{name}: .*"):
        read_mel_stats(tmp_path / name)


@pytest.mark.parametrize("suffix", STATS_SUFFIXES)
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, suffix: str) -> None:
    path = write_stats(tmp_path / f"stats{suffix}", MEAN, SCALE)
    whole = path.read_bytes()
    for n_bytes in range(0, len(whole), 97):
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(VocoderError, match=rf"stats{suffix}: .*"):
            read_mel_stats(path)


@pytest.mark.parametrize("suffix", STATS_SUFFIXES)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, suffix: str) -> None:
    if suffix == ".h5":
        pytest.importorskip("h5py")
    with pytest.raises((VocoderError, FileNotFoundError), match=f"stats{suffix}"):
        read_mel_stats(tmp_path / f"stats{suffix}")


@pytest.mark.parametrize("preset", [p for p in PRESETS.values() if p.log != "none"])
def test_another_logarithm_is_exact(preset) -> None:
    """What the preset's own floor and clip allow, each logarithm gives back."""
    x = torch.logspace(-3, 0, 50, dtype=torch.float64).expand(preset.n_mels, 50)
    expected = torch.tensor([preset.compress(float(v)) for v in x[0]]).double().expand_as(x)
    factor = 10 if preset.spectrum == "power" else 20
    for scale, mel in (("db", factor * x.log10()), ("log10", x.log10()), ("ln", x.log())):
        torch.testing.assert_close(rescale_mel(mel, preset, scale), expected, atol=1e-6, rtol=1e-6)


def test_a_decibel_mel_becomes_one_of_the_voice() -> None:
    mel = some_mel(9).clamp_min(-11)
    decibels = 20 * mel / np.log(10)
    preset = get_preset("tacotron2-22k")
    torch.testing.assert_close(rescale_mel(decibels, preset, "db"), mel, atol=1e-4, rtol=0)
    assert convert_mel(mel, preset, preset) is mel
