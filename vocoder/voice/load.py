"""From a file, a run folder or a name to a voice."""

from __future__ import annotations

import os

import torch

from vocoder import checkpoint
from vocoder.device import resolve_device
from vocoder.errors import VocoderError
from vocoder.mel.presets import TACOTRON2, MelPreset, get_preset, preset_difference
from vocoder.models.families.voice import VoiceModel
from vocoder.voice.catalogue import GRIFFIN_LIM, Catalogue, default_voice, find_voice
from vocoder.voice.flow import FlowVocoder
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.vocoder import Vocoder


def load(
    path_or_name: str | os.PathLike[str] | None = None,
    *,
    preset: str | MelPreset | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    backend: str | None = None,
    memory: int | None = None,
) -> Vocoder:
    """Load a voice.

    Args:
        path_or_name: A checkpoint file, a run folder, the name of a shipped voice, or
            "griffin-lim". None is the default voice of the preset: a shipped one, if it beat
            Griffin-Lim on held-out sentences, and else Griffin-Lim.
        preset: What the mels are made with, or its name. Griffin-Lim takes any, and a trained
            voice that of its training; None is that, or "tacotron2-22k".
        device: "cpu", "cuda", "cuda:1", …; None is a GPU where there is one.
        dtype: "float32", "float64", "bfloat16" or "float16"; None is the backend's own: float16
            operands with float32 sums for "triton", float32 for all others. "auto" is bfloat16 on
            a CPU that multiplies in it several times as fast, for voices that it makes faster, and
            else the backend's own.
        backend: "reference", "cpu", "triton" or "auto"; None is what `kernels.use` or the variable
            VOCODER_BACKEND asks for, and else "auto", the fastest that can run.
        memory: Bytes that a synthesis on the CPU plans with, beside the voice, its mels and audio;
            None is 2 GiB. Long utterances have no seam for it. Only the "cpu" backend plans;
            Griffin-Lim takes neither this nor a backend.

    Raises:
        VocoderError: There is no such voice, preset, device or dtype, the file is not a voice, or
            it was trained with another preset.
        BackendError: The backend that was asked for cannot run here.
    """
    if isinstance(preset, str):
        preset = get_preset(preset)
    if path_or_name is None:
        path_or_name = default_voice(preset or TACOTRON2).voice
    name = os.fspath(path_or_name)
    if name == GRIFFIN_LIM:
        if backend not in (None, "auto") or memory is not None:
            raise VocoderError(
                f"{name}: has no backend to choose and no memory to plan; leave both out, or name "
                "a trained voice"
            )
        untrained = GriffinLimVocoder(preset or TACOTRON2, device=device, dtype=dtype)
        untrained.default_refine = Catalogue.read().griffin_lim_refine
        return untrained
    path = find_voice(name)
    device = resolve_device(device)
    stored = checkpoint.load(path, device="cpu")
    if not isinstance(stored.model, VoiceModel):
        raise VocoderError(
            f"{path}: a {stored.model_name} is not a voice and makes no sound; `vocoder sample` "
            "makes pictures with it"
        )
    if preset is not None and (differences := preset_difference(preset, stored.preset)):
        raise VocoderError(
            f"{path}: trained with the preset {stored.preset.name}, not with {preset.name} "
            f"({', '.join(differences)})"
        )
    voice = FlowVocoder(
        stored.model,
        stored.preset,
        name=name,
        device=device,
        dtype=dtype,
        backend=backend,
        memory=memory,
    )
    if (shipped := Catalogue.read().voices.get(name)) is not None:
        voice.default_refine = shipped.refine
        voice.default_stream_refine = shipped.stream_refine
    return voice
