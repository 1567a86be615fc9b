"""The ONNX file against the voice: the same audio of the same noise, in others' runtimes."""

from __future__ import annotations

import re
import sys
import time

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from commands import REPOSITORY, assert_one_error_line, left_in
from helpers import audio_and_mel, perturb, tiny_models
from onnx import TensorProto, helper
from sherpa_voice import speak_with_sherpa
from voices import TACOTRON2, TRAINED, save_tiny_voice, some_mel

import vocoder
from vocoder import checkpoint
from vocoder.data.images.description import ImageDescription
from vocoder.errors import VocoderError
from vocoder.export import voice_graph
from vocoder.models.glow import Glow, GlowConfig
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig
from vocoder.models.waveflow import WaveFlow, WaveFlowConfig
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.noise import draw_noise

AFFINE = sorted(name for name in tiny_models() if not name.endswith("spline"))
SMALL = {"channels": 6, "n_layers": 2, "n_flows": 2}


@pytest.fixture(scope="module")
def models():
    return tiny_models()


@pytest.fixture(scope="module")
def trained():
    return vocoder.load(TRAINED, device="cpu")


def proto_of(model, **settings):
    proto = voice_graph.voice_graph(model.fold(), **settings).model("test", "vocoder", "0")
    onnx.checker.check_model(proto, full_check=True)
    return proto


def session_of(source):
    if isinstance(source, onnx.ModelProto):
        source = source.SerializeToString()
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


def speak(session, mel, noise=None):
    inputs = {"mel": mel.float().numpy()}
    if noise is not None:
        inputs["noise"] = noise.float().numpy()
    return torch.from_numpy(session.run(["audio"], inputs)[0])


def convolutions_of(proto):
    """Return the weights of the layers' convolutions; those of the upsampler have one input."""
    constants = proto.graph.initializer
    return [c for c in constants if c.dims[2:] == [3, 3] and c.dims[1] > 1]


# ---- parity ----


@pytest.mark.parametrize("name", AFFINE)
def test_every_family_gives_the_audio_of_model_inverse(models, name):
    # The model is in float64, and onnxruntime's sums in float32 are within 1e-6 of it.
    model = models[name]
    session = session_of(proto_of(model, explicit_noise=True))
    for n_frames in (1, 3, 8):
        for batch in (1, 2):
            noise, mel = audio_and_mel(model, n_frames, batch)
            audio = speak(session, mel, noise)
            assert audio.shape == (batch, n_frames * model.hop_length)
            assert (audio - model.inverse(noise, mel)).abs().max() < 1e-5


@pytest.mark.parametrize("strides", [(5, 5, 11), (3, 4)])
def test_every_hop_length(strides):
    config = WaveFlowConfig(n_mels=3, upsample_strides=strides, n_height=strides[-1], **SMALL)
    model = perturb(WaveFlow(config)).double()
    noise, mel = audio_and_mel(model)
    audio = speak(session_of(proto_of(model, explicit_noise=True)), mel, noise)
    assert (audio - model.inverse(noise, mel)).abs().max() < 1e-5


def test_a_trained_voice_gives_the_audio_of_synthesize(trained, tmp_path):
    report = vocoder.export_onnx(
        trained, tmp_path / "voice.onnx", explicit_noise=True, temperature=0.8
    )
    assert report.difference < 1e-5
    session = session_of(report.path)
    for n_frames in (1, 5, 12):
        for batch in (1, 2):
            mel = torch.stack([some_mel(n_frames, seed) for seed in range(batch)])
            noise = draw_noise(n_frames * 256, seed=3).repeat(batch, 1)
            expected = trained.synthesize(mel, temperature=0.8, seed=3)
            assert (speak(session, mel, noise) - expected).abs().max() < 1e-4


def test_half_precision_is_float16_inside_and_float32_outside(trained, tmp_path):
    full = vocoder.export_onnx(trained, tmp_path / "full.onnx")
    half = vocoder.export_onnx(
        trained, tmp_path / "half.onnx", precision="fp16", explicit_noise=True
    )
    assert half.n_bytes < 0.6 * full.n_bytes
    session = session_of(half.path)
    assert {value.type for value in session.get_inputs() + session.get_outputs()} == {
        "tensor(float)"
    }
    convolutions = convolutions_of(onnx.load(half.path))
    assert {constant.data_type for constant in convolutions} == {TensorProto.FLOAT16}
    mel, noise = some_mel(12)[None], draw_noise(12 * 256, seed=3)[None]
    error = speak(session, mel, noise) - trained.synthesize(mel, seed=3)
    # float16 has 11 bits, and errors add up over 4 flows of 16 rows.
    assert 1e-6 < error.abs().max() < 1e-2


