"""Which backend computes what: a pure function of facts, and who may overrule it."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from gated_conv2d_cases import CASES, random_layer

from vocoder.errors import VocoderError
from vocoder.kernels import BackendError, dispatch, gated_conv2d, use
from vocoder.kernels.card import Card, find_card
from vocoder.kernels.dispatch import Backend, choose, log_choice, requested
from vocoder.kernels.gated_conv.backends import BACKENDS, Call
from vocoder.kernels.invert_flow.op import BACKENDS as ROW_BACKENDS
from vocoder.kernels.invert_flow.op import Call as RowCall

GPU = Call(
    device="cuda",
    card=Card("NVIDIA H100", (9, 0), is_nvidia=True, has_triton=True),
    dtype=torch.bfloat16,
    channels=64,
    n_mels=80,
    n_outputs=2,
    d_h=1,
    queued=False,
)
T4 = Card("Tesla T4", (7, 5), is_nvidia=True, has_triton=True)
AMD = Card("AMD Instinct MI300X", (9, 4), is_nvidia=False, has_triton=True)
BARE = Card("NVIDIA A100", (8, 0), is_nvidia=True, has_triton=False)


def layer() -> None:
    h, cond, w = random_layer(CASES[0])
    gated_conv2d(h, cond, w, dilation=(1, 1))


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [64, 128])
def test_triton_where_its_kernels_can(
    capability: tuple[int, int], dtype: torch.dtype, channels: int
) -> None:
    card = Card("any", capability, is_nvidia=True, has_triton=True)
    call = replace(GPU, card=card, dtype=dtype, channels=channels)
    choice = choose(BACKENDS, call, "auto")
    assert choice.backend.name == "triton"
    assert not choice.refusals


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "cpu", "card": None}, "on the cpu, not on an NVIDIA GPU"),
        ({"device": "mps", "card": None}, "on the mps, not on an NVIDIA GPU"),
        ({"card": T4}, "Tesla T4 has compute capability 7.5; the kernels need a card with 8.0"),
        ({"card": AMD}, "AMD Instinct MI300X is no NVIDIA card"),
        ({"card": BARE}, "NVIDIA A100 lacks triton, which is not installed; `pip install triton`"),
        ({"dtype": torch.float32}, "float32 has no tensor cores; use autocast"),
        ({"dtype": torch.float64}, "float64 has no tensor cores"),
        ({"channels": 96}, "96 channels; compiled for 64 and 128"),
        ({"n_mels": 100}, "100 mel bands; only multiples of 16"),
        ({"n_outputs": 25}, "25 outputs; at most 16"),
        ({"d_h": 2}, "height dilation 2; only 1"),
        ({"queued": True}, "a queue of past rows"),
    ],
)
def test_triton_says_why_not(change: dict[str, object], reason: str) -> None:
    call = replace(GPU, **change)  # type: ignore[arg-type]
    assert reason in choose(BACKENDS, call, "auto").refusals["triton"]
    with pytest.raises(BackendError, match="backend 'triton' cannot run") as error:
        choose(BACKENDS, call, "triton")
    assert reason in str(error.value)
    assert choose(BACKENDS, call, "reference").backend.name == "reference"


def test_order_is_preference_and_the_first_that_can_wins() -> None:
    def backend(name: str, reason: str | None) -> Backend[int]:
        return Backend(name, lambda _: reason, "math", "sqrt")

    backends = [backend("triton", "no"), backend("cpu", None), backend("reference", None)]
    choice = choose(backends, 0, "auto")
    assert (choice.backend.name, choice.refusals) == ("cpu", {"triton": "no"})
    assert choose(backends, 0, "reference").backend.name == "reference"
    with pytest.raises(BackendError, match="this op has triton, reference only"):
        choose([backends[0], backends[2]], 0, "cpu")


def test_forced_backend_does_not_fall_back() -> None:
    with use("triton"), pytest.raises(BackendError, match="on the cpu, not on an NVIDIA GPU"):
        layer()
    layer()


def test_use_nests_and_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "triton")
    assert requested() == "triton"
    with use("reference"):
        with use("auto"):
            assert requested() == "auto"
        assert requested() == "reference"
        layer()
    with pytest.raises(BackendError):
        layer()
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "")
    assert requested() == "auto"


def test_use_as_a_statement_holds_until_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_requested", None)  # and put back after the test
    use("reference")
    gc.collect()
    assert requested() == "reference"
    with use("triton"):
        use("cpu")
        assert requested() == "cpu"
    assert requested() == "reference"
    with pytest.raises(VocoderError, match="tritn"):
        use("tritn")
    assert requested() == "reference"


def test_unknown_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VocoderError, match=r"'tritn'.*did you mean 'triton'"), use("tritn"):
        pass
    monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "gpu")
    with pytest.raises(VocoderError, match="VOCODER_BACKEND 'gpu': not one of"):
        layer()


def test_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    backend: Backend[int] = Backend("cpu", lambda _: None, "math", "sqrt")
    with caplog.at_level(logging.INFO, logger="vocoder.kernels"):
        for _ in range(3):
            log_choice("an op", backend.name, {"triton": "no GPU"})
    assert caplog.messages == ["an op runs on the cpu backend; not triton: no GPU"]


@pytest.mark.parametrize("card", [T4, BARE], ids=lambda card: card.name)
def test_what_the_machine_lacks_is_a_warning_once_for_all_ops(
    card: Card, caplog: pytest.LogCaptureFixture
) -> None:
    dispatch._warn_once.cache_clear()
    row = RowCall("cuda", card, torch.float16, torch.float32, 64, 80, 1)
    choices = {
        "gated_conv2d": choose(BACKENDS, replace(GPU, card=card), "auto"),
        "invert_flow": choose(ROW_BACKENDS, row, "auto"),
        "synthesis": choose(ROW_BACKENDS, row, "auto"),
    }
    with caplog.at_level(logging.WARNING, logger="vocoder.kernels"):
        for op, choice in choices.items():
            assert choice.backend.name == "reference"
            log_choice(op, "reference", choice.refusals)
    (line,) = caplog.messages
    assert card.name in line
    assert ("8.0" if card is T4 else "pip install triton") in line


@pytest.mark.parametrize("change", [{"device": "cpu", "card": None}, {"channels": 96}, {}])
def test_what_no_machine_would_mend_is_no_warning(
    change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    dispatch._warn_once.cache_clear()
    choice = choose(BACKENDS, replace(GPU, **change), "auto")  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, logger="vocoder.kernels"):
        log_choice("an op", choice.backend.name, choice.refusals)
    assert not caplog.messages


def test_the_reference_on_request_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    dispatch._warn_once.cache_clear()
    choice = choose(BACKENDS, replace(GPU, card=T4), "reference")
    with caplog.at_level(logging.WARNING, logger="vocoder.kernels"):
        log_choice("an op", choice.backend.name, choice.refusals)
    assert not caplog.messages


def test_the_card_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    names, capabilities = ["NVIDIA A100", "Tesla T4"], [(8, 0), (7, 5)]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: names[index])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
    card = find_card("cuda", 1)
    assert card is not None
    assert (card.name, card.capability) == ("Tesla T4", (7, 5))
    assert find_card("cpu") is None


def test_backends_are_loaded_on_first_use() -> None:
    code = (
        "import sys, vocoder.kernels, vocoder.models.nanoflow, vocoder.voice.load;"
        "print(*(name for name in sys.modules if name.startswith('vocoder.kernels')))"
    )
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "vocoder.kernels.dispatch" in loaded
    assert "triton" not in loaded


def test_dispatched_layer_traces_into_one_graph() -> None:
    h, cond, w = random_layer(CASES[0])
    tensors = [h.requires_grad_(), w.conv.requires_grad_()]

    def call() -> tuple[torch.Tensor, ...]:
        with use("reference"):
            h_next, y = gated_conv2d(h, cond, w, dilation=(1, 1))
        assert h_next is not None
        return y, *torch.autograd.grad(y.sum() + h_next.sum(), tensors)

    expected = call()
    traced = torch.compile(gated_conv2d, fullgraph=True, backend="aot_eager")
    with use("reference"):
        h_next, y = traced(h, cond, w, dilation=(1, 1))
    got = y, *torch.autograd.grad(y.sum() + h_next.sum(), tensors)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
