"""The stages of a check of the kernels: each measures both ops at a scale, step by step.

On the CPU, at a scale of a few columns and in Triton's interpreter, the same stages are tests.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vocoder.benchmark.gpu_layers import gradients, in_double, loss_curve, step
from vocoder.benchmark.gpu_report import Measurement
from vocoder.benchmark.gpu_scale import Scale, describe, random_flow, random_inputs, tiles_of
from vocoder.kernels.dispatch import use
from vocoder.kernels.gated_conv.op import gated_conv2d
from vocoder.kernels.graphs import bucket, capture
from vocoder.kernels.invert_flow.op import cast_flows, invert_flow_reference
from vocoder.kernels.invert_flow.triton_op import Inversion
from vocoder.kernels.invert_flow.triton_tiles import choose_tile

SAMPLE_RATE = 22_050  # of the published models
# Relative errors of a layer or a flow against float64. Rounding operands to 11 and to 8 bits gave
# 6e-5 to 3e-4 and 1e-3 to 4e-3 in the interpreter; a wrong tap is off by more than 1e-2.
TOLERANCE = {torch.float16: 1e-3, torch.bfloat16: 8e-3}


def ceilings(scale: Scale) -> Iterator[Measurement]:
    """Measure what the card can do at all; the predictions assume 3 TB/s, 800 TFLOP/s, 1.3 µs."""
    n = scale.n_matmul
    big = torch.empty(n * n, device=scale.device)
    target = torch.empty_like(big)
    taken = seconds(lambda: target.copy_(big), scale.device)
    yield Measurement("copy", 2 * big.nbytes / taken / 1e12, "TB/s", predicted=3.0)
    for dtype in (torch.float16, torch.bfloat16):
        a = torch.randn(n, n, device=scale.device).to(dtype)
        taken = seconds(partial(torch.matmul, a, a), scale.device)
        name = str(dtype).removeprefix("torch.")
        yield Measurement(f"matmul {name}", 2 * n**3 / taken / 1e12, "TFLOP/s", predicted=800)
    small = big[: 4 * 2**20]  # 16 MB stay in the L2 cache
    taken = seconds(small.sum, scale.device)
    yield Measurement("read 16 MB again", small.nbytes / taken / 1e12, "TB/s", predicted=5.5)
    yield Measurement("graph node", node_seconds(scale) * 1e6, "µs", predicted=1.3)


def correctness(scale: Scale) -> Iterator[Measurement]:
    """Compare both ops with float64: odd width, ragged batch, memory full of NaN at first."""
    width = scale.odd_width
    lengths = [width, max(1, width // 3)]
    for channels in scale.channels:
        flow = random_flow(scale, channels, passthrough=channels == scale.channels[0])
        z, cond = random_inputs(scale, flow, len(lengths), width)
        wide_cond = [c.double() for c in cond]
        expected = invert_flow_reference(z.double(), wide_cond, in_double(flow), lengths)
        for dtype, limit in TOLERANCE.items():
            for tile in tiles_of(scale, channels, 2 * width):
                with poisoned():
                    inversion = Inversion.allocate(
                        cast_flows([flow], dtype), len(lengths), bucket(width), tile
                    )
                inversion.fill(z, [c.to(dtype) for c in cond], torch.tensor(lengths))
                inversion()
                error = relative_error(inversion.x[..., :width], expected)
                yield Measurement(
                    f"row op C{channels} {describe(tile, dtype)}", error, "relative", limit
                )
        yield from _training_correctness(scale, channels)


def _training_correctness(scale: Scale, channels: int) -> Iterator[Measurement]:
    flow = random_flow(scale, channels)
    _, cond = random_inputs(scale, flow, 2, scale.odd_width)
    generator = torch.Generator(scale.device).manual_seed(3)
    h = torch.randn(*cond[0].shape[:3], channels, generator=generator, device=scale.device)
    for index in {0, min(3, scale.n_layers - 1), scale.n_layers - 1}:
        layer, dilation = flow.layers[index], flow.dilations[index]
        with use("reference"):
            exact = in_double(flow).layers[index]
            expected = gradients(h.double(), cond[0].double(), exact, dilation)
        for dtype, limit in TOLERANCE.items():
            narrow = cast_flows([replace(flow, layers=(layer,))], dtype)[0].layers[0]
            with use(scale.backend):
                got = gradients(h.to(dtype), cond[0].to(dtype), narrow, dilation)
            error = max(relative_error(got[name], expected[name]) for name in expected)
            name = str(dtype).removeprefix("torch.")
            # A gradient is a product of two factors that are both rounded.
            yield Measurement(
                f"training op C{channels} dilation {dilation[1]} {name}, worst of outputs and "
                "gradients",
                error,
                "relative",
                2 * limit,
            )


def races(scale: Scale) -> Iterator[Measurement]:
    """Demand the same bits from every replay, from a wider bucket, and from each look-ahead."""
    channels, width = scale.channels[0], scale.odd_width
    flows = cast_flows([random_flow(scale, channels) for _ in range(2)], torch.float16)
    z, cond = random_inputs(scale, flows[0], 2, width)
    narrow = [c.half() for c in cond]
    lengths = torch.tensor([width, max(1, width // 2)])
    for tile in tiles_of(scale, channels, 2 * width):
        results = []
        for columns in (width, bucket(width)):
            inversion = Inversion.allocate(flows, 2, columns, tile)
            inversion.fill(z, narrow, lengths)
            replay = capture(inversion, scale.device)
            replay()
            first = inversion.x.clone()
            n_different = 0
            for _ in range(scale.n_replays):
                replay()
                n_different += int((inversion.x != first).sum())
            what = f"{describe(tile, torch.float16)}, {columns} columns"
            yield Measurement(f"{what}: replays differ", n_different, "values", 0)
            results.append(first[..., :width])
        n_different = int((results[0] != results[1]).sum())
        what = describe(tile, torch.float16)
        yield Measurement(f"{what}: bucket differs from exact", n_different, "values", 0)


def tiles(scale: Scale) -> Iterator[Measurement]:
    """Time one flow in every tile, for each model and length; "chosen" is the static table's."""
    for channels in scale.channels:
        for name, width in scale.clips:
            flow = cast_flows([random_flow(scale, channels)], torch.float16)
            chosen = choose_tile(scale.capability, channels, width)
            candidates = tiles_of(scale, channels, width)
            for tile in candidates:
                inversion = Inversion.allocate(flow, 1, width, tile)
                taken = seconds(capture(inversion, scale.device), scale.device)
                mark = " (chosen)" if tile == chosen else ""
                what = f"C{channels} {name} {describe(tile, torch.float16)}{mark}"
                yield Measurement(what, taken * 1e3, "ms a flow")


