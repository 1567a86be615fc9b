"""A voice as an ONNX file that onnxruntime and sherpa-onnx run without Python or torch."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch

import vocoder
from vocoder.errors import VocoderError
from vocoder.files.atomic import atomic_path
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.mel_consistency import check_refine
from vocoder.voice.vocoder import Vocoder, check_settings

log = logging.getLogger("vocoder")

Precision = Literal["fp32", "fp16"]

FORMAT = 1  # of the metadata and of the names of inputs and outputs
_SEEDS = 2**24
_CHECKED_FRAMES = 18  # more columns than a layer of the published size reaches
# Greatest |Δ| between onnxruntime's audio and the voice's, for each 1 of the loudest sample; a
# hundred times what is usual or more, so that only a graph that is wrong exceeds it.
_TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2}


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: Path of the file.
        n_bytes: Size of the file in bytes.
        difference: the greatest |Δ| between its audio in onnxruntime and the voice's own, of the
            same noise.
        peak: the loudest sample of that audio.
    """

    path: Path
    n_bytes: int
    difference: float
    peak: float


def export_onnx(
    voice: Vocoder,
    path: str | os.PathLike[str],
    *,
    temperature: float = 1.0,
    precision: Precision = "fp32",
    explicit_noise: bool = False,
    seed: int | None = None,
    refine: int = 0,
) -> ExportReport:
    """Write a voice as an ONNX file: `mel` (N, M, T) to `audio` (N, T · hop), both float32.

    The metadata is that of sherpa-onnx's vocoders of the type hifigan, with the mel preset. Before
    the file appears it is run in onnxruntime and its audio compared with the voice's.

    Args:
        voice: A trained flow with the affine transform, of a class that has a graph.
        path: The `.onnx` file to write.
        temperature: Standard deviation of the noise, fixed in the file.
        precision: "fp16" stores half the bytes and computes the layers in float16; the noise, the
            affine transform and the sums over layers stay float32.
        explicit_noise: Whether to take standard normal `noise` (N, T · hop) as a second input,
            instead of drawing it in the graph; the temperature multiplies it.
        seed: Seed of the noise that the graph draws, fixed in the file: every session that loads it
            speaks the same series of utterances. None lets onnxruntime choose.
        refine: Must be 0, for the graph is the flow alone: mel consistency ends in an inverse
            short-time transform, for which ONNX has no operator.

    Raises:
        VocoderError: No such graph can be made of the voice, an argument is wrong, the packages of
            the extra `onnx` are missing, or onnxruntime's audio is not the voice's.
        OSError: The file cannot be written.
    """
    path = Path(path)
    if not isinstance(voice, FlowVocoder):
        raise VocoderError(
            f"{voice.name}: an algorithm without a network, nothing to export; give a trained voice"
        )
    if path.suffix != ".onnx":
        raise VocoderError(f"{path}: give a name that ends in .onnx")
    check_settings(temperature)
    _check_seed(seed, explicit_noise)
    if check_refine(refine):
        raise VocoderError(
            f"refine {refine}: a graph cannot hold the sound to its mel, since ONNX has no inverse "
            "short-time transform; leave it out, or speak with `vocoder synthesize --refine`"
        )
    if voice.default_refine:
        log.warning(
            "%s: takes %d steps of mel consistency by itself, which a graph cannot; its sound is "
            "that of --refine 0",
            voice.name,
            voice.default_refine,
        )
    if precision not in _TOLERANCE:
        raise VocoderError(f"precision {precision!r}: not one of fp32, fp16")
    onnx = _optional("onnx")
    _optional("onnxruntime")
    from vocoder.export.voice_graph import voice_graph

    graph = voice_graph(
        voice.model,
        temperature=temperature,
        half=precision == "fp16",
        explicit_noise=explicit_noise,
        seed=seed,
    )
    model = graph.model(voice.preset.name, "vocoder", vocoder.__version__)
    onnx.helper.set_model_props(model, _metadata(voice, temperature, precision, seed))
    difference, peak = _compare(model, voice, temperature)
    if not difference <= _TOLERANCE[precision] * max(peak, 1.0):
        remedy = "try fp32" if precision == "fp16" else "try another version of onnxruntime"
        raise VocoderError(
            f"{path}: not written, since onnxruntime's audio differs from the voice's by "
            f"{difference:.2g} where the loudest sample is {peak:.2g}; {remedy}"
        )
    with atomic_path(path) as temporary:
        onnx.save_model(model, temporary)
    return ExportReport(path, path.stat().st_size, difference, peak)


def _check_seed(seed: int | None, explicit_noise: bool) -> None:
    if seed is None:
        return
    if explicit_noise:
        raise VocoderError(
            f"seed {seed}: a graph that is given its noise draws none; leave out one of the two"
        )
    if not 0 <= seed < _SEEDS:
        raise VocoderError(
            f"seed {seed}: must lie between 0 and {_SEEDS - 1}, since ONNX keeps it as a float32"
        )


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise VocoderError(f"{name}: not installed; run: pip install 'vocoder[onnx]'") from None


def _metadata(
    voice: FlowVocoder, temperature: float, precision: str, seed: int | None
) -> dict[str, str]:
    """Return what sherpa-onnx asks for, and what tells a mel that fits from one that does not."""
    preset = voice.preset
    values = {
        "model_type": "hifigan",  # one input, a mel, and one output, the audio
        "version": FORMAT,
        "sample_rate": preset.sample_rate,
        "n_mels": preset.n_mels,
        "hop_length": preset.hop_length,
        "temperature": temperature,
        "precision": precision,
        "preset": preset.name,
        "preset_fingerprint": preset.fingerprint,
        **({} if seed is None else {"seed": seed}),
    }
    return {key: str(value) for key, value in values.items()}


@torch.inference_mode()
def _compare(model: Any, voice: FlowVocoder, temperature: float) -> tuple[float, float]:
    """Return the greatest |Δ| between onnxruntime's audio and the voice's, and the peak of that.

    Both get the mel of quiet noise, which is of the preset's range whatever the preset, and the
    same noise: where the graph would draw it, it is handed in at that place.
    """
    import numpy as np
    import onnxruntime

    from vocoder.export.voice_graph import MEL, NOISE, expose_noise

    preset = voice.preset
    generator = torch.Generator().manual_seed(0)
    n_samples = max(_CHECKED_FRAMES * preset.hop_length, preset.min_samples)
    mel = voice.mel(0.05 * torch.randn(1, n_samples, generator=generator))
    noise = torch.randn(1, mel.shape[-1] * preset.hop_length, generator=generator)
    exposed = expose_noise(model)
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    inputs = {MEL: mel.cpu().numpy(), NOISE: noise.numpy()}
    audio = np.asarray(session.run(None, inputs)[0])
    # Not the voice's renderer, which may compute in float16 itself.
    like = next(voice.model.parameters())
    cond = voice.model.condition(mel.to(like))
    expected = voice.model.inverse((temperature * noise).to(like), cond).cpu().numpy()
    return float(np.abs(audio - expected).max()), float(np.abs(expected).max())
