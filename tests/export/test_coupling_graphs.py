"""The ONNX graphs of WaveGlow and FloWaveNet, in every variant of theirs."""

from __future__ import annotations

import pytest
import torch
from helpers import audio_and_mel, coupling_models

from vocoder.errors import VocoderError
from vocoder.models.families.coupling_flow import CouplingFlow

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

MODELS = coupling_models()
WITH_GRAPH = {name: model for name, model in MODELS.items() if model.config.granule > 1}


def run(model: CouplingFlow, feeds: dict[str, torch.Tensor], **settings: object) -> torch.Tensor:
    """Return the audio of a model's graph."""
    from vocoder.export.voice_graph import voice_graph

    graph = voice_graph(model, **settings).model("voice", "tests", "0")  # type: ignore[arg-type]
    session = ort.InferenceSession(graph.SerializeToString())
    arrays = {name: tensor.numpy() for name, tensor in feeds.items()}
    return torch.from_numpy(session.run(None, arrays)[0])


@pytest.mark.parametrize("name", WITH_GRAPH)
@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-5), (True, 1e-2)])
def test_the_graph_is_the_inverse(name: str, half: bool, tolerance: float) -> None:
    z, mel = (tensor.float() for tensor in audio_and_mel(MODELS[name], n_frames=7))
    model = MODELS[name].fold().float()
    with torch.no_grad():
        expected = model.inverse(0.7 * z, mel)
    feeds = {"mel": mel, "noise": z}
    audio = run(model, feeds, explicit_noise=True, half=half, temperature=0.7)
    torch.testing.assert_close(
        audio, expected, atol=tolerance * expected.abs().max().item(), rtol=0
    )


@pytest.mark.parametrize("name", ["waveglow", "flowavenet"])
def test_the_graph_draws_its_own_noise_by_its_seed(name: str) -> None:
    _, mel = audio_and_mel(MODELS[name], n_frames=7)
    model, feeds = MODELS[name].fold().float(), {"mel": mel.float()}
    audio = run(model, feeds, seed=3)
    assert audio.shape == (2, 7 * 24)
    assert audio[0].std() > 0.1
    assert torch.equal(run(model, feeds, seed=3), audio)
    assert not torch.equal(run(model, feeds, seed=4), audio)


def test_frames_of_parts_of_columns_have_no_graph() -> None:
    with pytest.raises(VocoderError, match="10 samples a column has no ONNX graph"):
        run(MODELS["waveglow-loose"].fold().float(), {})
