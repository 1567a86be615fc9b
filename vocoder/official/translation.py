"""What the translations of published state dicts into our names have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vocoder.errors import VocoderError


def unchanged(tensor: Tensor) -> Tensor:
    """Return the tensor itself."""
    return tensor


class Translation:
    """Writes a published state dict in our names.

    Args:
        state: the published tensors.

    Attributes:
        rest: published tensors that have not been moved yet, by their published names.
        ours: tensors that have been moved, by our names.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.rest = dict(state)
        self.ours: dict[str, Tensor] = {}

    @property
    def result(self) -> dict[str, Tensor]:
        """All tensors; those without a place in our model keep their published names."""
        return {**self.ours, **self.rest}

    def move(self, ours: str, theirs: str, convert: Callable[[Tensor], Tensor] = unchanged) -> None:
        """Move the tensor called `theirs`, if there is one, to `ours`, through `convert`."""
        if theirs in self.rest:
            self.ours[ours] = convert(self.rest.pop(theirs))

    def weight_norm(
        self, ours: str, *theirs: str, convert: Callable[[Tensor], Tensor] = unchanged
    ) -> None:
        """Move a weight-normed layer, or several that are one of ours, stacked along the outputs.

        The norm is that of each output, so that stacking is exact. A layer may be stored in the old
        way, in the new one, or folded; then the weight is both direction and magnitude.

        Args:
            ours: Name of our layer.
            theirs: the published ones; if one is missing, none is moved.
            convert: Conversion of the directions and magnitudes.
        """
        layers = [self._layer(name) for name in theirs]
        names = ("parametrizations.weight.original0", "parametrizations.weight.original1", "bias")
        for name, parts in zip(names, zip(*layers, strict=True), strict=True):
            present = [part for part in parts if part is not None]
            if len(present) == len(theirs):
                stacked = torch.cat(present) if len(present) > 1 else present[0]
                self.ours[f"{ours}.{name}"] = stacked if name == "bias" else convert(stacked)

    def _layer(self, theirs: str) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Take magnitude g, direction v and bias of a layer out of the rest."""
        bias, weight = (self.rest.pop(f"{theirs}.{part}", None) for part in ("bias", "weight"))
        if weight is not None:
            g = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1))
            # An output of zeros has any direction, but it must have one.
            return g, torch.where(g == 0, torch.ones_like(weight), weight), bias
        found = []
        for i, part in enumerate(("weight_g", "weight_v")):
            old = self.rest.pop(f"{theirs}.{part}", None)
            found.append(
                self.rest.pop(f"{theirs}.parametrizations.weight.original{i}", None)
                if old is None
                else old
            )
        return found[0], found[1], bias


def check_setting(settings: Mapping[str, Any], name: str, found: object) -> None:
    """Raise a `VocoderError` if a published setting is not what the tensors show."""
    if settings.get(name, found) != found:
        raise VocoderError(
            f"official config: {name} is {settings[name]!r}, but the tensors are of a model with "
            f"{found!r}; give the JSON that belongs to the checkpoint"
        )


def swap_halves(tensor: Tensor) -> Tensor:
    """Return the second half of the outputs before the first."""
    return torch.cat(tensor.chunk(2)[::-1])
