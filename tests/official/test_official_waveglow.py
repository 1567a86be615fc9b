"""The published WaveGlow's outputs, and every form that its checkpoints have had."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from commands import assert_one_error_line, run_here
from helpers import GOLDEN, golden, state_of

from vocoder import checkpoint
from vocoder.errors import VocoderError
from vocoder.files import torch_files
from vocoder.flows.reshape import fold_rows, unfold_rows
from vocoder.models.families.flow import FlowModel
from vocoder.models.waveglow import WaveGlow, WaveGlowConfig
from vocoder.official.importing import import_official, import_official_file

CHECKPOINTS = GOLDEN / "checkpoints"
FORMS = [
    "pickle-fused",
    "pickle-fused-legacy",
    "pickle-cond-layers",
    "pickle-skip-layers",
    "pickle-folded-after-inference",
    "state-dict-2019",
]


def assert_near(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Compare relative to the size of the whole tensor."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * max(1.0, theirs.abs().max().item())


def noise_of(tensors: dict[str, torch.Tensor], sigma: float) -> torch.Tensor:
    """Return z (B, N) of the noise in the order that the published code draws it."""
    drawn = [tensors[f"in.noise.{i}"] for i in range(9) if f"in.noise.{i}" in tensors]
    return sigma * unfold_rows(torch.cat(drawn[::-1], dim=1))


@pytest.mark.parametrize("name", ["waveglow", "waveglow-12flow", "waveglow-group12"])
@torch.no_grad()
def test_reference_likelihood(name: str) -> None:
    tensors, config = golden(name)
    model = import_official(state_of(tensors), config)
    audio, mel = tensors["in.audio"], tensors["in.mel"]
    z, log_derivatives = model.trace(audio, mel)
    assert_near(fold_rows(z, config["n_group"]), tensors["out.z"])
    steps = torch.stack([d.sum() for d in log_derivatives])
    assert_near(steps, tensors["out.log_s_sum"] + tensors["out.log_det_W"])
    nats = model.log_prob(audio, mel).sum() / audio.numel()
    assert abs(nats - tensors["out.log_likelihood"]) <= 1e-4
    loss = (z**2 / (2 * 0.8**2)).sum() - steps.sum()
    assert_near(loss[None] / z.numel(), tensors["out.loss_sigma0.8"])


@pytest.mark.parametrize("name", ["waveglow", "waveglow-12flow", "waveglow-group12"])
@pytest.mark.parametrize("sigma", [0.0, 0.666, 1.0])
@torch.no_grad()
def test_reference_synthesis(name: str, sigma: float) -> None:
    tensors, config = golden(name)
    model = import_official(state_of(tensors), config)
    mel, expected = tensors["in.mel"], tensors[f"out.infer.sigma_{sigma}"]
    for inverse in (model.inverse, model.fold().inverse):
        assert_near(inverse(noise_of(tensors, sigma), mel), expected)


@torch.no_grad()
def test_a_group_that_does_not_divide_the_hop_leaves_no_sample_out() -> None:
    """The published code returns 1788 samples of 1792; ours are the same before the last four."""
    tensors, config = golden("waveglow-group12")
    model = import_official(state_of(tensors), config)
    published = noise_of(tensors, 1.0)
    z = torch.cat([published, torch.ones(1, 4)], dim=1)
    audio = model.inverse(z, tensors["in.mel"])
    assert audio.shape == (1, 7 * 256)
    assert_near(audio[:, :1788], tensors["out.infer.sigma_1.0"])
    assert (audio[:, 1788:] == 0.01).all()


@torch.no_grad()
def test_the_first_released_model_computes_in_its_own_way() -> None:
    tensors, config = golden("waveglow-old")
    expected, mel = tensors["out.infer.sigma_0.666"], tensors["in.mel"]
    z = noise_of(tensors, 0.666)
    assert_near(import_official(state_of(tensors), config).inverse(z, mel), expected)
    usual = import_official(state_of(tensors))
    assert (usual.inverse(z, mel) - expected).abs().max() > 0.5


@pytest.mark.parametrize(
    ("channels", "training", "inference"),
    [
        (64, 17_595_752, 17_558_888),
        (128, 34_830_440, 34_756_712),
        (256, 87_879_272, 87_731_816),
        (512, 268_294_760, 267_999_848),
    ],
)
def test_parameter_counts_are_the_published_ones(
    channels: int, training: int, inference: int
) -> None:
    with torch.device("meta"):
        model = WaveGlow(WaveGlowConfig(channels=channels))
        normed = sum(p.numel() for n, p in model.named_parameters() if n.endswith(".original0"))
    assert model.n_parameters() == model.n_parameters(effective=True) == training
    assert training - normed == inference


def expected_of_forms() -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(CHECKPOINTS / "waveglow-expected.safetensors")


@torch.no_grad()
def assert_is_expected(model: FlowModel) -> None:
    tensors = expected_of_forms()
    audio = model.inverse(noise_of(tensors, 0.666), tensors["in.mel"])
    assert_near(audio, tensors["out.infer.sigma_0.666"])
    z, _ = model(tensors["in.audio"], tensors["in.mel"])
    assert_near(fold_rows(z, 8), tensors["out.z"])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_storage(form: str, tmp_path: Path) -> None:
    out = tmp_path / "voice.safetensors"
    import_official_file(CHECKPOINTS / f"waveglow-{form}.pt", None, out)
    stored = checkpoint.load(out)
    assert_is_expected(stored.model)
    assert stored.model_name == "waveglow"
    assert stored.preset.sample_rate == 22050


def current_state() -> dict[str, torch.Tensor]:
    return state_of(expected_of_forms())


def folded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    plain = {name: t for name, t in state.items() if not name.endswith(("_g", "_v"))}
    for name, v in state.items():
        if name.endswith("weight_v"):
            g = state[name.replace("weight_v", "weight_g")]
            plain[name.removesuffix("_v")] = g * v / v.flatten(1).norm(dim=1)[:, None, None]
    return plain


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_of_a_training(zipped: bool, prefix: str, tmp_path: Path) -> None:
    """As DeepLearningExamples saves them now: states of generators, optimiser and scaler beside."""
    state = {f"{prefix}{name}": tensor for name, tensor in current_state().items()}
    path, out = tmp_path / "checkpoint.pt", tmp_path / "voice.safetensors"
    saved = {
        "epoch": 3,
        "cuda_rng_state_all": torch.zeros(2, 16, dtype=torch.uint8),
        "random_rng_states_all": [(3, (1, 2), None)],
        "config": {"n_mel_channels": 4, "n_flows": 4, "WN_config": {"n_layers": 3}},
        "state_dict": state,
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.zeros(3)}}, "param_groups": []},
        "scaler": {"scale": 1.0},
    }
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    import_official_file(path, None, out)
    assert_is_expected(checkpoint.load(out).model)


def test_folded_and_parametrized_weights() -> None:
    state = current_state()
    parametrized = {
        name.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): tensor
        for name, tensor in state.items()
    }
    for spelling in (folded(state), parametrized):
        assert_is_expected(import_official(spelling))


def test_an_output_of_zeros_stays_one() -> None:
    state = folded(current_state())
    state["WN.0.start.weight"][0] = 0
    assert import_official(state).fold().nets[0].start.weight[0].eq(0).all()


def test_half_precision_is_widened_before_anything_is_inverted() -> None:
    state = {name: tensor.half() for name, tensor in current_state().items()}
    model = import_official(state)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    expected = import_official({name: tensor.float() for name, tensor in state.items()})
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_a_pickle_of_the_first_released_model_tells_itself(tmp_path: Path) -> None:
    tensors, _ = golden("waveglow-old")
    out = tmp_path / "voice.safetensors"
    import_official_file(CHECKPOINTS / "waveglow-pickle-glow-old.pt", None, out)
    with torch.no_grad():
        audio = checkpoint.load(out).model.inverse(noise_of(tensors, 0.666), tensors["in.mel"])
    assert_near(audio, tensors["out.infer.sigma_0.666"])


def test_the_mels_are_those_of_the_published_json(tmp_path: Path) -> None:
    """A voice of another rate must not become one of 22,050 Hz."""
    config = {"data_config": {"sampling_rate": 16000, "mel_fmax": 7600.0}, "waveglow_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    out = tmp_path / "voice.safetensors"
    import_official_file(CHECKPOINTS / f"waveglow-{FORMS[0]}.pt", tmp_path / "config.json", out)
    preset = checkpoint.load(out).preset
    assert (preset.sample_rate, preset.f_max, preset.n_mels) == (16000, 7600.0, 4)
    assert preset.name == "imported-16000-4band"


# ---- what is refused, in one line ----


class CallsSystem:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def hostile_zip(path: Path) -> None:
    torch.save({"model": CallsSystem()}, path)


def hostile_legacy(path: Path) -> None:
    torch.save({"model": CallsSystem()}, path, _use_new_zipfile_serialization=False)


def hostile_in_the_facts(path: Path) -> None:
    """Every pickle of the old format is read by the same reader, the first as the last."""
    path.write_bytes(pickle.dumps(CallsSystem(), protocol=2))


def hostile_attribute(path: Path) -> None:
    """A module whose state calls a name that the reader admits, with what it does not admit."""
    path.write_bytes(
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(1001, 2)
        + pickle.dumps({"little_endian": True}, 2)
        + b"\x80\x02cglow\nWaveGlow\n)\x81}X\x04\x00\x00\x00evilcbuiltins\neval\nX\x01\x00\x00\x001"
        + b"\x85Rsb."
        + pickle.dumps([], 2)
    )


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (hostile_zip, "posix.system"),
        (hostile_legacy, "posix.system"),
        (hostile_in_the_facts, "posix.system"),
        (hostile_attribute, "builtins.eval"),
    ],
)
def test_nothing_that_a_pickle_names_is_run(
    write: Callable[[Path], None],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("bad.pt"))
    result = run_here(capfdbinary, "import", "bad.pt", "-o", "out.safetensors")
    assert_one_error_line(result, "bad.pt: not a file of tensors alone", f"it names {named}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pt"]


def rewritten_zip(change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return a checkpoint of ours in torch's format with its pickle changed."""
    stream = io.BytesIO()
    torch.save({"model": current_state()}, stream)
    out = io.BytesIO()
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(out, "w", compression) as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return out.getvalue()


