"""What the translations of published state dicts into our names have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor


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
