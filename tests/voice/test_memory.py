"""How much memory a long synthesis takes: what the budget says, however long it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from voices import TACOTRON2, save_tiny_voice, some_mel, voice_models

from vocoder.mel.files import write_mel
from vocoder.voice.flow import FlowVocoder

MIB = 2**20
BUDGET = 64 * MIB


def test_the_edges_of_tiles_are_silent() -> None:
    """Whatever a tile's edge adds, it lies 60 dB below the sound; in truth, it adds rounding."""
    model, mel = voice_models()["nanoflow"], some_mel(400)
    whole, in_tiles = (
        FlowVocoder(model, TACOTRON2, device="cpu", memory=memory).synthesize(mel, seed=0)
        for memory in (1024 * MIB, 22 * MIB)
    )
    assert (in_tiles - whole).abs().max() < 1e-3 * whole.square().mean().sqrt()


@pytest.mark.slow
def test_minutes_take_no_more_than_seconds(tmp_path: Path) -> None:
    """The whole command, from a mel in a file to a WAV, in processes of their own."""
    save_tiny_voice(tmp_path / "voice")
    # 195 s more are 16 MB of audio and 5 MB of mel; what an allocator keeps varies by half of that.
    limit = beside(tmp_path, 45) + 20 * MIB
    # Once in a while it keeps 100 MB more, but not twice in a row.
    assert any(beside(tmp_path, 240) < limit for _ in range(2))


def beside(folder: Path, seconds: float) -> int:
    """Return the peak memory in bytes of a synthesis by command, without its mel and audio."""
    mel = some_mel(round(seconds * TACOTRON2.sample_rate / TACOTRON2.hop_length))
    write_mel(folder / "mel.npz", mel, TACOTRON2)
    command = ["synthesize", "mel.npz", "-o", "out.wav", "--voice", "voice", "--device", "cpu"]
    # Each tells its own: of its children, a process learns the highest alone.
    watched = (
        "import atexit, resource; from vocoder.cli import main; "
        "atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)); "
        f"main({[*command, '--memory', f'{BUDGET // MIB}MB']!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", watched], cwd=folder, capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform == "darwin" else 1024
    n_samples = mel.shape[-1] * TACOTRON2.hop_length
    unavoidable = 4 * (2 * mel.numel() + n_samples)  # the mel as it was read, and as a batch
    return int(done.stdout) * unit - unavoidable
