"""The inverse of SourceFlow as an ONNX graph: a NanoFlow that hears pulses, and then the filter."""

from __future__ import annotations

from vocoder.export.frames import autocorrelation, log_amplitude
from vocoder.export.graph import FLOAT, Graph
from vocoder.export.graphs.row_flow import invert_rows, noise_like, upsample_mel
from vocoder.export.linear_prediction import synthesise
from vocoder.export.pulse_shape import to_the_likeliest
from vocoder.export.pulses import find_pitch, pulse_features
from vocoder.export.voice_graph import AUDIO, GRAPHS, MEL, NOISE_SHAPE
from vocoder.mel.envelope import frame_centre
from vocoder.models.families.voice import VoiceModel
from vocoder.models.sourceflow import SourceFlow


@GRAPHS.register(SourceFlow)
def source_flow_graph(
    model: VoiceModel, *, temperature: float, half: bool, explicit_noise: bool, seed: int | None
) -> Graph:
    """Return the graph of a SourceFlow; see `voice_graph` for the arguments.

    Whatever the operands of the layers are, the pitch is found in float32 and the filter in double.

    Raises:
        VocoderError: the model has a transform that the row op does not know.
    """
    assert isinstance(model, SourceFlow)
    graph = Graph()
    preset = model.config.preset
    mel = graph.input(MEL, FLOAT, ["N", model.n_mels, "T"])
    amplitude = log_amplitude(graph, mel, preset)
    spectrum = graph.cast(amplitude, FLOAT)
    log_f0, voiced = find_pitch(graph, spectrum, model.pitch)
    features, pulses = pulse_features(
        graph,
        log_f0,
        voiced,
        sample_rate=preset.sample_rate,
        hop_length=model.hop_length,
        centre=frame_centre(preset),
    )
    cond = graph.op("Concat", upsample_mel(graph, mel, model.excitation), features, axis=1)
    noise = noise_like(graph, cond, temperature, explicit_noise, seed)
    excitation = invert_rows(graph, noise, cond, model.excitation, half=half)
    excitation = to_the_likeliest(graph, excitation, spectrum, pulses, model)
    r = autocorrelation(graph, amplitude, preset, model.config.order)
    graph.output(synthesise(graph, excitation, r, model.config), AUDIO, FLOAT, NOISE_SHAPE)
    return graph