def whole(form: str) -> bytes:
    return (CHECKPOINTS / f"waveglow-{form}.pt").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: whole("pickle-fused")[:-1000], "damaged"),
        (lambda: whole("pickle-fused-legacy")[:-1000], "ends within its tensors"),
        (lambda: whole("pickle-fused-legacy")[:3000], "damaged"),
        (lambda: b"", "damaged"),
        (lambda: b"PK", "damaged"),
        (lambda: b"RIFF and no checkpoint", "damaged"),
        (lambda: rewritten_zip(lambda p: p[:-40] + b"."), "damaged"),
        (lambda: rewritten_zip(lambda p: p, zipfile.ZIP_DEFLATED), "compressed"),
        # A view of more values than are stored.
        (
            lambda: rewritten_zip(
                lambda p: p.replace(b"K\x08K\x08K\x01\x87", b"K\xffK\xffK\xff\x87")
            ),
            "views",
        ),
        (lambda: rewritten_zip(lambda p: p.replace(b"FloatStorage", b"ComplexStore")), "it names"),
    ],
)
def test_damaged_files(
    content: Callable[[], bytes], message: str, tmp_path: Path, capfdbinary: Any
) -> None:
    path, out = tmp_path / "bad.pt", tmp_path / "out.safetensors"
    path.write_bytes(content())
    assert_one_error_line(run_here(capfdbinary, "import", path, "-o", out), "bad.pt: ", message)
    assert not out.exists()


