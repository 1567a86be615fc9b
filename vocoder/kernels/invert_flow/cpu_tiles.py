"""In which order the columns of a long utterance are inverted, so that memory stays bounded.

Row r of a flow depends on the rows before it as far as the estimator reaches, `reach` columns to
each side. All rows of all flows together reach some 20 s, so no overlap of tiles is exact. What is
exact: every row step of a tile lags `lag` > reach columns behind the step before it, so that all
it needs to its right is there, and takes what it needs to its left from the tile before, which
leaves a strip for it. Source: the time skewing of stencil codes (Wonnacott, IPDPS 2000).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tiles:
    """Windows of columns, one for each tile and row step.

    Args:
        width: columns W of the utterance.
        tile: columns of a tile, a multiple of `lag`; W or more for a single tile.
        lag: columns that each step stays behind the one before it; 0 for a single tile.
        n_steps: row steps of all flows.
    """

    width: int
    tile: int
    lag: int
    n_steps: int

    def __post_init__(self) -> None:
        if self.lag == 0 and self.tile < self.width:
            raise ValueError(f"tiles of {self.tile} of {self.width} columns need a lag")
        if self.lag and self.tile % self.lag:
            raise ValueError(f"tile {self.tile}: not a multiple of the lag {self.lag}")

    @classmethod
    def whole(cls, width: int, n_steps: int) -> Tiles:
        """Return the plan that takes all columns at once."""
        return cls(width, width, 0, n_steps)

    @property
    def n_tiles(self) -> int:
        """Tiles until the last step has reached the end."""
        return -(-(self.end + self.lag * (self.n_steps - 1)) // self.tile)

    def start(self, tile: int, step: int) -> int:
        """Return the first column of a window before it is cut to the utterance."""
        return tile * self.tile - self.lag * step

    @property
    def end(self) -> int:
        """The width rounded up to whole lags, where the last windows end."""
        return self.lag * -(-self.width // self.lag) if self.lag else self.width

    def window(self, tile: int, step: int) -> tuple[int, int]:
        """Return the columns [lo, hi) that a step of a tile computes.

        Before its first columns a step has the window (0, 0), after its last (end, end).
        """
        lo = self.start(tile, step)
        return self._cut(lo), self._cut(lo + self.tile)

    def _cut(self, column: int) -> int:
        return min(max(column, 0), self.end)
