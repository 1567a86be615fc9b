"""Which backend computes an op: on request, or by an automatic choice that says why."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Generic, TypeVar

from vocoder.config import suggest
from vocoder.errors import VocoderError
from vocoder.kernels.card import Lack

AUTO, REFERENCE = "auto", "reference"
NAMES = (AUTO, REFERENCE, "cpu", "triton")
ENVIRONMENT_VARIABLE = "VOCODER_BACKEND"

Call = TypeVar("Call")

_logger = logging.getLogger("vocoder.kernels")
_requested: str | None = None


class BackendError(VocoderError):
    """The backend that was asked for cannot run here."""


@dataclass(frozen=True)
class Backend(Generic[Call]):
    """One implementation of an op, known without being imported.

    Args:
        name: what `use` calls it.
        refuse: why it cannot compute a call, or None where it can; looks at facts alone.
        module: Module that it lives in, which is imported on first use.
        function: Name of its function or class in the module.
        decline: why the automatic choice does not take it for a call that it could compute, or
            None where it does.
    """

    name: str
    refuse: Callable[[Call], str | None]
    module: str
    function: str
    decline: Callable[[Call], str | None] | None = None

    def load(self) -> Callable[..., Any]:
        """Import the implementation."""
        return getattr(import_module(self.module), self.function)


@dataclass(frozen=True)
class Choice(Generic[Call]):
    """The backend that computes a call, and why those before it in the list do not."""

    backend: Backend[Call]
    refusals: Mapping[str, str]


def use(name: str) -> AbstractContextManager[object]:
    """Ask for a backend from here on, in the whole process.

    As a statement, `use("reference")`, it holds until another call. In a `with` block it holds
    until the block ends, and what was asked for before holds again.

    Args:
        name: "reference", "cpu" or "triton", or "auto" for the fastest one that can run.

    Raises:
        VocoderError: There is no backend of that name. An op that the backend cannot compute raises
            BackendError when it is called.
    """
    before = _requested
    _request(check_name(name, "backend"))
    end = ExitStack()  # a block runs what is left to it; a statement drops it
    end.callback(_request, before)
    return end


def _request(name: str | None) -> None:
    global _requested
    _requested = name


def requested() -> str:
    """Return the name asked for by `use`, else by the environment variable, else "auto"."""
    if _requested is not None:
        return _requested
    return check_name(os.environ.get(ENVIRONMENT_VARIABLE) or AUTO, ENVIRONMENT_VARIABLE)


def choose(backends: Sequence[Backend[Call]], call: Call, name: str) -> Choice[Call]:
    """Choose the backend of a call: a pure function of the facts.

    Args:
        backends: Backends from the most to the least wanted; the last one, the reference, can do
            all.
        call: facts of the call.
        name: a backend's name, or "auto" for the first that can and does not decline.

    Raises:
        BackendError: the named backend cannot compute the call, or the op has none of that name.
    """
    refusals: dict[str, str] = {}
    for backend in backends:
        if name not in (AUTO, backend.name):
            continue
        reason = backend.refuse(call)
        if reason is None and name == AUTO and backend.decline is not None:
            reason = backend.decline(call)
        if reason is None:
            return Choice(backend, refusals)
        refusals[backend.name] = reason
    reason = refusals.get(name, f"this op has {', '.join(b.name for b in backends)} only")
    raise BackendError(f"backend {name!r} cannot run: {reason}; use 'auto' or 'reference'")


def log_choice(op: str, backend: str, refusals: Mapping[str, str]) -> None:
    """Say once for each op and backend what runs and why nothing faster does.

    What the machine lacks is a warning, once for all ops; the rest is for whoever asks (INFO).

    Args:
        op: What is computed.
        backend: The name of the backend that computes it.
        refusals: The reason of each backend that would have been faster, by its name.
    """
    for reason in refusals.values():
        if isinstance(reason, Lack):
            _warn_once(reason)
    reasons = "".join(f"; not {name}: {reason}" for name, reason in refusals.items())
    _log_once(op, backend, reasons)


@cache
def _warn_once(lack: Lack) -> None:
    _logger.warning("no fast kernels on this GPU, torch's own run instead: %s", lack)


@cache
def _log_once(op: str, name: str, reasons: str) -> None:
    _logger.info("%s runs on the %s backend%s", op, name, reasons)


def check_name(name: str, source: str) -> str:
    """Return a backend's name, or "auto".

    Raises:
        VocoderError: there is none of that name; the line starts with `source`.
    """
    if name not in NAMES:
        hint = suggest(name, NAMES)
        raise VocoderError(f"{source} {name!r}: not one of {', '.join(NAMES)}{hint}")
    return name
