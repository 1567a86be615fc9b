"""From a model's name to its class and configuration.

A recipe or checkpoint can only *name* a model: the name must be that of a file in `vocoder/models`,
so nothing that a file says is ever imported or run.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from vocoder.config import ConfigError, suggest

_MODELS: dict[str, tuple[type[Any], type[Any]]] = {}
_MODEL_FILES = Path(__file__).parent / "models"
M = TypeVar("M", bound=type)


def register_model(name: str, config: type) -> Callable[[M], M]:
    """Class decorator: make the model known as `name`, the name of its file."""

    def register(model: M) -> M:
        _MODELS[name] = (model, config)
        return model

    return register


def model_names() -> list[str]:
    """Return the names of all models, without importing any of them."""
    return sorted(path.stem for path in _MODEL_FILES.glob("[a-z]*.py") if path.stem != "base")


def find_model(name: str) -> tuple[type[Any], type[Any]]:
    """Return the class and the configuration class of the model `name`.

    Raises:
        ConfigError: there is no such model.
    """
    names = model_names()
    if name not in names:
        raise ConfigError(f"unknown model {name!r}{suggest(name, names) or f'; known: {names}'}")
    import_module(f"vocoder.models.{name}")
    return _MODELS[name]


def name_of(model: object) -> str:
    """Return the name under which the class of `model` is registered."""
    return next(name for name, (known, _) in _MODELS.items() if type(model) is known)