# ms of a synthesis, K = 8, on an H100 with one graph.
PREDICTED = {
    (64, 1, "1 s"): 4.6,
    (64, 1, "10 s"): 10.1,
    (64, 16, "1 s"): 12.8,
    (64, 16, "10 s"): 86,
    (128, 1, "1 s"): 8.9,
    (128, 1, "10 s"): 23.0,
    (128, 16, "1 s"): 48,
    (128, 16, "10 s"): 302,
}


def synthesis(scale: Scale) -> Iterator[Measurement]:
    """Time all flows in one graph against the plain loop; measure the noise of 16 bits."""
    node_time = node_seconds(scale)
    for channels in scale.channels:
        flows = [random_flow(scale, channels, seed) for seed in range(scale.n_flows)]
        for n_items in scale.batches:
            for name, width in scale.clips:
                if scale.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                tile = tiles_of(scale, channels, n_items * width)[0]
                inversion = Inversion.allocate(
                    cast_flows(flows, torch.float16), n_items, width, tile
                )
                replay = capture(inversion, scale.device)
                z, cond = random_inputs(scale, flows[0], n_items, width)
                inversion.fill(z, [c.half() for c in cond], torch.full((n_items,), width))
                taken = seconds(replay, scale.device)
                what = f"C{channels} B{n_items} {name}"
                predicted = PREDICTED.get((channels, n_items, name))
                yield Measurement(what, taken * 1e3, "ms", predicted=predicted)
                duration = n_items * width * scale.n_height / SAMPLE_RATE
                yield Measurement(what, duration / taken, "× real time")
                launches = scale.n_flows * (scale.n_height * scale.n_layers + 1)
                yield Measurement(what, 100 * launches * node_time / taken, "% launches")
                if scale.device.type == "cuda":
                    peak = torch.cuda.max_memory_allocated() / 1e9
                    yield Measurement(what, peak, "GB at the peak")
                del inversion, replay
        name, width = scale.clips[0]
        z, cond = random_inputs(scale, flows[0], 1, width)
        start = time.perf_counter()
        expected = z
        for flow in flows:
            expected = invert_flow_reference(expected, cond, flow)
        wait(scale.device)
        yield Measurement(
            f"C{channels} B1 {name}, plain torch in float32",
            (time.perf_counter() - start) * 1e3,
            "ms",
        )
        for dtype in TOLERANCE:
            tile = tiles_of(scale, channels, width)[0]
            inversion = Inversion.allocate(cast_flows(flows, dtype), 1, width, tile)
            inversion.fill(z, [c.to(dtype) for c in cond], torch.tensor([width]))
            inversion()
            noise = relative_error(inversion.x, expected)
            what = f"C{channels} {str(dtype).removeprefix('torch.')}, signal to noise"
            yield Measurement(what, -20 * math.log10(noise), "dB")


