"""The inverse of a model behind a filter as an ONNX graph: its own, and then the filter."""

from __future__ import annotations

from vocoder.export.frames import autocorrelation, log_amplitude
from vocoder.export.graph import FLOAT, Graph
from vocoder.export.linear_prediction import synthesise
from vocoder.export.voice_graph import AUDIO, GRAPHS, MEL, NOISE_SHAPE, voice_graph
from vocoder.models.families.voice import VoiceModel
from vocoder.models.whitened import Whitened


@GRAPHS.register(Whitened)
def whitened_graph(
    model: VoiceModel, *, temperature: float, half: bool, explicit_noise: bool, seed: int | None
) -> Graph:
    """Return the graph of a model behind a filter; see `voice_graph` for the arguments.

    Whatever the operands of the layers are, the filter is computed in double.

    Raises:
        VocoderError: there is no graph of the inner model.
    """
    assert isinstance(model, Whitened)
    graph = voice_graph(
        model.excitation,
        temperature=temperature,
        half=half,
        explicit_noise=explicit_noise,
        seed=seed,
    )
    excitation, preset = graph.take_back(AUDIO), model.config.preset
    r = autocorrelation(graph, log_amplitude(graph, MEL, preset), preset, model.config.order)
    graph.output(synthesise(graph, excitation, r, model.config), AUDIO, FLOAT, NOISE_SHAPE)
    return graph
