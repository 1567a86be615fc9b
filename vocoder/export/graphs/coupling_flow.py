"""The inverses of WaveGlow and FloWaveNet as ONNX graphs, layer by layer as they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.export.graph import FLOAT, HALF, Graph
from vocoder.export.graphs.row_flow import noise_like, upsample
from vocoder.export.voice_graph import AUDIO, GRAPHS, MEL, NOISE_SHAPE
from vocoder.flows.coupling import Coupling
from vocoder.flows.elementwise import Affine, Shift
from vocoder.models import flowavenet, waveglow
from vocoder.models.families.voice import VoiceModel
from vocoder.models.flowavenet import FloWaveNet
from vocoder.models.waveglow import WaveGlow
from vocoder.nets.wavenet1d import WaveNet1d


@GRAPHS.register(WaveGlow)
def waveglow_graph(
    model: VoiceModel, *, temperature: float, half: bool, explicit_noise: bool, seed: int | None
) -> Graph:
    """Return the graph of a WaveGlow; see `voice_graph` for the arguments.

    Raises:
        VocoderError: its frames are not whole columns.
    """
    assert isinstance(model, WaveGlow)
    config = model.config
    if config.granule == 1:
        raise VocoderError(
            f"a WaveGlow of {config.n_group} samples a column has no ONNX graph yet, as they do "
            f"not divide the {config.hop_length} of a frame; speak with `vocoder synthesize`"
        )
    writer = _Writer(Graph(), half)
    graph, G = writer.graph, config.n_group
    mel = graph.input(MEL, FLOAT, ["N", config.n_mels, "T"])
    weight, bias = writer.tensors(model.upsample, FLOAT)
    upsampled = graph.op("ConvTranspose", mel, weight, bias, strides=[config.hop_length])
    surplus = config.window - config.hop_length
    if surplus:  # of the last frames
        ends = (graph.ints(0), graph.ints(-surplus), graph.ints(2))
        upsampled = graph.op("Slice", upsampled, *ends)
    noise = noise_like(graph, upsampled, temperature, explicit_noise, seed)
    cond = writer.squeeze(upsampled, config.n_mels, G)
    rows = writer.squeeze(graph.op("Unsqueeze", noise, graph.ints(1)), 1, G)
    start = G - config.flow_channels[-1]
    x = writer.channels(rows, start, G)
    for j in reversed(range(config.n_flows)):
        step, net = model.steps[j], model.nets[j]
        assert isinstance(step, waveglow.Step)
        assert isinstance(net, waveglow.Network)
        x = writer.couple(step.couple, x, writer.glow_net(net, cond))
        x = graph.op("Conv", x, graph.constant(step.mix.inverse_weight()[..., None]))
        if j and config.flow_channels[j] < config.flow_channels[j - 1]:
            start -= config.early_size
            early = writer.channels(rows, start, start + config.early_size)
            x = graph.op("Concat", early, x, axis=1)
    writer.output(writer.unsqueeze(x, 1, G))
    return graph


@GRAPHS.register(FloWaveNet)
def flowavenet_graph(
    model: VoiceModel, *, temperature: float, half: bool, explicit_noise: bool, seed: int | None
) -> Graph:
    """Return the graph of a FloWaveNet; see `voice_graph` for the arguments."""
    assert isinstance(model, FloWaveNet)
    writer, config = _Writer(Graph(), half), model.config
    graph = writer.graph
    mel = graph.input(MEL, FLOAT, ["N", config.n_mels, "T"])
    c = graph.op("Squeeze", upsample(graph, mel, config.n_mels, model.upsample), graph.ints(1))
    noise = noise_like(graph, c, temperature, explicit_noise, seed)
    x = graph.op("Unsqueeze", noise, graph.ints(1))
    conditioning, parts, channels = [], {}, 1
    for b in config.blocks:
        x, c = writer.squeeze(x, channels, 2), writer.squeeze(c, config.n_mels * 2**b, 2)
        conditioning.append(c)
        channels *= 2
        if b in config.split_blocks:
            x, parts[b] = graph.ops("Split", x, n_outputs=2, axis=1)
            channels //= 2
    for b in reversed(config.blocks):
        halves = graph.ops("Split", conditioning[b], n_outputs=2, axis=1)
        if b in parts:
            swapped = (b + 1) * config.n_flows % 2
            whole = graph.op("Concat", halves[swapped], halves[1 - swapped], axis=1)
            x = graph.op("Concat", x, parts[b], axis=1)
            x = writer.couple(model.split, x, writer.wave_net(model.priors[str(b)], whole))
            channels *= 2
        flows: Any = model.flows[b]
        nets: Any = model.nets[b]
        for i in reversed(range(config.n_flows)):
            heard = halves[(b * config.n_flows + i) % 2]
            first, second = graph.ops("Split", x, n_outputs=2, axis=1)
            x = graph.op("Concat", second, first, axis=1)
            x = writer.couple(flows[i].couple, x, writer.wave_net(nets[i], heard))
            x = writer.unnormalise(flows[i], x)
        x = writer.unsqueeze(x, channels // 2, 2)
        channels //= 2
    writer.output(graph.op("Squeeze", x, graph.ints(1)))
    return graph


class _Writer:
    """Writes the parts of which both models are made.

    Args:
        graph: Where they are written.
        half: Compute the networks with operands in float16.
    """

    def __init__(self, graph: Graph, half: bool) -> None:
        self.graph = graph
        self.kind = HALF if half else FLOAT

    def output(self, audio: str) -> None:
        """Give out the audio, (N, T · hop) in any shape."""
        flat = self.graph.op("Reshape", audio, self.graph.ints(0, -1))
        self.graph.output(flat, AUDIO, FLOAT, NOISE_SHAPE)

    def squeeze(self, value: str, n_channels: int, n: int) -> str:
        """Return (N, C, T) as (N, C · n, T / n); see `squeeze1d`."""
        graph = self.graph
        columns = graph.op("Reshape", value, graph.ints(0, n_channels, -1, n))
        columns = graph.op("Transpose", columns, perm=[0, 1, 3, 2])
        return graph.op("Reshape", columns, graph.ints(0, n_channels * n, -1))

    def unsqueeze(self, value: str, n_channels: int, n: int) -> str:
        """Undo `squeeze`, to C channels."""
        graph = self.graph
        columns = graph.op("Reshape", value, graph.ints(0, n_channels, n, -1))
        columns = graph.op("Transpose", columns, perm=[0, 1, 3, 2])
        return graph.op("Reshape", columns, graph.ints(0, n_channels, -1))

    def channels(self, value: str, start: int, stop: int) -> str:
        """Return some of the channels."""
        ints = self.graph.ints
        return self.graph.op("Slice", value, ints(start), ints(stop), ints(1))

    def couple(self, coupling: Coupling, z: str, net: Callable[[str], str]) -> str:
        """Return the inverse of a coupling, given the network of the half that is heard."""
        graph = self.graph
        halves = graph.ops("Split", z, n_outputs=2, axis=1)
        given, changed = halves[::-1] if coupling.first else halves
        params = net(given)
        if isinstance(coupling.transform, Shift):
            x = graph.op("Sub", changed, params)
        else:
            log_s, t = graph.ops("Split", params, n_outputs=2, axis=1)
            if isinstance(coupling.transform, Affine):
                scale = graph.op("Exp", graph.op("Neg", log_s))
                x = graph.op("Mul", graph.op("Sub", changed, t), scale)
            else:
                x = graph.op("Add", graph.op("Mul", changed, graph.op("Exp", log_s)), t)
        return graph.op("Concat", *((x, given) if coupling.first else (given, x)), axis=1)

    def unnormalise(self, flow: flowavenet.Flow, z: str) -> str:
        """Return the inverse of a flow's ActNorm."""
        graph, norm = self.graph, flow.norm
        ones = norm.bias.new_ones(1, len(norm.bias), 1)
        shift = norm.inverse(0 * ones)
        scale = norm.inverse(ones) - shift
        return graph.op("Add", graph.op("Mul", z, graph.constant(scale)), graph.constant(shift))

    def glow_net(self, net: waveglow.Network, cond: str) -> Callable[[str], str]:
        """Return what writes the network of a coupling of WaveGlow, given half of the channels."""

        def write(given: str) -> str:
            h = self.conv(given, net.start)
            return self.conv(self.body(net.body, h, cond), net.end)

        return write

    def wave_net(self, net: Any, cond: str) -> Callable[[str], str]:
        """Return what writes the network of a coupling or prior of FloWaveNet, as above."""
        graph = self.graph

        def write(given: str) -> str:
            h = graph.op("Relu", self.conv(given, net.front, pads=[1, 1]))
            u = graph.op("Relu", self.body(net.body, h, cond))
            u = graph.op("Relu", self.conv(u, net.middle))
            factor = (3 * net.end.log_scale).exp()
            weight = graph.constant(net.end.weight * factor[:, None, None])
            return graph.op("Conv", u, weight, graph.constant(net.end.bias * factor))

        return write

    def body(self, body: WaveNet1d, h: str, cond: str) -> str:
        """Return the sum of the skips, in float32, of features that are too."""
        graph, kind = self.graph, self.kind
        if kind == HALF:
            h, cond = graph.cast(h, kind), graph.cast(cond, kind)
        conditioning = graph.ops(
            "Split", self.conv(cond, body.cond, kind), n_outputs=len(body.layers), axis=1
        )
        skips = []
        for i, c in enumerate(conditioning):
            layer: Any = body.layers[i]
            (d,), k = layer.conv.dilation, layer.conv.kernel_size[0]
            pads = [d * (k - 1) // 2] * 2
            a = graph.op("Add", self.conv(h, layer.conv, kind, dilations=[d], pads=pads), c)
            first, second = graph.ops("Split", a, n_outputs=2, axis=1)
            y = graph.op("Mul", graph.op("Tanh", first), graph.op("Sigmoid", second))
            weight, bias = layer.res_skip.weight, layer.res_skip.bias
            n_skip = weight.shape[1]
            skip = self.product(y, weight[-n_skip:], bias[-n_skip:])
            skips.append(skip if kind == FLOAT else graph.cast(skip, FLOAT))
            if i < len(conditioning) - 1:
                h = graph.op("Add", h, self.product(y, weight[:n_skip], bias[:n_skip]))
                if body.scale != 1.0:
                    h = graph.op("Mul", h, graph.constant(body.scale, kind))
        return graph.op("Sum", *skips)

    def product(self, value: str, weight: Tensor, bias: Tensor) -> str:
        """Return a convolution of the networks' type."""
        weights = self.graph.constant(weight, self.kind), self.graph.constant(bias, self.kind)
        return self.graph.op("Conv", value, *weights)

    def conv(self, value: str, conv: Any, kind: int = FLOAT, **attributes: Any) -> str:
        """Return what a convolution of the model makes of a value."""
        return self.graph.op("Conv", value, *self.tensors(conv, kind), **attributes)

    def tensors(self, conv: Any, kind: int) -> tuple[str, str]:
        """Return weight and bias of a convolution."""
        return self.graph.constant(conv.weight, kind), self.graph.constant(conv.bias, kind)
