"""Flow-based neural vocoders.

The public names load on first use, so that `import vocoder` costs milliseconds, not a torch import.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "load": "engine",
    "Vocoder": "engine",
    "GriffinLimVocoder": "engine",
    "MelSpectrogram": "mel",
    "MelPreset": "mel",
    "convert_mel": "mel",
    "export_onnx": "export.voice_file",
    "read_wav": "audio",
    "write_wav": "audio",
    "Denoiser": "denoiser",
    "TorchaudioVocoder": "adapters.torchaudio",
    "EspnetVocoder": "adapters.espnet",
    "CoquiVocoder": "adapters.coqui",
    "HuggingFaceVocoder": "adapters.huggingface",
    "WaveGlowVocoder": "adapters.waveglow",
    "FlowModel": "models.base",
    "WaveFlow": "models.waveflow",
    "WaveFlowConfig": "models.waveflow",
    "NanoFlow": "models.nanoflow",
    "NanoFlowConfig": "models.nanoflow",
    "Glow": "models.glow",
    "GlowConfig": "models.glow",
    "NanoGlow": "models.nanoglow",
    "NanoGlowConfig": "models.nanoglow",
    "load_recipe": "recipe",
    "list_recipes": "recipe",
    "Trainer": "training.trainer",
    "ImageModel": "sampling",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "evaluate_images": "image_evaluation",
    "import_official": "official",
    "VocoderError": "errors",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
