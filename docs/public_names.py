"""Lets the API pages name a thing as its user does: `vocoder.load`, not the file that holds it.

The package and some of its rooms import their public names when they are first used, which a reader
of their text cannot see. Each lists them in `_HOME`; this extension of griffe follows that list.
"""

from __future__ import annotations

import ast
from typing import Any

import griffe


class PublicNames(griffe.Extension):
    """Adds an alias to each module that has a `_HOME`, for every name in it."""

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """Follow the list of one module, once its members are known."""
        home = mod.members.get("_HOME")
        if isinstance(home, griffe.Attribute) and home.value is not None:
            for name, module in ast.literal_eval(str(home.value)).items():
                mod.set_member(name, griffe.Alias(name, f"{mod.path}.{module}.{name}"))
