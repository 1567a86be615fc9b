"""What the noise of a file repeats, and what onnxruntime's quantisation makes of the file."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from voices import TRAINED, some_mel

import vocoder
from vocoder.voice.noise import draw_noise


@pytest.fixture(scope="module")
def trained():
    return vocoder.load(TRAINED, device="cpu")


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def speak(path, mel, noise):
    inputs = {"mel": mel.numpy(), "noise": noise.numpy()}
    return session_of(path).run(["audio"], inputs)[0]


SPEAK_TWICE = """
import sys
import numpy as np
import onnxruntime

mel = np.load(sys.argv[2])[None]
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
np.save(sys.argv[3], [session.run(None, {"mel": mel})[0] for _ in range(2)])
"""


def test_a_seed_repeats_the_series_of_every_session(trained, tmp_path):
    """Also in other processes, between which onnxruntime's own seed differs."""
    np.save(tmp_path / "mel.npy", some_mel(3).numpy())
    said = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        vocoder.export_onnx(trained, tmp_path / f"{name}.onnx", seed=seed)
        command = [sys.executable, "-c", SPEAK_TWICE]
        paths = [str(tmp_path / file) for file in (f"{name}.onnx", "mel.npy", f"{name}.npy")]
        subprocess.run([*command, *paths], check=True, timeout=120)
        said.append(np.load(tmp_path / f"{name}.npy"))
    assert np.array_equal(said[0], said[1])
    assert np.abs(said[0] - said[2]).max() > 0.01
    assert np.abs(said[0][0] - said[0][1]).max() > 0.01  # a series, not one utterance
    session = session_of(tmp_path / "a.onnx")
    assert session.get_modelmeta().custom_metadata_map["seed"] == "7"
    assert [value.name for value in session.get_inputs()] == ["mel"]  # as sherpa-onnx wants


def test_what_quantisation_leaves(trained, tmp_path):
    """As docs/onnx.md says: the loops stay as they are, and the file grows."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    report = vocoder.export_onnx(trained, tmp_path / "voice.onnx", explicit_noise=True)
    out = tmp_path / "int8.onnx"
    quantization.quantize_dynamic(report.path, out)
    assert report.n_bytes < out.stat().st_size < 1.1 * report.n_bytes
    mel, noise = some_mel(12)[None], draw_noise(12 * 256, seed=3)[None]
    exact, coarse = (speak(path, mel, noise) for path in (report.path, out))
    assert 1e-4 < np.linalg.norm(coarse - exact) / np.linalg.norm(exact) < 0.1
