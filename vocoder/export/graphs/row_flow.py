"""The inverse of WaveFlow and NanoFlow as an ONNX graph, from the weights that the row op takes.

Inside, a row of the folded waveform is an image of height 1, (N, channels, 1, W): on a CPU
onnxruntime's convolution is then faster than its matrix product over channels-last rows. The rows
of a flow are one `Scan`, whose states are the row before and each layer's queue of past rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from onnx import helper
from torch import Tensor, nn

from vocoder.errors import VocoderError
from vocoder.export.frames import clamp_frames
from vocoder.export.graph import FLOAT, HALF, INT, Graph
from vocoder.export.voice_graph import AUDIO, GRAPHS, MEL, NOISE, NOISE_SHAPE
from vocoder.kernels.gated_conv.op import GatedConvWeights
from vocoder.kernels.invert_flow.op import FlowWeights
from vocoder.models.families.row_flow import RowFlow
from vocoder.models.families.voice import VoiceModel
from vocoder.models.nanoflow import NanoFlow
from vocoder.models.waveflow import WaveFlow
from vocoder.nets.upsample import SLOPE, Upsampler

_END = 2**31 - 1


@GRAPHS.register(WaveFlow, NanoFlow)
def row_flow_graph(
    model: VoiceModel, *, temperature: float, half: bool, explicit_noise: bool, seed: int | None
) -> Graph:
    """Return the graph of a row flow; see `voice_graph` for the arguments.

    Raises:
        VocoderError: the model has a transform that the row op does not know.
    """
    assert isinstance(model, RowFlow)
    graph = Graph()
    mel = graph.input(MEL, FLOAT, ["N", model.n_mels, "T"])
    cond = upsample_mel(graph, mel, model)
    noise = noise_like(graph, cond, temperature, explicit_noise, seed)
    audio = invert_rows(graph, noise, cond, model, half=half)
    graph.output(audio, AUDIO, FLOAT, NOISE_SHAPE)
    return graph


def noise_like(
    graph: Graph, cond: str, temperature: float, explicit: bool, seed: int | None
) -> str:
    """Return the noise (N, T · hop), drawn or as an input, for a conditioning (N, S, T · hop)."""
    if explicit:
        noise = graph.input(NOISE, FLOAT, NOISE_SHAPE)
    else:
        like = graph.op("Gather", cond, graph.constant(0, INT), axis=1)
        seeded = {} if seed is None else {"seed": float(seed)}
        noise = graph.op("RandomNormalLike", like, dtype=FLOAT, **seeded)
    return noise if temperature == 1.0 else graph.op("Mul", noise, graph.constant(temperature))


def invert_rows(graph: Graph, noise: str, cond: str, model: RowFlow, *, half: bool) -> str:
    """Return what the flows of a model make of noise, (N, T · hop).

    Args:
        graph: The graph to add to.
        noise: (N, T · hop).
        cond: what the estimator is given for each sample, (N, S, T · hop).
        model: the folded model.
        half: compute the layers with operands in float16.

    Raises:
        VocoderError: the model has a transform that the row op does not know.
    """
    if model.config.transform != "affine":
        raise VocoderError(
            f"a {model.config.transform} voice has no ONNX graph, only the affine transform does; "
            'train it with model.transform "affine", or speak with `vocoder synthesize`'
        )
    n_height = model.config.n_height
    x = _fold(graph, noise, 1, n_height)
    rows = _fold(graph, cond, model.config.sample_channels, n_height)
    if half:
        rows = graph.cast(rows, HALF)
    order = tuple(range(n_height))
    for flow in reversed(model.pack_flows()):
        x = _invert(graph, x, order, rows, flow, HALF if half else FLOAT)
        order = flow.order
    x = _reorder(graph, x, order, range(n_height))
    columns = graph.op("Transpose", x, perm=[1, 4, 0, 2, 3])  # (N, W, H, 1, 1)
    return graph.op("Reshape", columns, graph.ints(0, -1))


def upsample_mel(graph: Graph, mel: str, model: RowFlow) -> str:
    """Return the mel (N, M, T) of every sample, (N, M, T · hop); see `RowFlow.upsampled`."""
    context = model.upsample.context if model.causal else 0
    if model.causal:
        delay = model.config.mel_delay
        n_frames = graph.size(mel, 2)
        last = graph.op("Add", n_frames, graph.ints(context - delay))
        frames = graph.count(graph.ints(-context - delay), last)
        mel = graph.op("Gather", mel, clamp_frames(graph, frames, n_frames), axis=2)
    c = upsample(graph, mel, model.n_mels, model.upsample)
    c = graph.op("Squeeze", c, graph.ints(1))
    if not context:
        return c
    beyond = context * model.hop_length
    return graph.op("Slice", c, graph.ints(beyond), graph.ints(-beyond), graph.ints(2))


def upsample(graph: Graph, mel: str, n_mels: int, upsampler: Upsampler) -> str:
    """Return (N, 1, M, T · hop) of (N, M, T).

    A stage is written as a convolution with one channel for each of the `stride` samples that a
    step becomes: for a transposed convolution onnxruntime lays out every product, which took more
    memory than all else.
    """
    c = graph.op("Unsqueeze", mel, graph.ints(1))
    for stage in cast(Sequence[nn.ConvTranspose2d], upsampler.stages):
        kernel = _phases(stage)
        assert stage.bias is not None
        bias = stage.bias.expand(len(kernel))
        c = graph.op("Conv", c, graph.constant(kernel), graph.constant(bias), pads=[1, 1, 1, 1])
        c = graph.op("LeakyRelu", c, alpha=SLOPE)
        c = graph.op("Transpose", c, perm=[0, 2, 3, 1])  # (N, M, steps, stride)
        c = graph.op("Reshape", c, graph.ints(0, 1, n_mels, -1))
    return c


def _phases(stage: nn.ConvTranspose2d) -> Tensor:
    """Return the kernel (stride, 1, 3, 3) of the convolution that a stage amounts to.

    Sample r of a step takes tap r + padding − stride · d of the step d before it (d < 0) or after.
    """
    weight = stage.weight[0, 0].flip(0)  # (3, taps)
    stride, padding = stage.stride[1], cast("tuple[int, int]", stage.padding)[1]
    kernel = weight.new_zeros(stride, 1, 3, 3)
    for r in range(stride):
        for d in (-1, 0, 1):
            tap = r + padding - stride * d
            if 0 <= tap < weight.shape[1]:
                kernel[r, 0, :, d + 1] = weight[:, tap]
    return kernel


def _fold(graph: Graph, value: str, n_channels: int, n_height: int) -> str:
    """Return (N, ..., channels, T · hop) as rows (H, N, channels, 1, W)."""
    columns = graph.op("Reshape", value, graph.ints(0, n_channels, 1, -1, n_height))
    return graph.op("Transpose", columns, perm=[4, 0, 1, 2, 3])


def _reorder(graph: Graph, rows: str, order: Sequence[int], wanted: Sequence[int]) -> str:
    """Return rows that stand in one order in another one, or only some of them."""
    positions = [order.index(row) for row in wanted]
    if positions == list(range(len(order))):
        return rows
    return graph.op("Gather", rows, graph.ints(*positions), axis=0)


def _invert(
    graph: Graph, z: str, order: Sequence[int], cond: str, flow: FlowWeights, kind: int
) -> str:
    """Return the rows x of a flow in the order in which it visits them.

    Args:
        graph: The graph to add to.
        z: (H, N, 1, 1, W).
        order: in which the rows of z stand.
        cond: what the estimator is given (H, N, S, 1, W), the rows in natural order.
        flow: the weights.
        kind: type of the layers' operands.
    """
    visited = _reorder(graph, z, order, flow.visits)
    first = graph.op("Gather", z, graph.constant(order.index(flow.order[0]), INT), axis=0)
    shape = graph.op("Shape", first)  # N, 1, 1, W
    start = first if flow.passthrough else graph.op("ConstantOfShape", shape)
    queues = []
    for d_h, _ in flow.dilations:
        sizes = graph.op("Mul", shape, graph.ints(1, flow.channels, 2 * d_h, 1))
        zero = helper.make_tensor("zero", kind, [1], [0.0])
        queues.append(graph.op("ConstantOfShape", sizes, value=zero))
    body = _row_step(graph, cond, flow, kind)
    *_, x = graph.scan(body, [start, *queues], [visited, graph.ints(*flow.visits)])
    if not flow.passthrough:
        return x
    return graph.op("Concat", graph.op("Unsqueeze", first, graph.ints(0)), x, axis=0)


def _row_step(graph: Graph, cond: str, flow: FlowWeights, kind: int) -> Graph:
    """Return the loop's body: the row before, the queues, z and the row's number to x.

    The queue of a layer is (N, C, 2 · d_h, W), the oldest row first.
    """
    body = Graph(graph)
    row = body.input(body.name("row"), FLOAT)
    queues = [body.input(body.name("queue"), kind) for _ in flow.layers]
    z = body.input(body.name("z"), FLOAT)
    visit = body.input(body.name("visit"), INT)
    c = body.op("Gather", cond, visit, axis=0)  # (N, S, 1, W)
    h = _conv(body, row, flow.front_weight[None], flow.front_bias)
    h = h if kind == FLOAT else body.cast(h, kind)
    terms, next_queues = [], []
    for i, (layer, dilation) in enumerate(zip(flow.layers, flow.dilations, strict=True)):
        rows = body.op("Concat", queues[i], h, axis=2)
        next_queues.append(body.op("Slice", rows, body.ints(1), body.ints(_END), body.ints(2)))
        pads = (2 * dilation[1], 0) if flow.causal else (dilation[1], dilation[1])
        o = _gate(body, rows, c, layer, dilation, pads, kind)
        wide = o if kind == FLOAT else body.cast(o, FLOAT)
        terms.append(_conv(body, wide, layer.out, None if i else flow.out_bias))
        if layer.res is not None:
            r = _conv(body, o, layer.res, layer.res_bias, kind)
            if layer.gate is not None:
                r = body.op("Mul", r, body.constant(layer.gate[:, None, None], kind))
            h = body.op("Add", h, r)
            if flow.scale != 1.0:
                h = body.op("Mul", h, body.constant(flow.scale, kind))
    log_s, t = body.ops("Split", body.op("Sum", *terms), n_outputs=2, axis=1)
    scale = body.op("Exp", body.op("Neg", log_s))
    x = body.op("Mul", body.op("Sub", z, t), scale)
    body.output(x, body.name("next_row"), FLOAT)
    for queue in next_queues:
        body.output(queue, body.name("next_queue"), kind)
    body.output(x, body.name("x"), FLOAT)
    return body


def _gate(
    body: Graph,
    rows: str,
    cond: str,
    layer: GatedConvWeights,
    dilation: tuple[int, int],
    pads: tuple[int, int],
    kind: int,
) -> str:
    """Return o = tanh(a[..C]) · σ(a[C..]) of one layer, (N, C, 1, W)."""
    assert layer.cond is not None
    a = body.op(
        "Conv",
        rows,
        body.constant(layer.conv.unflatten(0, (3, 3)).permute(3, 2, 0, 1), kind),
        body.constant(layer.bias, kind),
        dilations=dilation,
        pads=[0, pads[0], 0, pads[1]],
    )
    a = body.op("Add", a, _conv(body, cond, layer.cond, None, kind))
    halves = body.ops("Split", a, n_outputs=2, axis=1)
    return body.op("Mul", body.op("Tanh", halves[0]), body.op("Sigmoid", halves[1]))


def _conv(body: Graph, value: str, matrix: Tensor, bias: Tensor | None, kind: int = FLOAT) -> str:
    """Multiply the channels by a matrix that maps from its first axis to its last."""
    inputs = [body.constant(matrix.t()[:, :, None, None], kind)]
    inputs += [] if bias is None else [body.constant(bias, kind)]
    return body.op("Conv", value, *inputs)