def training(scale: Scale) -> Iterator[Measurement]:
    """Time a flow's forward and backward pass against plain torch; compare their loss curves."""
    for channels in scale.channels:
        B, W = scale.train_shape
        flow = cast_flows([random_flow(scale, channels)], torch.bfloat16)[0]
        _, cond = random_inputs(scale, flow, B, W)
        narrow = [c.bfloat16() for c in cond]
        h = torch.randn(B, scale.n_height, W, channels, device=scale.device).bfloat16()
        curves = {}
        for backend in (scale.backend, "reference"):
            with use(backend):
                taken = seconds(partial(step, h, narrow, flow), scale.device)
                what = f"C{channels} {backend}: forward and backward of {scale.n_layers} layers"
                yield Measurement(what, taken * 1e3, "ms")
                # Forward 38 C² products of two operations, backward twice that.
                work = 3 * 2 * 38 * channels**2 * h[..., 0].numel() * scale.n_layers
                yield Measurement(what, work / taken / 1e12, "TFLOP/s")
                curves[backend] = loss_curve(h, narrow, flow, scale.n_steps)
        ours, plain = curves[scale.backend], curves["reference"]
        apart = max(abs(a - b) / abs(b) for a, b in zip(ours, plain, strict=True))
        # Two runs in bfloat16 that differ in their roundings drift apart by a percent or so.
        yield Measurement(f"C{channels}: loss curves apart", apart, "relative", 0.05)


def composition(scale: Scale) -> Iterator[Measurement]:
    """Compile the training op, capture it, and invert a clip beyond 32-bit offsets."""
    channels = scale.channels[0]
    B, W = scale.train_shape
    flow = cast_flows([random_flow(scale, channels)], torch.bfloat16)[0]
    _, cond = random_inputs(scale, flow, B, W)
    narrow = [c.bfloat16() for c in cond]
    h = torch.randn(B, scale.n_height, W, channels, device=scale.device).bfloat16()
    with use(scale.backend):
        expected = step(h, narrow, flow)
        backend = "inductor" if scale.device.type == "cuda" else "aot_eager"
        layer, dilation = flow.layers[0], flow.dilations[0]

        def one(h: Tensor, cond: Tensor) -> Tensor:
            return gated_conv2d(h, cond, layer, dilation=dilation)[1]

        compiled = torch.compile(one, fullgraph=True, backend=backend)
        error = relative_error(compiled(h, narrow[0]), one(h, narrow[0]))
        yield Measurement("training op, compiled against eager", error, "relative", 1e-6)
        captured: dict[str, Tensor] = {}
        replay = capture(lambda: captured.update(g=step(h, narrow, flow)), scale.device)
        replay()
        error = relative_error(captured["g"], expected)
        yield Measurement("training step, replayed against eager", error, "relative", 1e-6)

    flow = cast_flows([random_flow(replace(scale, n_layers=2), channels)], torch.float16)[0]
    z, long_cond = random_inputs(scale, flow, 1, scale.long_width)
    tile = tiles_of(scale, channels, scale.long_items * scale.long_width)[0]
    last = []
    for n_items in (scale.long_items, 1):
        inversion = Inversion.allocate([flow], n_items, scale.long_width, tile)
        shape = (n_items, *z.shape[1:])
        lengths = torch.full((n_items,), scale.long_width)
        inversion.fill(z.expand(shape), [c.expand(*shape, -1) for c in long_cond], lengths)
        inversion()
        last.append(inversion.x[-1])
    n_different = int((last[0] != last[1]).sum())
    offsets = scale.long_items * long_cond[0].numel() / 2**31
    what = f"last of {scale.long_items} long items, offsets of {offsets:.2g} · 2³¹"
    yield Measurement(what, n_different, "values", 0)


def seconds(run: Callable[[], Any], device: torch.device, n_runs: int = 50) -> float:
    """Return the median time of a run, the first left out; at most 3 s of runs."""
    run()
    times: list[float] = []
    while not times or (len(times) < n_runs and sum(times) < 3):
        wait(device)
        start = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - start)
    return median(times)


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def node_seconds(scale: Scale) -> float:
    """Return the time of one graph node that does next to nothing, among many."""
    one = torch.zeros(1, device=scale.device)

    def nodes() -> None:
        for _ in range(scale.n_nodes):
            one.zero_()

    return seconds(capture(nodes, scale.device), scale.device) / scale.n_nodes


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill new memory with NaN, so that whatever is read before it was written shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference by that of what was expected."""
    difference = got.double() - expected.double()
    return float(difference.norm() / expected.double().norm())
