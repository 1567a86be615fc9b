"""A published checkpoint becomes a voice like any other: adapter, denoiser, story and refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from helpers import GOLDEN, golden, state_of

from vocoder.adapters import WaveGlowVocoder
from vocoder.errors import VocoderError
from vocoder.files.audio import read_wav
from vocoder.mel.spectrogram import MelSpectrogram
from vocoder.official.importing import import_official_file
from vocoder.voice.denoiser import Denoiser
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.load import load
from vocoder.voice.noise import draw_noise

REPOSITORY = Path(__file__).parents[2]
STORY = REPOSITORY / "egs" / "tts" / "waveglow.sh"
WAVEGLOW = GOLDEN / "checkpoints" / "waveglow-pickle-fused-legacy.pt"
CLIP = REPOSITORY / "egs" / "quickstart" / "corpus" / "wavs" / "ES000001.flac"


@pytest.fixture(scope="module", params=["waveglow", "flowavenet"])
def voice(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlowVocoder:
    folder = tmp_path_factory.mktemp(request.param)
    source, out = WAVEGLOW, folder / "voice.safetensors"
    if request.param == "flowavenet":
        source = folder / "checkpoint_step000000001.pth"
        torch.save({"state_dict": state_of(golden("flowavenet")[0])}, source)
    import_official_file(source, None, out)
    found = load(out, device="cpu")
    assert isinstance(found, FlowVocoder)
    return found


def some_mel(voice: FlowVocoder, n_frames: int = 9) -> torch.Tensor:
    """Return the mel (M, F) of a quiet recording, by the preset of the voice."""
    audio, _ = read_wav(CLIP, sample_rate=voice.sample_rate)
    quiet = 0.1 * torch.from_numpy(audio)[: n_frames * voice.hop_length]
    return MelSpectrogram(voice.preset)(quiet[None])[0][:, :n_frames]


def test_code_written_for_waveglow_drives_it(voice: FlowVocoder) -> None:
    mel = some_mel(voice)
    waveglow = WaveGlowVocoder(voice, voice.preset, seed=3)
    audio = waveglow.infer(mel[None], sigma=0.6)
    assert torch.equal(audio[0], voice.synthesize(mel, temperature=0.6, seed=3))
    z = 0.6 * draw_noise(audio.shape[1], seed=3)[None]
    with torch.no_grad():
        expected = voice.model.inverse(z, mel[None])
    torch.testing.assert_close(audio, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)


def test_its_hum_is_taken_out(voice: FlowVocoder) -> None:
    denoiser = Denoiser(voice)
    assert denoiser.bias.isfinite().all()
    assert denoiser.bias.max() > 0
    hum = voice.synthesize(
        torch.full((voice.n_mels, 64), voice.preset.compress(1.0)), temperature=0.0, seed=0
    )
    assert denoiser(hum, strength=1.0).square().mean() < 0.25 * hum.square().mean()


def test_a_mel_of_other_bands_is_refused(voice: FlowVocoder) -> None:
    with pytest.raises(VocoderError, match="mel"):
        voice.synthesize(torch.zeros(voice.n_mels + 3, 20))


def tell(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the story in a folder."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["sh", str(STORY), *map(str, arguments)]
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_from_a_checkpoint_to_sound(tmp_path: Path) -> None:
    done = tell(tmp_path, WAVEGLOW, CLIP)
    assert done.returncode == 0, done.stderr
    assert "WaveGlow" in done.stdout
    (spoken,) = (tmp_path / "out" / "tts" / "waveglow").iterdir()
    audio, rate = soundfile.read(spoken)
    assert (rate, len(audio) % 256) == (22050, 0)
    assert audio.std() > 0.01


@pytest.mark.slow
def test_a_checkpoint_that_was_cut_off_ends_the_story_in_one_line(tmp_path: Path) -> None:
    cut = tmp_path / "waveglow_256channels.pt"
    cut.write_bytes(WAVEGLOW.read_bytes()[:5000])
    done = tell(tmp_path, cut, CLIP)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert str(cut) in done.stderr
    assert not list((tmp_path / "out" / "tts").glob("*.safetensors"))
