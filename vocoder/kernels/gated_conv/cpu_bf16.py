"""`gated_conv2d` in bfloat16 on a CPU: oneDNN's convolutions, and one loop between two products.

Where the processor multiplies bfloat16, products are so cheap that Winograd's transforms, which are
passes over memory, would cost more than they save. The convolution and both of its gradients sum in
float32; what is kept or handed on is rounded once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vocoder.kernels.gated_conv import cpu_passes as passes
from vocoder.kernels.gated_conv.op import GatedConvWeights

# Columns that are worked on together, in whole items: a call's own time is that of some hundred
# columns, and what many items take at once no cache would hold.
BLOCK_COLUMNS = 16384


def gated_conv2d_bf16(
    h: Tensor,
    cond: Tensor,
    w: GatedConvWeights,
    *,
    dilation: tuple[int, int],
    scale: float,
    causal: bool,
    past: Tensor | None,
    recompute: bool,
) -> tuple[Tensor | None, Tensor]:
    """Compute `kernels.gated_conv2d` in bfloat16; see there. Differentiable once."""
    C = h.shape[3]
    # As torch's convolutions take them, channels last: (2C, 3, 3, C) in memory.
    taps = w.conv.view(3, 3, C, 2 * C).permute(3, 0, 1, 2).to(h.dtype).contiguous()
    res, res_bias = w.res, w.res_bias
    if res is not None and res_bias is not None:
        factor = scale if w.gate is None else w.gate * scale
        res, res_bias = (res * factor).to(h.dtype), res_bias * factor
    cond_weight = None if w.cond is None else w.cond.to(h.dtype)
    keep_gates = torch.is_grad_enabled() and not recompute
    h_next, y = _GatedConv.apply(  # type: ignore[no-untyped-call]
        (dilation, scale, causal, keep_gates),
        *(h.contiguous(), cond.contiguous(), past, taps.permute(0, 3, 1, 2)),
        *(w.bias, cond_weight, res, res_bias, w.out),
    )
    return h_next, y


class _GatedConv(torch.autograd.Function):
    """The op, with gate and scale folded into the residual."""

    @staticmethod
    def forward(
        ctx: Any,
        settings: tuple[tuple[int, int], float, bool, bool],
        h: Tensor,
        cond: Tensor,
        past: Tensor | None,
        taps: Tensor,
        bias: Tensor,
        cond_weight: Tensor | None,
        res: Tensor | None,
        res_bias: Tensor | None,
        out: Tensor,
    ) -> tuple[Tensor | None, Tensor]:
        dilation, scale, causal, keep_gates = settings
        B, H, W, C = h.shape
        h_next = None if res is None else torch.empty_like(h)
        y = out.new_empty(B, H, W, out.shape[1])
        gates = h.new_empty(B, H, W, 2 * C) if keep_gates else None
        conv = _Convolution(dilation, taps, causal)
        for items in _blocks(h):
            x = conv.padded(h[items], None if past is None else past[items])
            given = None if gates is None else gates[items]
            _, o = _gates(conv(x), bias, cond[items], cond_weight, given)
            torch.mm(o.to(out.dtype), out, out=y[items].view(-1, out.shape[1]))
            if h_next is not None and res is not None and res_bias is not None:
                passes.add(h[items], scale, o @ res, res_bias, h_next[items])
        ctx.save_for_backward(h, cond, past, taps, bias, cond_weight, res, out, gates)
        ctx.settings = settings
        return h_next, y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh_next: Tensor | None, dy: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            return _backward(ctx, dh_next, dy)


def _backward(ctx: Any, dh_next: Tensor | None, dy: Tensor) -> tuple[Tensor | None, ...]:
    h, cond, past, taps, bias, cond_weight, res, out, gates = ctx.saved_tensors
    dilation, scale, causal, _ = ctx.settings
    C = h.shape[3]
    dh_next = None if dh_next is None else dh_next.contiguous()
    dh = torch.empty_like(h)
    dcond = None if cond_weight is None else torch.empty_like(cond)
    dpast = None if past is None else torch.empty_like(past)
    dtaps, dbias, dout = (_sum_for(weight) for weight in (taps, bias, out))
    dcond_weight, dres = (None if x is None else _sum_for(x) for x in (cond_weight, res))
    dres_bias = None if res is None else _sum_for(bias[:C])
    out_t, no_bias = out.t().to(h.dtype), torch.zeros_like(bias[:C])
    conv = _Convolution(dilation, taps, causal)
    adjoint = _Adjoint(conv, h, past)
    for items in _blocks(h):
        x = conv.padded(h[items], None if past is None else past[items])
        if gates is None:
            g, _ = _gates(conv(x), bias, cond[items], cond_weight)
        else:
            g = gates[items]
        flat_dy = dy[items].reshape(-1, dy.shape[3]).to(h.dtype)
        do = flat_dy @ out_t
        if dh_next is not None and res is not None:
            dr = dh_next[items].view(-1, C)
            do.addmm_(dr, res.t())
        o = torch.empty_like(do)
        da = adjoint.gates(items, do, g, o, dbias)
        # Products over all columns are several times faster with the longer side first.
        dout += (flat_dy.t() @ o).t()
        if dh_next is not None and dres is not None and dres_bias is not None:
            dres += (dr.t() @ o).t()
            dres_bias += dr.new_ones(1, len(dr)).mm(dr)[0]
        if cond_weight is not None and dcond is not None:
            flat_da, c = da.reshape(-1, 2 * C), cond[items].view(-1, cond.shape[3])
            dcond_weight += (flat_da.t() @ c).t()
            torch.mm(flat_da, cond_weight.t(), out=dcond[items].view(c.shape))
        dtaps += adjoint.taps(items, x)
        dx = adjoint.inputs(items)
        if dpast is not None:
            dpast[items], dx = dx[:, : past.shape[1]], dx[:, past.shape[1] :].contiguous()
        if dh_next is None:
            dh[items] = dx
        else:
            passes.add(dh_next[items], scale, dx, no_bias, dh[items])
    dcond = adjoint.da if dcond is None else dcond
    return None, dh, dcond, dpast, dtaps, dbias, dcond_weight, dres, dres_bias, dout


def _blocks(h: Tensor) -> list[slice]:
    """Return which items are worked on together."""
    n = max(1, BLOCK_COLUMNS // (h.shape[1] * h.shape[2]))
    return [slice(first, min(first + n, len(h))) for first in range(0, len(h), n)]


def _sum_for(weight: Tensor) -> Tensor:
    """Return a zero to which the gradients of a weight are added, at least in float32."""
    return torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))


def _gates(
    a: Tensor,
    bias: Tensor,
    cond: Tensor,
    cond_weight: Tensor | None,
    gates: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return tanh and sigmoid (n, H, W, 2C), in `gates` if given, and o (n · H · W, C)."""
    if cond_weight is not None:
        cond = (cond.view(-1, cond.shape[3]) @ cond_weight).view(a.shape)
    if gates is None:
        gates = torch.empty_like(a)
    o = a.new_empty(a.numel() // a.shape[3], a.shape[3] // 2)
    passes.gate(a, cond, bias, gates, o)
    return gates, o


class _Convolution:
    """The dilated convolution.

    Args:
        dilation: along rows and along columns.
        taps: (2C, C, 3, 3), channels last.
        causal: Whether to see no column to the right.

    Attributes:
        above: rows of padding above the first.
        left: columns of padding to the left, beside those that torch adds to both sides.
        padding: those, along rows and along columns.
    """

    def __init__(self, dilation: tuple[int, int], taps: Tensor, causal: bool) -> None:
        self.dilation, self.kernel = dilation, taps
        self.above, self.left = 2 * dilation[0], 2 * dilation[1] if causal else 0
        self.padding = (0, 0 if causal else dilation[1])

    def padded(self, h: Tensor, past: Tensor | None) -> Tensor:
        """Return rows (n, H, W, C) with all that they see, (n, above + H, left + W, C)."""
        n, H, W, C = h.shape
        x = h.new_empty(n, self.above + H, self.left + W, C)
        x[:, :, : self.left] = 0
        inner = x[:, :, self.left :]
        inner[:, : self.above] = 0 if past is None else past
        inner[:, self.above :] = h
        return x

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs (n, H, W, 2C) of padded rows."""
        return self.convolve(x, self.kernel)

    def convolve(self, x: Tensor, taps: Tensor) -> Tensor:
        """Return the convolution of padded rows with any taps."""
        image = F.conv2d(_as_image(x), taps, padding=self.padding, dilation=self.dilation)
        return image.permute(0, 2, 3, 1)


class _Adjoint:
    """The backward pass of a `_Convolution`.

    Args:
        conv: The convolution.
        h: All items (B, H, W, C).
        past: The rows above them, or None.

    Attributes:
        da: the gradient (B, H, W, 2C) by the outputs.
    """

    def __init__(self, conv: _Convolution, h: Tensor, past: Tensor | None) -> None:
        self.conv = conv
        B, H, W, C = h.shape
        above = 0 if past is None else conv.above
        # An input is seen by the rows below it, and by the columns to its right.
        self.padded = h.new_empty(B, above + H + conv.above, W + conv.left, 2 * C)
        self.da = self.padded[:, above : above + H, :W]
        self.padded[:, :above] = 0
        self.padded[:, above + H :] = 0
        self.padded[:, :, W:] = 0
        self.flipped = conv.kernel.permute(1, 2, 3, 0).flip(1, 2).contiguous().permute(0, 3, 1, 2)

    def gates(self, items: slice, do: Tensor, gates: Tensor, o: Tensor, dbias: Tensor) -> Tensor:
        """Write the gradient by the outputs of some items, and return it.

        Args:
            items: which of all the items.
            do: (n · H · W, C), the gradient by t · s.
            gates: (n, H, W, 2C), t and s.
            o: (n · H · W, C), becomes t · s.
            dbias: (2C,), to which the gradient by the bias is added.
        """
        da, n = self.da[items], len(gates)
        for room, *others in zip(da, do.chunk(n), gates, o.chunk(n), strict=True):
            own = room if room.is_contiguous() else torch.empty_like(others[1])
            passes.gate_gradient(others[0], others[1], own, others[2], dbias)
            if own is not room:
                room.copy_(own)
        return da

    def taps(self, items: slice, x: Tensor) -> Tensor:
        """Return the gradient by the taps, summed over some items, whose padded rows are x."""
        conv = self.conv
        _, by_taps, _ = torch.ops.aten.convolution_backward(
            *(_as_image(self.da[items]), _as_image(x), conv.kernel, None),
            *([1, 1], conv.padding, conv.dilation, False, [0, 0], 1, [False, True, False]),
        )
        return by_taps

    def inputs(self, items: slice) -> Tensor:
        """Return the gradient by the rows of some items, those above them first if there are."""
        return self.conv.convolve(self.padded[items], self.flipped)


def _as_image(rows: Tensor) -> Tensor:
    """View rows (n, H, W, C) as torch's convolutions take them, (n, C, H, W)."""
    return rows.permute(0, 3, 1, 2)
