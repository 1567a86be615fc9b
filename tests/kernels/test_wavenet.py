"""The WaveNet of couplings on a CPU computes what `WaveNet1d` computes."""

from __future__ import annotations

import pytest
import torch
from helpers import perturb
from torch import Tensor

from vocoder.kernels.wavenet import CpuWaveNet
from vocoder.nets.wavenet1d import WaveNet1d

C, N_COND = 5, 7
# Dilations, scale, and columns: one, odd, fewer than a dilation, several blocks of columns.
CASES = [
    ((1, 2, 4, 8), 1.0, 1),
    ((1, 2, 4, 8), 1.0, 37),
    ((1, 2, 4, 8), 0.5**0.5, 300),
    ((1, 3, 9), 1.0, 8),
    ((16, 1), 1.0, 1500),
    ((2,), 1.0, 40),
]


@pytest.fixture(params=[0, 128], ids=["winograd", "direct"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolve by either way, whatever the channels."""
    monkeypatch.setattr("vocoder.kernels.wavenet.NARROW", request.param)
    monkeypatch.setattr("vocoder.kernels.wavenet.COLUMNS", 256)  # so that there are several pieces


each_way = pytest.mark.usefixtures("way")


def reference(dilations: tuple[int, ...], scale: float, whole_last: bool) -> WaveNet1d:
    torch.manual_seed(0)
    net = perturb(WaveNet1d(C, N_COND, dilations, scale=scale, whole_last=whole_last), size=0.2)
    for module in net.modules():
        if hasattr(module, "parametrizations"):
            torch.nn.utils.parametrize.remove_parametrizations(module, "weight")
    return net.double()


def packed(net: WaveNet1d, front: Tensor | None = None) -> CpuWaveNet:
    return net.pack(net.cond.weight[..., 0].t(), net.cond.bias, front=front)


@pytest.mark.parametrize(("dilations", "scale", "n"), CASES)
@pytest.mark.parametrize("opened", [False, True])
@each_way
@torch.no_grad()
def test_it_is_the_net(dilations: tuple[int, ...], scale: float, n: int, opened: bool) -> None:
    net = reference(dilations, scale, whole_last=opened)
    h, cond = torch.randn(n, C).double(), torch.randn(n, N_COND).double()
    x, front = h, None
    if opened:
        front = torch.randn(3, C).double()
        x = torch.cat([torch.randn(n, 2), torch.ones(n, 1)], dim=1).double()
        h = x @ front
    expected = net(h.t()[None], cond.t()[None])[0].t()
    torch.testing.assert_close(packed(net, front)(x, cond), expected)


@pytest.mark.parametrize(("left", "right"), [(15, 15), (20, 0), (3, 17), (0, 0)])
@each_way
@torch.no_grad()
def test_a_window_needs_no_more_than_the_reach(left: int, right: int) -> None:
    net = reference((1, 2, 4, 8), 1.0, whole_last=False)
    fast = packed(net)
    assert fast.reach == 15
    h, cond = torch.randn(200, C).double(), torch.randn(200, N_COND).double()
    whole = fast(h, cond)
    # Where less than the reach is seen, nothing lies beyond.
    start = 0 if left < 15 else 40
    stop = 200 if right < 15 else 160
    piece = fast(h[start:stop], cond[start:stop], left, right)
    torch.testing.assert_close(piece, whole[start + left : stop - right])
