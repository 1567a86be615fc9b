"""Awkward sizes of the layer op, for the tests of all its backends."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from vocoder.kernels import GatedConvWeights, gated_conv2d, use


@dataclass(frozen=True)
class Case:
    """One layer: size (B, H, W), and what is there of it."""

    size: tuple[int, int, int]
    channels: int = 3
    n_mels: int = 5
    n_outputs: int = 2
    dilation: tuple[int, int] = (1, 1)
    scale: float = 1.0
    projected: bool = False
    gated: bool = True
    last: bool = False
    causal: bool = False
    strided: bool = False  # h and cond are views with other strides

    def __str__(self) -> str:
        B, H, W = self.size
        words = [
            word
            for word in ("projected", "gated", "last", "causal", "strided")
            if getattr(self, word)
        ]
        return "-".join([f"{B}x{H}x{W}", "d{}x{}".format(*self.dilation), *words])


CASES = [
    Case((2, 4, 21)),
    Case((1, 1, 1), gated=False, scale=0.5**0.5),
    Case((1, 3, 9), dilation=(1, 2), projected=True),
    Case((2, 3, 5), dilation=(1, 8), last=True),  # the side taps fall outside everywhere
    Case((1, 5, 7), dilation=(2, 3), n_outputs=25, strided=True),
    Case((1, 2, 4), dilation=(4, 1), scale=0.5**0.5, projected=True, gated=False),
    Case((2, 4, 21), dilation=(1, 2), causal=True),
    Case((1, 3, 5), dilation=(2, 8), causal=True, last=True),  # the other taps fall outside
]


def random_layer(case: Case, seed: int = 0) -> tuple[Tensor, Tensor, GatedConvWeights]:
    """Return h, cond and weights in float64, of a size that leaves the gates unsaturated."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, size: float = 1.0) -> Tensor:
        return size * torch.randn(shape, generator=generator, dtype=torch.float64)

    (B, H, W), C, M, n = case.size, case.channels, case.n_mels, case.n_outputs
    n_bands = 2 * C if case.projected else M
    if case.strided:
        h, cond = random(B, C, H, W).permute(0, 2, 3, 1), random(B, H, W, 2 * n_bands)[..., ::2]
    else:
        h, cond = random(B, H, W, C), random(B, H, W, n_bands)
    weights = GatedConvWeights(
        conv=random(9, C, 2 * C, size=(9 * C) ** -0.5),
        bias=random(2 * C),
        cond=None if case.projected else random(M, 2 * C, size=M**-0.5),
        res=None if case.last else random(C, C, size=C**-0.5),
        res_bias=None if case.last else random(C),
        gate=random(C) if case.gated and not case.last else None,
        out=random(C, n, size=C**-0.5),
    )
    return h, cond, weights


def random_past(case: Case) -> Tensor:
    """Return the rows above the first, in float64."""
    (B, _, W), (d_h, _) = case.size, case.dilation
    return torch.randn(B, 2 * d_h, W, case.channels, dtype=torch.float64)


def outputs_and_gradients(
    backend: str,
    case: Case,
    h: Tensor,
    cond: Tensor,
    w: GatedConvWeights,
    past: Tensor | None = None,
    *,
    recompute: bool = False,
) -> dict[str, Tensor]:
    """Return the outputs, and the gradients of a random sum of them by every input."""
    weights = {f.name: getattr(w, f.name) for f in fields(w) if getattr(w, f.name) is not None}
    inputs = {"h": h, "cond": cond, **{f"w.{name}": t for name, t in weights.items()}}
    if past is not None:
        inputs["past"] = past
    inputs = {name: t.detach().clone().requires_grad_() for name, t in inputs.items()}
    with use(backend):
        h_next, y = gated_conv2d(
            inputs["h"],
            inputs["cond"],
            replace(w, **{name: inputs[f"w.{name}"] for name in weights}),
            dilation=case.dilation,
            scale=case.scale,
            causal=case.causal,
            past=inputs.get("past"),
            recompute=recompute,
        )
    assert (h_next is None) == case.last
    outputs = {"y": y} if h_next is None else {"y": y, "h_next": h_next}
    generator = torch.Generator().manual_seed(1)
    weighted = [
        (t * torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype)).sum()
        for t in outputs.values()
    ]
    gradients = torch.autograd.grad(sum(weighted), list(inputs.values()))
    return {name: t.detach() for name, t in outputs.items()} | {
        f"gradient by {name}": t for name, t in zip(inputs, gradients, strict=True)
    }
