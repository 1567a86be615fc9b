"""A voice as an ONNX graph: what every such graph takes and gives, and which models have one.

Graphs are written by hand, from the weights of one class of models, and registered for exactly that
class in `export/graphs`: a subclass that computes something else has none.
"""

from __future__ import annotations

from typing import Protocol

import onnx
from onnx import helper

from vocoder.errors import VocoderError
from vocoder.export.graph import FLOAT, Graph
from vocoder.models.families.voice import VoiceModel
from vocoder.registry import ClassRegistry

MEL, NOISE, AUDIO = "mel", "noise", "audio"  # the names of inputs and outputs
NOISE_SHAPE = ["N", "samples"]


class GraphWriter(Protocol):
    """Writes the graph of one class of models."""

    def __call__(
        self,
        model: VoiceModel,
        *,
        temperature: float,
        half: bool,
        explicit_noise: bool,
        seed: int | None,
    ) -> Graph:
        """Return the graph; the arguments are those of `voice_graph`."""


GRAPHS: ClassRegistry[GraphWriter] = ClassRegistry("vocoder.export.graphs")


def voice_graph(
    model: VoiceModel,
    *,
    temperature: float = 1.0,
    half: bool = False,
    explicit_noise: bool = False,
    seed: int | None = None,
) -> Graph:
    """Return the graph that maps mel (N, M, T) to audio (N, T · hop_length), both float32.

    Args:
        model: The folded model; its weights are stored as float32.
        temperature: Factor of the noise.
        half: Compute the layers with operands in float16; the noise, the audio, the affine
            transform and the sums over layers stay float32.
        explicit_noise: Take standard normal noise (N, T · hop_length) as a second input instead of
            drawing it in the graph.
        seed: Seed of the noise that the graph draws; None lets the runtime choose.

    Raises:
        VocoderError: there is no graph for this class of models, or for these settings of it.
    """
    write = GRAPHS.find(type(model))
    if write is None:
        raise VocoderError(
            f"a {type(model).__qualname__} has no ONNX graph, since none is registered for exactly "
            "this class; speak with `vocoder synthesize`"
        )
    return write(
        model, temperature=temperature, half=half, explicit_noise=explicit_noise, seed=seed
    )


def expose_noise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model of a `voice_graph` with its noise as an input, as if made so."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    graph = exposed.graph
    for node in graph.node:
        if node.op_type == "RandomNormalLike":
            graph.input.append(helper.make_tensor_value_info(NOISE, FLOAT, NOISE_SHAPE))
            node.CopyFrom(helper.make_node("Identity", [NOISE], node.output))
    return exposed