@pytest.mark.parametrize("error", [IndexError(), OSError(), zlib.error(""), AssertionError()])
def test_whatever_the_unpickler_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """One without a message among them."""

    def fail(*_: object) -> None:
        raise error

    (tmp_path / "bad.pt").write_bytes(whole("pickle-fused"))
    monkeypatch.setattr(torch_files, "_Unpickler", fail)
    with pytest.raises(VocoderError, match=rf"bad\.pt: .*\({type(error).__name__}\)"):
        torch_files.read_torch_file(tmp_path / "bad.pt")


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    for form in ("pickle-fused", "pickle-skip-layers"):
        content = whole(form)
        for n_bytes in range(0, len(content), len(content) // 25):
            (tmp_path / "cut.pt").write_bytes(content[:n_bytes])
            with pytest.raises(VocoderError, match=r"cut\.pt: "):
                import_official_file(tmp_path / "cut.pt", None, tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_flows": 6}, "n_flows is 6, but the tensors are of a model with 4"),
        ({"n_group": 12}, "n_group is 12"),
        ({"n_early_size": 4}, "n_early_size is 4"),
        (
            {"WN_config": {"n_channels": 512}},
            "n_channels is 512, but the tensors are of a model with 8",
        ),
        ({"WN_config": [8]}, "WN_config must be a mapping"),
        ({"waveglow_config": 3}, "waveglow_config must be a mapping"),
        ({"variant": "new"}, "variant 'new' is not 'glow_old'"),
        ({"data_config": {"sampling_rate": "fast"}}, "data_config.sample_rate"),
        ({"data_config": {"hop_length": 0}}, "hop_length must be at least 1"),
        ({"data_config": 5}, "data_config must be a mapping"),
    ],
)
def test_configs_that_do_not_fit(
    config: dict[str, Any], message: str, tmp_path: Path, capfdbinary: Any
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    path, out = CHECKPOINTS / "waveglow-pickle-fused-legacy.pt", tmp_path / "out.safetensors"
    arguments = ("import", path, "--config", tmp_path / "config.json", "-o", out)
    result = run_here(capfdbinary, *arguments)
    assert_one_error_line(result, tmp_path / "config.json", message)
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("upsample.weight"), "upsample.weight is missing"),
        (lambda s: s.pop("WN.1.in_layers.0.bias"), "missing nets.1.body.layers.0.conv.bias"),
        (lambda s: s.pop("WN.2.cond_layer.weight_v"), "missing nets.2.body.cond"),
        (lambda s: s.pop("convinv.1.conv.weight"), "convinv|unexpected|missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "unexpected extra"),
        (lambda s: s["convinv.0.conv.weight"].zero_(), "convinv.0.conv.weight has no inverse"),
        (
            lambda s: s.update({"convinv.3.conv.weight": torch.eye(4)[..., None]}),
            "which no early output",
        ),
        (
            lambda s: s.update({"convinv.3.conv.weight": torch.zeros(6)}),
            "convinv.3.conv.weight is no square matrix",
        ),
    ],
)
def test_state_dicts_that_are_no_whole_waveglow(
    change: Callable[[dict[str, torch.Tensor]], Any], message: str
) -> None:
    state = current_state()
    change(state)
    with pytest.raises(VocoderError, match=message):
        import_official(state)