# ---- the noise ----


def test_the_graph_draws_its_own_noise_at_the_temperature(models):
    proto = proto_of(models["nanoflow"], temperature=0.5)
    assert [value.name for value in proto.graph.input] == ["mel"]
    (node,) = [node for node in proto.graph.node if node.op_type == "RandomNormalLike"]
    proto.graph.output.append(helper.make_tensor_value_info(node.output[0], 1, ["N", "samples"]))
    session = session_of(proto)
    _, mel = audio_and_mel(models["nanoflow"], n_frames=200)
    draws = [session.run(None, {"mel": mel.float().numpy()}) for _ in range(2)]
    for audio, noise in draws:
        assert noise.shape == audio.shape == (2, 200 * 24)
        assert abs(noise.mean()) < 0.05
        assert abs(noise.std() - 1) < 0.05
        expected = models["nanoflow"].inverse(0.5 * torch.from_numpy(noise).double(), mel)
        assert (torch.from_numpy(audio) - expected).abs().max() < 1e-4
    assert np.abs(draws[0][1] - draws[1][1]).max() > 1
    assert np.abs(draws[0][1][0] - draws[0][1][1]).max() > 1


def test_temperature_zero_is_the_same_every_time(models):
    model = models["waveflow"]
    session = session_of(proto_of(model, temperature=0.0))
    _, mel = audio_and_mel(model)
    audio = speak(session, mel)
    assert torch.equal(audio, speak(session, mel))
    silent = torch.zeros(2, 3 * model.hop_length).double()
    assert (audio - model.inverse(silent, mel)).abs().max() < 1e-5


# ---- what is in the file ----


def test_shared_estimators_are_stored_once(models):
    assert len(convolutions_of(proto_of(models["nanoflow"]))) == 3  # layers
    assert len(convolutions_of(proto_of(models["waveflow"]))) == 3 * 3  # flows as well


def test_the_file_does_not_grow_with_the_rows():
    sizes = set()
    for n_height in (4, 64):
        model = WaveFlow(WaveFlowConfig(n_height=n_height, **SMALL))
        graph = proto_of(model).graph
        bodies = [node.attribute[0].g for node in graph.node if node.op_type == "Scan"]
        sizes.add((len(graph.node), *(len(body.node) for body in bodies)))
    assert len(sizes) == 1


def test_the_published_size_loads_in_seconds(tmp_path):
    """Of r64 with 8 flows: 0.3 to 0.6 s where 5 are asked for."""
    path = tmp_path / "r64.onnx"
    for model in (NanoFlow(NanoFlowConfig()), WaveFlow(WaveFlowConfig())):
        onnx.save(proto_of(model.eval()), path)
        start = time.process_time()
        session_of(path)
        assert time.process_time() - start < 5


def test_the_metadata_names_the_mel(trained, tmp_path):
    vocoder.export_onnx(trained, tmp_path / "voice.onnx", temperature=0.8)
    metadata = session_of(tmp_path / "voice.onnx").get_modelmeta().custom_metadata_map
    assert metadata == {
        "model_type": "hifigan",
        "version": "1",
        "sample_rate": "22050",
        "n_mels": "80",
        "hop_length": "256",
        "temperature": "0.8",
        "precision": "fp32",
        "preset": "tacotron2-22k",
        "preset_fingerprint": TACOTRON2.fingerprint,
    }


# ---- other people's code ----


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_sherpa_onnx_speaks_through_the_file(trained, tmp_path, temperature):
    pytest.importorskip("sherpa_onnx")
    mel = some_mel(14)
    vocoder.export_onnx(trained, tmp_path / "voice.onnx", temperature=temperature)
    audio = speak_with_sherpa(tmp_path, mel)
    assert audio.shape == (14 * 256,)
    mode = trained.synthesize(mel, temperature=0.0).numpy()
    if temperature == 0:
        np.testing.assert_allclose(audio, mode, atol=1e-4)
    else:
        assert np.abs(audio - mode).max() > 1e-2


