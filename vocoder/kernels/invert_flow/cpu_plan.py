"""How much memory an inversion on the CPU takes, and the fastest plan that keeps to a budget."""

from __future__ import annotations

from dataclasses import dataclass

from vocoder.errors import VocoderError
from vocoder.kernels.invert_flow.cpu_step import ROWS
from vocoder.kernels.invert_flow.cpu_tiles import Tiles
from vocoder.kernels.invert_flow.cpu_weights import FEATURES
from vocoder.kernels.winograd import F2, F4, Filtering, choose_filtering

UPSAMPLED = 8192  # samples whose mel is upsampled at once ...
_UPSAMPLING = 4  # ... which takes about so many times the memory of the result
_LIBRARIES = 8 * 2**20  # bytes that the libraries' matrix products take for themselves
_VIEWS = 24 * 2**10  # bytes of a bound layer step


@dataclass(frozen=True)
class Sizes:
    """The sizes of the flows that an inverter holds.

    Args:
        channels: Residual channels C.
        dilations: The dilations along rows and along columns, one pair a layer.
        itemsize: Bytes of a number.
        n_height: Rows H of z.
        n_rows: Rows that the network predicts in each flow.
        n_flows: The number of flows.
        n_bands: Mel bands M.
        shares_estimator: Whether the flows share the layers, and so the projected conditioning.
    """

    channels: int
    dilations: tuple[tuple[int, int], ...]
    itemsize: int
    n_height: int
    n_rows: int
    n_flows: int
    n_bands: int
    shares_estimator: bool

    @property
    def n_steps(self) -> int:
        """Row steps of all flows."""
        return self.n_flows * self.n_rows

    @property
    def most_bound(self) -> int:
        """Layer steps kept at a time: those of a whole flow, and as many at an utterance's ends."""
        return 2 * self.n_rows * len(self.dilations)

    @property
    def reach(self) -> int:
        """Columns to each side that a row depends on in the rows before it."""
        return sum(d for _, d in self.dilations)

    @property
    def lag(self) -> int:
        """Columns that each row of a tile lags behind the one before: whole blocks, ≥ reach."""
        block = 2 * max(d for _, d in self.dilations)
        return block * -(-self.reach // block)

    def bytes_needed(self, n_items: int, width: int, tiles: Tiles, project_once: bool) -> int:
        """Return about how much memory an inversion takes beside z and the weights."""
        C, M = self.channels, self.n_bands
        n_columns = min(tiles.tile, width) + 5 * max(d_w for _, d_w in self.dilations)
        if tiles.lag:
            n_columns += tiles.lag * (self.n_rows + 1 + 2 * max(d_h for d_h, _ in self.dilations))
        queues = sum(
            d_h * ROWS * C * chosen.n_products / chosen.m
            for d_h, d_w in self.dilations[1:]
            for chosen in [filtering(d_w, width, tiles.lag)]
        )
        buffers = 11 * C + M + 2 * FEATURES  # of a row: `Workspace`, h, and what comes in
        per_column = queues + buffers + self.n_height * M
        if project_once and self.shares_estimator and not tiles.lag:
            per_column += self.n_height * 2 * C * len(self.dilations)
        fixed = _UPSAMPLING * M * UPSAMPLED
        if tiles.lag:
            strips = sum(2 * d_h * tiles.lag + d_w for d_h, d_w in self.dilations[1:])
            fixed += strips * self.n_steps * C
        apart = _LIBRARIES + _VIEWS * self.most_bound
        return apart + int(self.itemsize * n_items * (n_columns * per_column + fixed))


@dataclass(frozen=True)
class Plan:
    """How a batch is inverted under a budget.

    Args:
        n_items: Items of the batch that are inverted at a time.
        tiles: The windows of columns to work in; only a single item can be cut into several.
        project_once: Keep the projected conditioning for all flows, if they share it, instead of
            projecting a row when it is its turn.
    """

    n_items: int
    tiles: Tiles
    project_once: bool


def plan_inversion(sizes: Sizes, n_items: int, width: int, memory: int | None) -> Plan:
    """Return the fastest plan that keeps to a budget.

    All columns at once, with the conditioning projected once, is fastest; then without keeping the
    projections; then tile after tile, each item for itself.

    Args:
        sizes: The sizes of the flows.
        n_items: Items of the batch.
        width: Columns of the longest item.
        memory: The budget in bytes; None is no limit.

    Raises:
        VocoderError: not even one tile keeps to it.
    """
    whole = Tiles.whole(width, sizes.n_steps)
    if memory is None:
        return Plan(n_items, whole, project_once=True)
    for project_once in (True, False):
        each = sizes.bytes_needed(1, width, whole, project_once)
        if each <= memory:
            return Plan(min(n_items, memory // each), whole, project_once)

    def tiles(n_lags: int) -> Tiles:
        return Tiles(width, n_lags * sizes.lag, sizes.lag, sizes.n_steps)

    one, two = (sizes.bytes_needed(1, width, tiles(n), False) for n in (1, 2))
    if one > memory:
        raise VocoderError(
            f"memory {memory / 2**20:.0f} MB: this voice takes {one / 2**20:.0f} MB for any "
            "long utterance; allow that much (--memory), or speak shorter mels"
        )
    return Plan(1, tiles(1 + (memory - one) // max(two - one, 1)), project_once=False)


def filtering(dilation: int, width: int, lag: int) -> Filtering:
    """Return the filtering of a layer; in tiles, one whose blocks divide the lag."""
    if lag == 0:
        return choose_filtering(width, dilation)
    return F4 if lag % (F4.m * dilation) == 0 else F2
