"""The layer op's CPU backend: outputs and every gradient against the reference."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
import torch
from gated_conv2d_cases import CASES, Case, outputs_and_gradients, random_layer, random_past
from torch import Tensor

from vocoder.kernels import BackendError, GatedConvWeights, gated_conv2d, use
from vocoder.kernels.card import Card
from vocoder.kernels.dispatch import choose
from vocoder.kernels.gated_conv.backends import BACKENDS, Call
from vocoder.kernels.gated_conv.cpu import BLOCK_COLUMNS
from vocoder.models.nanoflow import NanoFlow, NanoFlowConfig

# Beside those of all backends: each filtering with whole and with partial tiles, and more columns
# than one block has.
CASES = [
    *CASES,
    Case((1, 3, 16), dilation=(1, 4), projected=True),
    Case((2, 2, 17), dilation=(1, 16)),
    Case((1, 3, 40), dilation=(2, 8), projected=True, gated=False),
    Case((1, 5, BLOCK_COLUMNS // 2 + 3), channels=2),
    Case((1, 3, 16), dilation=(1, 4), causal=True),
    Case((2, 2, 17), dilation=(1, 16), causal=True),
]


@pytest.mark.parametrize("queued", [False, True], ids=["", "past"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_those_of_the_reference(case: Case, queued: bool) -> None:
    layer = (*random_layer(case), random_past(case) if queued else None)
    expected = outputs_and_gradients("reference", case, *layer)
    for recompute in (False, True):
        got = outputs_and_gradients("cpu", case, *layer, recompute=recompute)
        for name, tensor in expected.items():
            # Weight gradients are sums over all positions, up to thousands here.
            torch.testing.assert_close(got[name], tensor, atol=1e-10, rtol=1e-10, msg=name)


@pytest.mark.parametrize("d_w", [1, 8, 64])
def test_float32_loses_little_to_the_filtering(d_w: int) -> None:
    case = Case((1, 4, 300), channels=64, n_mels=80, dilation=(1, d_w), scale=0.5**0.5)
    layer = random_layer(case)
    exact = outputs_and_gradients("reference", case, *layer)
    h, cond, w = layer
    single = GatedConvWeights(**{f.name: getattr(w, f.name).float() for f in fields(w)})
    got = outputs_and_gradients("cpu", case, h.float(), cond.float(), single)
    for name, tensor in exact.items():
        # Operands are rounded to 2^-24, 6e-8; sums of a thousand products of such random numbers
        # come out at 2 to 4e-7 of their norm, and the constants of F(4, 3), up to 8, double that.
        assert (got[name] - tensor).norm() < 2e-6 * tensor.norm(), name


def test_inference_gives_the_same_and_keeps_nothing() -> None:
    h, cond, w = random_layer(CASES[0])
    with use("cpu"):
        trained, _ = gated_conv2d(h.requires_grad_(), cond, w, dilation=(1, 1))
        with torch.no_grad():
            inferred, y = gated_conv2d(h, cond, w, dilation=(1, 1))
    assert trained is not None
    assert inferred is not None
    assert trained.grad_fn is not None
    assert not y.requires_grad
    torch.testing.assert_close(inferred, trained, atol=0, rtol=0)


def test_backward_inside_autocast_stays_exact() -> None:
    h, cond, w = random_layer(CASES[0])
    h, cond = h.float().requires_grad_(), cond.float()
    w = GatedConvWeights(**{f.name: getattr(w, f.name).float() for f in fields(w)})
    with use("cpu"):
        _, y = gated_conv2d(h, cond, w, dilation=(1, 1))
    (expected,) = torch.autograd.grad(y.sum(), h, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        (got,) = torch.autograd.grad(y.sum(), h)
    torch.testing.assert_close(got, expected, atol=0, rtol=0)


def test_threads_do_not_disturb_each_other() -> None:
    layers = [random_layer(CASES[0], seed) for seed in range(8)]

    def run(seed: int) -> dict[str, Tensor]:
        return outputs_and_gradients("cpu", CASES[0], *layers[seed])

    alone = [run(seed) for seed in range(8)]
    with use("cpu"), ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(8)))
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_training_takes_the_same_course() -> None:
    torch.manual_seed(0)
    config = NanoFlowConfig(channels=32, n_layers=4, n_flows=2, flow_embedding=16)
    start = NanoFlow(config).state_dict()
    audio, mel = 0.1 * torch.randn(1, 2048), torch.randn(1, config.n_mels, 8)
    losses: dict[str, list[float]] = {}
    for backend in ("reference", "cpu"):
        model = NanoFlow(config)
        model.load_state_dict(start)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        losses[backend] = []
        for _ in range(100):
            with use(backend):
                loss = -model.log_prob(audio, mel).mean() / audio.shape[1]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
            losses[backend].append(loss.item())
    assert losses["cpu"][-1] < losses["cpu"][0] - 1
    # Roundings, and what training makes of them: to move the first weights by 1e-6 of themselves
    # moved the reference's own losses by up to 6e-5.
    torch.testing.assert_close(losses["cpu"], losses["reference"], atol=1e-4, rtol=0)


CALL = Call("cpu", None, torch.float32, 64, 80, 2, 1, queued=False)


@pytest.mark.parametrize(
    ("change", "automatic", "refused"),
    [
        ({}, "cpu", False),
        ({"channels": 16}, "reference", False),
        ({"dtype": torch.float64}, "reference", False),
        ({"queued": True}, "reference", False),
        ({"d_h": 4, "n_outputs": 25}, "cpu", False),
        ({"dtype": torch.bfloat16}, "cpu", False),
        ({"dtype": torch.bfloat16, "has_numba": False}, "reference", True),
        ({"dtype": torch.float16}, "reference", True),
        ({"device": "cuda", "card": Card("Tesla T4", (7, 5), True, True)}, "reference", True),
    ],
)
def test_choice(change: dict[str, object], automatic: str, refused: bool) -> None:
    call = replace(CALL, **change)  # type: ignore[arg-type]
    choice = choose(BACKENDS, call, "auto")
    assert choice.backend.name == automatic
    assert ("cpu" in choice.refusals) == (automatic != "cpu")
    if refused:
        with pytest.raises(BackendError, match="'cpu' cannot run"):
            choose(BACKENDS, call, "cpu")
    else:
        assert choose(BACKENDS, call, "cpu").backend.name == "cpu"
