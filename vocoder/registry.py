"""From the names that recipes, checkpoints and command lines use to what they stand for.

A file that is read can only *name* an entry. The entries are what the files of one folder of this
package register, and what the caller's own code has registered (`--plugin` on the command line), so
nothing that a recipe or checkpoint says is ever imported or run.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from vocoder.config import ConfigError, suggest

T = TypeVar("T")
E = TypeVar("E")
M = TypeVar("M", bound=type)


class Registry(Generic[T]):
    """Entries by name.

    Args:
        kind: what an entry is, for messages, such as "model".
        package: the dotted name of the folder whose files register entries when they are imported.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}

    def register(self, entry: T, *names: str) -> None:
        """Make an entry known by each of `names`.

        Raises:
            ConfigError: a name is taken by another entry.
        """
        for name in names:
            known = self._entries.get(name, entry)
            if _origin(known) != _origin(entry):
                raise ConfigError(
                    f"{self.kind} {name!r} is registered already, by {_origin(known)}; "
                    f"choose another name for {_origin(entry)}"
                )
            self._entries[name] = entry

    def names(self) -> list[str]:
        """Return the names of all entries; this imports every file of the package's folder."""
        for file in self._files():
            import_module(f"{self.package}.{file}")
        return sorted(self._entries)

    def find(self, name: str) -> T:
        """Return the entry called `name`.

        Raises:
            ConfigError: there is no such entry.
        """
        if name not in self._entries and name in self._files():
            import_module(f"{self.package}.{name}")
        if name not in self._entries and name not in (names := self.names()):
            raise unknown_name(self.kind, name, names)
        return self._entries[name]

    def name_of(self, entry: T) -> str:
        """Return the name of a registered entry.

        Raises:
            ConfigError: it is not registered.
        """
        for name, known in self._entries.items():
            if known == entry:
                return name
        raise ConfigError(f"{_origin(entry)} is not registered as a {self.kind}")

    def _files(self) -> list[str]:
        return _files(self.package)


class ClassRegistry(Generic[T]):
    """Entries for exactly one class each.

    What is made for a class need not fit a subclass, which may compute something else: so a
    subclass has no entry until one is registered for it.

    Args:
        package: the dotted name of the folder whose files register entries when they are imported.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self._entries: dict[type, T] = {}

    def register(self, *classes: type) -> Callable[[E], E]:
        """Decorator, or function of an entry: make it the one of each of `classes` itself."""

        def register(entry: E) -> E:
            self._entries.update(dict.fromkeys(classes, cast(T, entry)))
            return entry

        return register

    def find(self, exact: type) -> T | None:
        """Return the entry of a class itself, or None where there is none."""
        self._load()
        return self._entries.get(exact)

    def classes(self) -> list[type]:
        """Return the classes that have entries."""
        self._load()
        return list(self._entries)

    def _load(self) -> None:
        for file in _files(self.package):
            import_module(f"{self.package}.{file}")


def _files(package: str) -> list[str]:
    """Return the names of the modules in the folder of a package."""
    folder = import_module(package).__path__
    return [module.name for module in pkgutil.iter_modules(folder) if not module.ispkg]


def unknown_name(kind: str, name: str, known: list[str]) -> ConfigError:
    """Return the error for a name that is none of `known`, with what to do about it."""
    hint = suggest(name, known) or f"; known: {', '.join(known)}"
    own = (
        f"a {kind} of your own must be imported first: add --plugin and the file that registers it"
    )
    return ConfigError(f"unknown {kind} {name!r}{hint}; {own}")


def _origin(entry: Any) -> str:
    """Return the full name of what was registered; of a model, that of its class."""
    entry = entry[0] if isinstance(entry, tuple) else entry
    return f"{entry.__module__}.{entry.__qualname__}"


# The class of each model and that of its configuration.
MODELS: Registry[tuple[type[Any], type[Any]]] = Registry("model", "vocoder.models")


def register_model(name: str, config: type) -> Callable[[M], M]:
    """Class decorator: make a model known as `name` to recipes and checkpoints.

    Args:
        name: The name that a recipe gives; of a model in this package, the name of its file.
        config: The frozen dataclass that the class is built from.

    Raises:
        ConfigError: The name is taken.
    """

    def register(model: M) -> M:
        MODELS.register((model, config), name)
        return model

    return register


def find_model(name: str) -> tuple[type[Any], type[Any]]:
    """Return the class and the configuration class of the model `name`.

    Raises:
        ConfigError: there is no such model.
    """
    return MODELS.find(name)


def name_of(model: object) -> str:
    """Return the name under which the class of `model` itself is registered.

    Raises:
        ConfigError: it is not registered; that a parent class is does not count.
    """
    for name in MODELS.names():
        if MODELS.find(name)[0] is type(model):
            return name
    raise ConfigError(
        f"{type(model).__qualname__} is not a registered model; put @register_model above its class"
    )
