"""Flow-based neural vocoders.

The public names load on first use, so that `import vocoder` costs milliseconds, not a torch import.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = ("adapters", "kernels")
_HOME = {
    "load": "voice.load",
    "Vocoder": "voice.vocoder",
    "GriffinLimVocoder": "voice.griffin_lim",
    "MelSpectrogram": "mel.spectrogram",
    "MelPreset": "mel.presets",
    "convert_mel": "mel.convert",
    "export_onnx": "export.voice_file",
    "read_wav": "files.audio",
    "write_wav": "files.audio",
    "Denoiser": "voice.denoiser",
    "FlowModel": "models.families.flow",
    "VoiceModel": "models.families.voice",
    "VoiceConfig": "models.families.voice",
    "WaveFlow": "models.waveflow",
    "WaveFlowConfig": "models.waveflow",
    "NanoFlow": "models.nanoflow",
    "NanoFlowConfig": "models.nanoflow",
    "WaveGlow": "models.waveglow",
    "WaveGlowConfig": "models.waveglow",
    "FloWaveNet": "models.flowavenet",
    "FloWaveNetConfig": "models.flowavenet",
    "Glow": "models.glow",
    "GlowConfig": "models.glow",
    "NanoGlow": "models.nanoglow",
    "NanoGlowConfig": "models.nanoglow",
    "MarScf": "models.marscf",
    "MarScfConfig": "models.marscf",
    "register_model": "registry",
    "register_dataset": "data.speech.reader",
    "register_images": "data.images.reader",
    "load_recipe": "recipe",
    "list_recipes": "recipe",
    "Trainer": "training.trainer",
    "ImageModel": "images.sampling",
    "compare": "judging.voices",
    "evaluate_images": "judging.images",
    "import_official": "official.importing",
    "VocoderError": "errors",
}

__all__ = [*_ROOMS, *_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
