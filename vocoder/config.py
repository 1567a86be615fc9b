"""Mappings and YAML text to frozen dataclasses and back, with errors that name the key."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from vocoder.errors import VocoderError

T = TypeVar("T")

_LONGEST = 200  # characters of a value that a message shows


class ConfigError(VocoderError):
    """A recipe, override or stored configuration that does not fit its dataclass."""


def suggest(name: str, candidates: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the candidate nearest to `name`, or an empty string."""
    near = difflib.get_close_matches(str(name), list(candidates), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown_key(key: object, known: Iterable[str], where: str = "") -> ConfigError:
    """Return the error for a key that is none of `known`, in one line whatever the key holds."""
    name = key if isinstance(key, str) and key.isidentifier() else _shown(key)
    return ConfigError(f"{where}{'.' * bool(where)}{name}: unknown key{suggest(str(key), known)}")


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from `values`, converting each value to its field's type.

    Args:
        cls: a dataclass; a field may itself be one.
        values: only what differs from the defaults.
        where: dotted path of this mapping, for messages.

    Raises:
        ConfigError: an unknown or missing key, a value of the wrong type, or one that `cls`
            refuses.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or cls.__name__}: expected a mapping, got {_shown(values)}")
    hints = _types_of(cls)
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    converted = {}
    for key, value in values.items():
        if key not in fields:
            raise unknown_key(key, fields, where)
        place = f"{where}.{key}" if where else key
        converted[key] = convert(value, hints[key], place)
    missing = [field.name for field in dataclasses.fields(cls) if _is_missing(field, converted)]  # type: ignore[arg-type]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ConfigError(f"{where or cls.__name__}: lacks {', '.join(missing[:3])}{more}")
    try:
        return cls(**converted)
    except ConfigError as error:  # which knows the class, but not whose values they are
        told = str(error)
        raise ConfigError(told if told.startswith(where) else f"{where}: {told}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where or cls.__name__}: {error}") from None


def _types_of(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError as error:  # of a plugin that imports it for type checkers alone
        raise ConfigError(
            f"{cls.__name__}: the type of a setting is not known ({error}); import it at run time"
        ) from None


def _is_missing(field: dataclasses.Field[Any], values: Mapping[str, Any]) -> bool:
    has_default = not (field.default is field.default_factory is dataclasses.MISSING)
    return field.name not in values and not has_default


def _shown(value: Any) -> str:
    """Return a value as a message shows it; what a file holds may be long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def to_dict(config: Any) -> dict[str, Any]:
    """Return the dataclass as nested plain dicts and lists, ready for JSON or YAML."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def convert(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the annotated type `hint`, or raise a `ConfigError` that names `where`.

    Text is converted by the type wanted, since PyYAML reads `1e-3` as a string and the command line
    knows nothing but strings. A bool is never taken for a number.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if (value is None or value in ("null", "none", "None")) and type(None) in arguments:
            return None
        return _convert_to_one_of([a for a in arguments if a is not type(None)], value, where)
    if origin is typing.Literal:
        if value not in arguments:
            choices = ", ".join(map(repr, arguments))
            hint_text = suggest(value, [str(argument) for argument in arguments])
            raise ConfigError(f"{where}: {_shown(value)} is not one of {choices}{hint_text}")
        return value
    if origin in (tuple, list, Sequence):
        items = _convert_items(value, origin, arguments, where)
        return items if origin is list else tuple(items)
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a mapping, got {_shown(value)}")
        return dict(value)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)  # type: ignore[arg-type]
    if hint not in (bool, int, float, str):
        raise ConfigError(
            f"{where}: {_name(hint)} is no type of a setting; those are bool, int, float, str, "
            "Literal, dict, dataclasses, and lists, tuples or unions of them"
        )
    return _convert_scalar(value, hint, where)


def _convert_to_one_of(hints: Sequence[Any], value: Any, where: str) -> Any:
    """Convert to the type that a value has already, or else to the first that takes it."""
    if len(hints) == 1:
        return convert(value, hints[0], where)
    if type(value) in hints:
        return value
    for hint in hints:
        with contextlib.suppress(ConfigError):
            return convert(value, hint, where)
    names = " or ".join(map(_name, hints))
    raise ConfigError(f"{where}: expected {names}, got {_shown(value)}")


def _convert_items(value: Any, origin: Any, hints: Sequence[Any], where: str) -> list[Any]:
    """Convert the items of a list, of one type unless a tuple has one for each."""
    items = value
    if isinstance(value, str):
        items = [part.strip() for part in value.strip("[]()").split(",") if part.strip()]
    if not isinstance(items, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {_shown(value)}")
    if origin is not tuple or hints[1:] == (Ellipsis,):
        hints = [hints[0]] * len(items)
    if len(items) != len(hints):
        raise ConfigError(f"{where}: expected {len(hints)} items, got {_shown(value)}")
    pairs = zip(items, hints, strict=True)
    return [convert(item, hint, f"{where}[{i}]") for i, (item, hint) in enumerate(pairs)]


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _convert_scalar(value: Any, kind: type, where: str) -> Any:
    if kind is bool:
        texts = {"true": True, "false": False}
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in texts:
            return texts[value.lower()]
    elif kind is int and not isinstance(value, bool):
        try:
            # Text may be 1e3 or 1000.0, and a float would lose what lies beyond its 53 bits. It
            # only bounds the size: an integer of 1e999999999 would take all memory.
            number = Decimal(value) if isinstance(value, str) else value
            if math.isfinite(float(value)) and number == int(number):
                return int(number)
        except (TypeError, ValueError, ArithmeticError):
            pass
    elif kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif kind is str and isinstance(value, str):
        return value
    raise ConfigError(f"{where}: expected {kind.__name__}, got {_shown(value)}")
