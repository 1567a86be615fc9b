"""From a configuration and the tensors of a file to a model, if the two fit each other."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from vocoder.errors import VocoderError, reason
from vocoder.models.families.empty import without_memory
from vocoder.models.families.flow import FlowModel

# How many parameters a model may register for each one that it keeps: a weight-normed layer gives
# up its weight for two others. The spare ones are for what is small and made anew.
_REGISTRATIONS, _SPARE = 3, 100


def empty_model(model_class: type[FlowModel], config: Any, n_tensors: int) -> FlowModel:
    """Build a model without memory for its tensors, or give up soon.

    What a file claims of its model may be anything: it is built only as far as the file has tensors
    to fill it with.

    Args:
        model_class: The class of the model.
        config: The configuration that it is built from.
        n_tensors: Number of tensors that there are for it.

    Raises:
        VocoderError: It asks for far more tensors than there are, or cannot be built.
    """
    try:
        with without_memory(), _at_most(_REGISTRATIONS * n_tensors + _SPARE):
            return model_class(config)
    except _TooManyError:
        raise VocoderError(
            f"tensors do not fit the model: its configuration asks for many more than the "
            f"{n_tensors} that there are"
        ) from None
    except (ArithmeticError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise VocoderError(
            f"the model cannot be built from its configuration: {reason(error)}"
        ) from None


class _TooManyError(Exception):
    """More parameters than allowed."""


@contextmanager
def _at_most(n_parameters: int) -> Iterator[None]:
    """End the building of modules in this thread with the parameter after so many."""
    thread = threading.get_ident()
    n_seen = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal n_seen
        if threading.get_ident() == thread:
            n_seen += 1
            if n_seen > n_parameters:
                raise _TooManyError

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def fill(model: FlowModel, tensors: Mapping[str, Tensor]) -> FlowModel:
    """Give a model its tensors, and return it in eval mode.

    Raises:
        ValueError: They do not fit; the message says which.
    """
    check_tensors(model.state_dict(), tensors)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def check_tensors(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Compare the tensors of a model with those that there are, by name, shape and type.

    Raises:
        ValueError: They differ; the message lists the missing, unexpected, mis-shaped and mistyped.
    """
    shared = sorted(expected.keys() & given.keys())
    misshapen = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in shared
        if given[name].shape != expected[name].shape
    ]
    mistyped = [
        f"{name} {given[name].dtype} instead of {expected[name].dtype}".replace("torch.", "")
        for name in shared
        if not _is_of_type(given[name], expected[name])
    ]
    complaints = [
        f"{what} {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for what, names in (
            ("missing", sorted(expected.keys() - given.keys())),
            ("unexpected", sorted(given.keys() - expected.keys())),
            ("mis-shaped", misshapen),
            ("mistyped", mistyped),
        )
        if names
    ]
    if complaints:
        raise ValueError(f"tensors do not fit the model: {'; '.join(complaints)}")


def _is_of_type(given: Tensor, expected: Tensor) -> bool:
    """Tell whether a tensor has the type of another one, or both are of floats of any precision."""
    if expected.is_floating_point():
        return given.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return given.dtype == expected.dtype
