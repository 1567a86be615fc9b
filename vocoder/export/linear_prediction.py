"""The filter of `flows.linear_prediction` as a part of a graph, by its own algebra, in double.

`synthesise` raises the matrix of each block's lattice to powers, some 20 million products a block.
Here the state s of the lattice is told by the sound h before the block, newest sample first, from
which direct prediction goes on. Both have the scale of the lattice, in which sound has unit power:
s = T h, where row m of T holds the backward predictor of order m, divided by the deviation of what
it leaves. What those leave is uncorrelated, T R Tᵀ = I, with the autocorrelation R. So h = R Tᵀ s
without an inverse, and a block costs some 50 thousand products. The way through h may lose as many
digits as R has in its condition, six with the loading of `mel.envelope`: double has sixteen.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vocoder.export.frames import between_frames
from vocoder.export.graph import DOUBLE, FLOAT, INT, Graph
from vocoder.mel.envelope import frame_centre
from vocoder.models.families.whitened import SCALE, WhitenedVoiceConfig

_BLOCKS_AT_ONCE = 64  # whose filters are made together, which bounds the memory


def synthesise(graph: Graph, excitation: str, r: str, config: WhitenedVoiceConfig) -> str:
    """Return the sound (N, T · hop) of an excitation (N, T · hop).

    Args:
        graph: The graph to add to.
        excitation: The excitation, in float32.
        r: Autocorrelations (N, T, p + 1) of the frames, in double.
        config: The sizes of the model.
    """
    sound = graph.cast(excitation, DOUBLE)
    n_samples = graph.size(excitation, 1)
    power = graph.op("Slice", r, graph.ints(0), graph.ints(1), graph.ints(2))
    log_deviation = graph.op("Mul", graph.op("Log", power), graph.constant(0.5, DOUBLE))
    log_deviation = _interpolate(graph, log_deviation, n_samples, 1, config)
    log_deviation = graph.op("Add", log_deviation, graph.constant(math.log(SCALE), DOUBLE))
    deviation = graph.op("Squeeze", graph.op("Exp", log_deviation), graph.ints(2))
    if config.order:
        sound = _filter(graph, sound, n_samples, r, config)
    sound = graph.op("Mul", sound, deviation)
    return graph.cast(sound, FLOAT)


def _interpolate(
    graph: Graph, values: str, n_places: str, step: int, config: WhitenedVoiceConfig
) -> str:
    """Return `interpolate_frames` of values (N, T, n) at the first places, `step` samples each."""
    left, right, part = between_frames(
        graph,
        graph.count(graph.ints(0), n_places),
        graph.size(values, 1),
        step,
        step / 2 - frame_centre(config.preset),
        config.hop_length,
    )
    before, after = (graph.op("Gather", values, frames, axis=1) for frames in (left, right))
    part = graph.op("Unsqueeze", part, graph.ints(1))
    return _add(graph, before, part, graph.op("Sub", after, before))


def _filter(
    graph: Graph, excitation: str, n_samples: str, r: str, config: WhitenedVoiceConfig
) -> str:
    """Return the sound (N, T · hop) at the scale of the lattice, in double."""
    order, length = config.order, config.block_length
    chunk = graph.ints(length * _BLOCKS_AT_ONCE)
    beyond = graph.op("Mod", graph.op("Neg", n_samples), chunk)  # of the last chunk
    n_blocks = graph.op("Div", graph.op("Add", n_samples, beyond), graph.ints(length))
    r = _chunks(graph, _interpolate(graph, r, n_blocks, length, config), order + 1)
    pads = graph.op("Concat", graph.ints(0, 0, 0), beyond, axis=0)
    z = _chunks(graph, graph.op("Pad", excitation, pads), length)
    batch = graph.size(excitation, 0)
    silence = _zeros(graph, graph.op("Concat", batch, graph.ints(1, order), axis=0))
    *_, sound = graph.scan(_chunk_step(graph, order, length), [silence], [r, z])
    sound = graph.op("Transpose", sound, perm=[2, 0, 1, 3])  # (N, chunks, blocks, L)
    sound = graph.op("Reshape", sound, graph.ints(0, -1))
    return graph.op("Slice", sound, graph.ints(0), n_samples, graph.ints(1))


def _chunks(graph: Graph, values: str, width: int) -> str:
    """Return values of blocks that follow each other as (chunks, blocks, N, width)."""
    values = graph.op("Reshape", values, graph.ints(0, -1, _BLOCKS_AT_ONCE, width))
    return graph.op("Transpose", values, perm=[1, 2, 0, 3])


def _zeros(graph: Graph, shape: str) -> str:
    return graph.op("Expand", graph.constant([0.0], DOUBLE), shape)


def _chunk_step(graph: Graph, order: int, length: int) -> Graph:
    """Return the loop's body: the state, r and z of some blocks to the next state and their sound.

    The state is (N, 1, p); r is (blocks, N, p + 1), z and the sound are (blocks, N, L).
    """
    body = Graph(graph)
    state = body.input(body.name("state"), DOUBLE)
    r = body.input(body.name("r"), DOUBLE)
    z = body.input(body.name("z"), DOUBLE)
    power = body.op("Slice", r, body.ints(0), body.ints(1), body.ints(2))
    r = body.op("Div", r, power)
    predictor, left, basis = _levinson(body, r, order)
    z = body.op("Mul", z, body.op("Sqrt", left))
    response = _impulse_response(body, predictor, order, length)
    step = _block_step(body, order, length)
    state, sound = body.scan(step, [state], [r, basis, predictor, response, z])
    body.output(state, body.name("next_state"), DOUBLE)
    body.output(sound, body.name("sound"), DOUBLE)
    return body


def _levinson(graph: Graph, r: str, order: int) -> tuple[str, str, str]:
    """Solve the normal equations, as `reflection_coefficients` does.

    Args:
        graph: The graph to add to.
        r: Autocorrelations (blocks, N, p + 1) of unit power.
        order: p.

    Returns:
        The predictors 1, a_1 … a_p (blocks, N, p + 1), the power (blocks, N, 1) of what they leave,
        and the matrices T (blocks, N, p, p).
    """
    body = Graph(graph)
    forwards = body.input(body.name("forwards"), DOUBLE)
    backwards = body.input(body.name("backwards"), DOUBLE)
    left = body.input(body.name("left"), DOUBLE)
    body.input(body.name("order"), INT)
    row = body.op("Div", backwards, body.op("Sqrt", left))
    delayed = body.op("Pad", backwards, body.ints(0, 0, 1, 0, 0, -1))
    # With the loading of `mel.envelope` |k| is below 0.99995, and no clamp is needed.
    k = body.op("ReduceSum", body.op("Mul", delayed, r), body.ints(2))
    k = body.op("Neg", body.op("Div", k, left))
    body.output(_add(body, forwards, k, delayed), body.name("next_forwards"), DOUBLE)
    body.output(_add(body, delayed, k, forwards), body.name("next_backwards"), DOUBLE)
    lost = body.op("Mul", body.op("Mul", k, k), left)
    body.output(body.op("Sub", left, lost), body.name("next_left"), DOUBLE)
    body.output(row, body.name("row"), DOUBLE)

    one = graph.op("Expand", graph.constant(np.eye(1, order + 1), DOUBLE), graph.op("Shape", r))
    rows = graph.ints(*range(order))
    power = graph.op("Slice", r, graph.ints(0), graph.ints(1), graph.ints(2))
    predictor, _, left, basis = graph.scan(body, [one, one, power], [rows])
    basis = graph.op("Slice", basis, graph.ints(0), graph.ints(-1), graph.ints(3))
    return predictor, left, graph.op("Transpose", basis, perm=[1, 2, 0, 3])


def _add(graph: Graph, a: str, factor: str, b: str) -> str:
    """Return a + factor · b."""
    return graph.op("Add", a, graph.op("Mul", factor, b))


def _impulse_response(graph: Graph, predictor: str, order: int, length: int) -> str:
    """Return the first L samples (blocks, N, L) of 1 / (1 + a_1 z⁻¹ + … + a_p z⁻ᵖ)."""
    reach = min(order, length)
    a = graph.op("Slice", predictor, graph.ints(1), graph.ints(1 + reach), graph.ints(2))
    body = Graph(graph)
    past = body.input(body.name("past"), DOUBLE)  # newest first
    impulse = body.input(body.name("impulse"), DOUBLE)
    predicted = body.op("ReduceSum", body.op("Mul", past, a), body.ints(2))
    now = body.op("Sub", impulse, predicted)
    kept = body.op("Slice", past, body.ints(0), body.ints(-1), body.ints(2))
    body.output(body.op("Concat", now, kept, axis=2), body.name("next_past"), DOUBLE)
    body.output(now, body.name("now"), DOUBLE)
    silence = _zeros(graph, graph.op("Shape", a))
    *_, response = graph.scan(body, [silence], [graph.constant(np.eye(1, length)[0], DOUBLE)])
    response = graph.op("Squeeze", response, graph.ints(3))
    return graph.op("Transpose", response, perm=[1, 2, 0])


class _Places(NamedTuple):
    """Where the entries of a block's matrices lie in the vectors that they are made of.

    Attributes:
        covariance: |i − j|, the lag between past samples i and j, (p, p).
        ahead: Which predictor coefficient sample n of the block has for past sample i, n + 1 + i,
            and p + 1 for none, (p, L).
        through: 1 + n − m, for sample n of the sound and sample m of z, and 0 for none, (L, L).
    """

    covariance: str
    ahead: str
    through: str


def _places(graph: Graph, order: int, length: int) -> _Places:
    """Compute them in the graph: stored, they would be a tenth of a file."""

    def pairs(operator: str, n_rows: int, n_columns: int) -> str:
        rows = graph.op("Unsqueeze", graph.count(graph.ints(0), graph.ints(n_rows)), graph.ints(1))
        return graph.op(operator, graph.count(graph.ints(0), graph.ints(n_columns)), rows)

    one, zero = graph.ints(1), graph.ints(0)
    ahead = graph.op("Add", pairs("Add", order, length), one)
    delay = graph.op("Add", pairs("Sub", length, length), one)
    return _Places(
        graph.op("Abs", pairs("Sub", order, order)),
        graph.op("Min", ahead, graph.ints(order + 1)),
        graph.op("Max", delay, zero),
    )


def _block_step(graph: Graph, order: int, length: int) -> Graph:
    """Return the loop's body: the state (N, 1, p), a block's filter and z to s' and its sound."""
    places = _places(graph, order, length)
    body = Graph(graph)
    state = body.input(body.name("state"), DOUBLE)
    r, basis, predictor, response, z = (
        body.input(body.name(stem), DOUBLE) for stem in ("r", "basis", "predictor", "response", "z")
    )
    covariance = body.op("Gather", r, places.covariance, axis=1)  # (N, p, p)
    past = body.op("MatMul", body.op("MatMul", state, basis), covariance)
    ahead = body.op(
        "Gather", body.op("Pad", predictor, body.ints(0, 0, 0, 1)), places.ahead, axis=1
    )
    driven = body.op("Sub", body.op("Unsqueeze", z, body.ints(1)), body.op("MatMul", past, ahead))
    through = body.op("Pad", response, body.ints(0, 1, 0, 0))
    through = body.op("Gather", through, places.through, axis=1)
    sound = body.op("MatMul", driven, through)  # (N, 1, L)

    newest = np.concatenate([order + np.arange(length)[::-1], np.arange(order)])[:order]
    past = body.op("Concat", past, sound, axis=2)
    past = body.op("Gather", past, body.constant(newest, INT), axis=2)
    column = body.op("Transpose", past, perm=[0, 2, 1])
    state = body.op("Transpose", body.op("MatMul", basis, column), perm=[0, 2, 1])
    body.output(state, body.name("next_state"), DOUBLE)
    body.output(body.op("Squeeze", sound, body.ints(1)), body.name("sound"), DOUBLE)
    return body
