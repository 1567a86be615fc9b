"""sherpa-onnx speaks through a vocoder, whatever the text: its acoustic model says one mel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

SPEAK = """
import sys
import numpy as np
import sherpa_onnx as sherpa

folder = sys.argv[1]
matcha = sherpa.OfflineTtsMatchaModelConfig(
    acoustic_model=f"{folder}/acoustic.onnx",
    vocoder=f"{folder}/voice.onnx",
    lexicon=f"{folder}/lexicon.txt",
    tokens=f"{folder}/tokens.txt",
)
model = sherpa.OfflineTtsModelConfig(matcha=matcha, num_threads=1)
config = sherpa.OfflineTtsConfig(model=model, silence_scale=1.0)
assert config.validate()
audio = sherpa.OfflineTts(config).generate("a b a")
assert audio.sample_rate == 22050
np.save(f"{folder}/audio.npy", np.asarray(audio.samples, np.float32))
"""


def speak_with_sherpa(folder: Path, mel: Tensor) -> np.ndarray:
    """Return the audio (N,) that `voice.onnx` in a folder makes of a mel (M, F) of 22050 Hz."""
    save_acoustic_model(folder, mel)
    # In a process of its own: it exits where it does not like a file, and has its own onnxruntime.
    subprocess.run(
        [sys.executable, "-c", SPEAK, str(folder)], check=True, timeout=120, capture_output=True
    )
    audio: np.ndarray = np.load(folder / "audio.npy")
    return audio


def save_acoustic_model(folder: Path, mel: Tensor) -> None:
    """Write a model that says `mel` (M, F) to whatever text, with all that sherpa-onnx reads."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["constant"], ["mel"])],
        "acoustic",
        [
            info("x", TensorProto.INT64, ["N", "L"]),
            info("x_length", TensorProto.INT64, ["N"]),
            info("noise_scale", TensorProto.FLOAT, [1]),
            info("length_scale", TensorProto.FLOAT, [1]),
        ],
        [info("mel", TensorProto.FLOAT, [1, *mel.shape])],
        [numpy_helper.from_array(mel[None].numpy(), "constant")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {
        "model_type": "matcha-tts",
        "language": "Chinese",
        "voice": "",
        "sample_rate": "22050",
        "n_speakers": "1",
        "jieba": "1",
        "has_espeak": "0",
        "use_eos_bos": "0",
        "pad_id": "0",
        "version": "1",
        "num_ode_steps": "3",
    }
    helper.set_model_props(model, metadata)
    onnx.save(model, folder / "acoustic.onnx")
    (folder / "tokens.txt").write_text("_ 0\na 1\nb 2\n")
    (folder / "lexicon.txt").write_text("a a\nb b\n")
