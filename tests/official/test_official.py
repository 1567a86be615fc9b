"""The published code's outputs on its own checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import golden

from vocoder import checkpoint
from vocoder.errors import VocoderError
from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.official.importing import import_official, import_official_file

FILES = [
    "nanoflow",
    "nanoflow-cycle3",
    "nanoflow-decomp",
    "nanoflow-decomp-cycle3",
    "nanoflow-naive",
    "nanoflow-naive-cycle3",
    "waveflow",
    "waveflow-bipartize",
    "waveflow-shift",
    "waveflow-shift-cycle3",
]


def state_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix("state."): t for k, t in tensors.items() if k.startswith("state.")}


@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_reference_tensors(name: str) -> None:
    tensors, config = golden(name)
    model = import_official(state_of(tensors), config)
    z, logdet = model(tensors["in.audio"], tensors["in.mel"])
    z_rows = fold_rows(z, model.config.n_height)[:, list(model.latent_order)]
    assert (z_rows - tensors["out.z"][:, 0]).abs().max() <= 1e-5
    assert (logdet.sum() - tensors["out.logdet"]).abs() <= 1e-3
    rows = torch.empty_like(tensors["in.z"][:, 0])
    rows[:, list(model.latent_order)] = tensors["in.z"][:, 0]
    for inverse in (model.inverse, model.fold().inverse):
        audio = inverse(unfold_rows(rows), tensors["in.mel"])
        assert (audio - tensors["out.audio"]).abs().max() <= 1e-5


@pytest.mark.parametrize("name", ["nanoflow", "waveflow"])
def test_other_spellings_of_the_same_weights(name: str) -> None:
    tensors, config = golden(name)
    state = state_of(tensors)
    expected = import_official(state, config).fold().state_dict()
    parametrized = {
        k.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): t
        for k, t in state.items()
    }
    folded = dict(state)
    for key in [k for k in state if k.endswith("weight_g")]:
        base = key.removesuffix("weight_g")
        g, v = folded.pop(key), folded.pop(base + "weight_v")
        folded[base + "weight"] = g * v / v.flatten(1).norm(dim=1).view_as(g)
    n_layers = config["n_layer"]
    fused = dict(folded)
    for net in {k.split(".res_blocks.")[0] for k in folded if ".res_blocks." in k}:
        for part in ("weight", "bias"):
            pieces = [
                fused.pop(f"{net}.res_blocks.{i}.filter_gate_conv_c.{part}")
                for i in range(n_layers)
            ]
            fused[f"{net}.fused_filter_gate_conv_c.{part}"] = torch.cat(pieces)
    prefixed = {f"module.{k}": t for k, t in state.items()} | {"h_cache": torch.zeros(1)}
    for spelling in (parametrized, folded, fused, prefixed):
        model = import_official(spelling, config).fold()
        for key, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, expected[key], atol=1e-6, rtol=1e-6, msg=key)


def published_json(config: dict[str, object]) -> dict[str, object]:
    settings = {
        "cin_channels": config["cin_channel"],
        "res_channels": config["res_channel"],
        "n_height": config["n_height"],
        "n_layer": config["n_layer"],
        "n_flow": config["n_flow"],
        "n_layer_per_cycle": config["layers_per_dilation_h_cycle"],
        "size_flow_embed": config["size_flow_embed"],
        "coupling_type": "nanoflow",
        "use_weightnorm_embed": "False",
    }
    return {"waveflow_config": settings, "data_config": {"use_dbmel": "false"}}


def test_file_becomes_a_voice(tmp_path: Path) -> None:
    tensors, config = golden("nanoflow")
    source, settings, out = tmp_path / "waveflow_5", tmp_path / "c.json", tmp_path / "v.safetensors"
    torch.save({"model": state_of(tensors), "iteration": 5, "learning_rate": 1e-3}, source)
    settings.write_text(json.dumps(published_json(config)))
    import_official_file(source, settings, out)
    voice = checkpoint.load(out)
    assert (voice.step, voice.preset.name, voice.model_name) == (5, "tacotron2-22k", "nanoflow")
    z, _ = voice.model(tensors["in.audio"], tensors["in.mel"])
    assert (fold_rows(z, 8) - tensors["out.z"][:, 0]).abs().max() <= 1e-5


class Hostile:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (Path.touch, (Path("executed"),))


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Hostile()}, "bad")
    Path("c.json").write_text("{}")
    with pytest.raises(VocoderError, match="bad: not a file of tensors alone"):
        import_official_file("bad", "c.json", "out.safetensors")
    assert not Path("executed").exists()
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layer": 5}, "missing indicator.projections.4"),
        ({"n_layer": 3}, "unexpected"),
        ({"res_channel": 13}, "mis-shaped"),
        ({"family": "waveflow-shift"}, "names 'waveflow-shift'.* nanoflow full"),
        ({"n_height": 7}, "does not divide"),
        ({"n_height": None}, "n_height"),
    ],
)
def test_config_that_does_not_fit(change: dict[str, object], message: str) -> None:
    tensors, config = golden("nanoflow")
    with pytest.raises(VocoderError, match=message):
        import_official(state_of(tensors), config | change)


def test_spline_heads_are_refused() -> None:
    with pytest.raises(VocoderError, match="spline"):
        import_official({"flows.0.coupling.proj.conv.weight": torch.zeros(1)}, {})
