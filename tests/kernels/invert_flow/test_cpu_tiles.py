"""The order of tiles: everything once, and nothing before what it depends on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocoder.kernels.invert_flow.cpu_tiles import Tiles

plans = st.builds(
    lambda width, lag, factor, n_steps: Tiles(width, lag * factor, lag, n_steps),
    st.integers(1, 300),
    st.integers(1, 16),
    st.integers(1, 5),
    st.integers(1, 20),
)


@given(plans)
def test_every_step_computes_every_column_once_from_left_to_right(tiles: Tiles) -> None:
    for step in range(tiles.n_steps):
        reached = 0
        for tile in range(tiles.n_tiles):
            lo, hi = tiles.window(tile, step)
            assert lo == reached
            assert hi >= lo
            reached = hi
        assert reached == tiles.end >= tiles.width


@given(plans)
def test_the_step_before_is_a_lag_ahead(tiles: Tiles) -> None:
    for tile in range(tiles.n_tiles):
        for step in range(1, tiles.n_steps):
            ahead, hi = tiles.window(tile, step - 1)[1], tiles.window(tile, step)[1]
            assert ahead >= min(hi + tiles.lag, tiles.end) or hi == 0


def test_a_single_tile() -> None:
    tiles = Tiles.whole(37, 5)
    assert tiles.n_tiles == 1
    assert {tiles.window(0, step) for step in range(5)} == {(0, 37)}


def test_tiles_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="need a lag"):
        Tiles(width=10, tile=5, lag=0, n_steps=2)
    with pytest.raises(ValueError, match="not a multiple"):
        Tiles(width=10, tile=5, lag=2, n_steps=2)