def test_the_lines_of_the_documentation_speak(trained, tmp_path, monkeypatch):
    text = (REPOSITORY / "docs" / "onnx.md").read_text(encoding="utf-8")
    lines = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    lines = lines.replace('"egs/', f'"{REPOSITORY}/egs/').replace('["mel"]', '["mel"][:, :9]')
    vocoder.export_onnx(trained, tmp_path / "voice.onnx")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(lines, names)
    assert names["audio"].shape == (9 * 256,)
    assert names["rate"] == 22050


# ---- refusals ----


def test_splines_are_refused(models):
    with pytest.raises(VocoderError, match=r"spline voice.*affine"):
        voice_graph.voice_graph(models["nanoflow-spline"].fold())


def test_a_file_that_sounds_otherwise_is_not_written(trained, tmp_path, monkeypatch):
    def wrong(model, *, temperature, **settings):
        return original(model, temperature=0.5 * temperature, **settings)

    original = voice_graph.voice_graph
    monkeypatch.setattr(voice_graph, "voice_graph", wrong)
    with pytest.raises(VocoderError, match=r"voice.onnx: not written.*differs"):
        vocoder.export_onnx(trained, tmp_path / "voice.onnx")
    assert not left_in(tmp_path)


def test_float16_that_overflows_is_not_written(tmp_path):
    model = perturb(WaveFlow(WaveFlowConfig(**SMALL)), size=0.1).eval()
    with torch.no_grad():
        model.nets[0].front.bias.fill_(1e6)  # float16 ends at 65504
    voice = FlowVocoder(model, TACOTRON2, device="cpu")
    with pytest.raises(VocoderError, match=r"voice.onnx: not written.*try fp32"):
        vocoder.export_onnx(voice, tmp_path / "voice.onnx", precision="fp16")
    assert not left_in(tmp_path)
    vocoder.export_onnx(voice, tmp_path / "voice.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_the_remedy(trained, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(VocoderError, match=rf"{package}: not installed.*'vocoder\[onnx\]'"):
        vocoder.export_onnx(trained, tmp_path / "voice.onnx")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": -1}, "temperature -1: must be 0 or more"),
        ({"temperature": float("nan")}, "temperature nan: must be 0 or more"),
        ({"precision": "int8"}, "precision 'int8': not one of fp32, fp16"),
        ({"seed": -1}, "seed -1: must lie between 0 and 16777215"),
        ({"seed": 2**24}, "seed 16777216: must lie between 0 and 16777215"),
        ({"seed": 1, "explicit_noise": True}, "seed 1: a graph that is given its noise"),
    ],
)
def test_wrong_settings(trained, tmp_path, settings, words):
    with pytest.raises(VocoderError, match=words):
        vocoder.export_onnx(trained, tmp_path / "voice.onnx", **settings)


# ---- the command ----


def test_the_command_says_what_it_wrote(run, tmp_path):
    voice = save_tiny_voice(tmp_path / "tiny.safetensors")
    out = tmp_path / "voice.onnx"
    result = run("export", voice, "-o", out, "--precision", "fp16", "--temperature", "0.7")
    assert result.code == 0
    assert str(out) in result.out.decode()
    assert "fp16" in result.out.decode()
    assert session_of(out).get_modelmeta().custom_metadata_map["temperature"] == "0.7"
    assert left_in(tmp_path) == ["tiny.safetensors", "voice.onnx"]


def test_what_cannot_be_exported_is_one_line(run, tmp_path):
    pictures = tmp_path / "pictures.safetensors"
    config = GlowConfig(image_height=8, image_width=8, n_levels=1, n_steps=1, channels=4)
    checkpoint.save(pictures, Glow(config), ImageDescription((3, 8, 8)))
    for voice, words in (
        ("griffin-lim", "griffin-lim: an algorithm without a network"),
        (pictures, "not a voice"),
        (tmp_path / "none.safetensors", "no such file"),
    ):
        result = run("export", voice, "-o", tmp_path / "voice.onnx")
        assert_one_error_line(result, words)
    assert left_in(tmp_path) == ["pictures.safetensors"]


def test_a_place_that_cannot_be_written_is_one_line(run, tmp_path):
    voice = save_tiny_voice(tmp_path / "tiny.safetensors")
    (tmp_path / "folder.onnx").mkdir()
    for out, words in (
        (tmp_path / "none" / "voice.onnx", "check the path"),
        (voice / "voice.onnx", "check the path"),
        (tmp_path / "folder.onnx", "name a file"),
        (tmp_path / "voice.wav", "ends in .onnx"),
    ):
        assert_one_error_line(run("export", voice, "-o", out), out, words)
    assert left_in(tmp_path) == ["tiny.safetensors"]
