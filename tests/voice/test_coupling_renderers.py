"""The fast renderers of WaveGlow and FloWaveNet, beyond the laws of every voice."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from helpers import audio_and_mel, coupling_models

from vocoder.benchmark.published_waveglow import PublishedWaveGlow
from vocoder.errors import VocoderError
from vocoder.kernels.dispatch import BackendError
from vocoder.models.families.coupling_flow import CouplingFlow
from vocoder.models.waveglow import WaveGlow
from vocoder.voice.renderer import make_renderer
from vocoder.voice.windows import WindowRenderer

WAVEGLOWS = {n: m for n, m in coupling_models().items() if isinstance(m, WaveGlow)}
UNKNOWN = ("waveglow-wide-kernel", "waveglow-loose")
FAST = {n: m for n, m in coupling_models().items() if n not in UNKNOWN}
each_fast = pytest.mark.parametrize("model", FAST.values(), ids=FAST.keys())


@each_fast
@pytest.mark.parametrize("window", [3, 16, 8192])
def test_windows_of_any_size_give_the_inverse(model: CouplingFlow, window: int) -> None:
    """To items of a padded batch, too, each as if alone."""
    z, mel = audio_and_mel(model, n_frames=11, batch=3)
    lengths = torch.tensor([11, 1, 7])
    folded = model.fold()
    renderer = make_renderer(folded, torch.float64)
    assert isinstance(renderer, WindowRenderer)
    renderer.window = window
    audio = renderer.render(z.clone(), mel, lengths)
    for item, n in enumerate(lengths.tolist()):
        n_samples = n * model.hop_length
        with torch.no_grad():
            alone = folded.inverse(z[item : item + 1, :n_samples], mel[item : item + 1, :, :n])
        torch.testing.assert_close(audio[item, :n_samples], alone[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_the_fast_path_does_not_know_is_left_to_the_inverse(name: str) -> None:
    folded = WAVEGLOWS[name].fold()
    assert make_renderer(folded, torch.float64).backend == "reference"
    with pytest.raises(BackendError, match="kernels of 3 and frames of whole columns"):
        make_renderer(folded, torch.float64, "cpu")


@pytest.mark.parametrize("name", ["waveglow", "flowavenet"])
def test_a_budget_is_kept_or_refused(name: str) -> None:
    folded = FAST[name].fold()
    renderer = make_renderer(folded, torch.float64, memory=2**22)
    assert isinstance(renderer, WindowRenderer)
    assert renderer.smallest <= renderer.window < renderer.largest
    with pytest.raises(VocoderError, match=r"memory 0 MB: this voice takes \d+ MB"):
        make_renderer(folded, torch.float64, memory=1000)


@pytest.mark.parametrize(
    "model",
    [model for model in WAVEGLOWS.values() if model.config.granule > 1],
    ids=[name for name, model in WAVEGLOWS.items() if model.config.granule > 1],
)
def test_the_published_infer_is_the_inverse(model: WaveGlow) -> None:
    z, mel = audio_and_mel(model)
    with torch.no_grad():
        expected = model.inverse(z, mel)
    torch.testing.assert_close(PublishedWaveGlow(model)(z, mel), expected, atol=1e-10, rtol=0)


WATCHED = """
import resource, sys, torch
from vocoder.models.flowavenet import FloWaveNet, FloWaveNetConfig
from vocoder.models.waveglow import WaveGlow, WaveGlowConfig
from vocoder.voice.renderer import make_renderer
torch.manual_seed(0)
if sys.argv[1] == "waveglow":
    model = WaveGlow(WaveGlowConfig(channels=16, n_layers=6, n_flows=4))
else:
    model = FloWaveNet(FloWaveNetConfig(channels=16, n_blocks=4, n_flows=2, blocks_per_split=2))
renderer = make_renderer(model.eval().fold(), None)
n_frames = int(float(sys.argv[2]) * 22050 / 256)
mel = torch.rand(1, 80, n_frames)
with torch.inference_mode():
    renderer.render(torch.randn(1, n_frames * 256), mel, None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["waveglow", "flowavenet"])
def test_minutes_take_no_more_memory_than_seconds(name: str) -> None:
    """Beside the mel, twice, and the audio, three times: noise, and before and after a flow."""
    peaks = {}
    for seconds in (10, 300):
        command = [sys.executable, "-c", WATCHED, name, str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        unit = 1 if sys.platform == "darwin" else 1024
        arrays = 4 * seconds * 22050 * (3 + 2 * 80 / 256)
        peaks[seconds] = int(done.stdout) * unit - arrays
    assert peaks[300] < 1.15 * peaks[10]
