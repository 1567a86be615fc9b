"""`gated_conv2d` on a CPU: Winograd's filtering along the columns of channels-last rows.

A tile's inputs and outputs lie a dilation apart, so that what the transforms add up are contiguous
runs of d_w · C numbers, and each of the products is a matrix product of (tiles × C) by (C × 2C).
The three taps along the rows add up before the products are turned into outputs. The backward pass
is the adjoint, step by step, so both of its convolutions take half of the products as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vocoder.kernels.gated_conv.cpu_bf16 import gated_conv2d_bf16
from vocoder.kernels.gated_conv.op import GatedConvWeights, cast_matrices
from vocoder.kernels.winograd import Filtering, choose_filtering

# Columns that are worked on together, in whole rows; their products take 6 MB at C = 64.
BLOCK_COLUMNS = 8192


# A compiler would unroll the work on every item and block.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def gated_conv2d_cpu(
    h: Tensor,
    cond: Tensor,
    w: GatedConvWeights,
    *,
    dilation: tuple[int, int],
    scale: float = 1.0,
    causal: bool = False,
    past: Tensor | None = None,
    recompute: bool = False,
) -> tuple[Tensor | None, Tensor]:
    """Compute `kernels.gated_conv2d`; see there. Differentiable once."""
    if h.dtype == torch.bfloat16:
        return gated_conv2d_bf16(
            h,
            cond,
            w,
            dilation=dilation,
            scale=scale,
            causal=causal,
            past=past,
            recompute=recompute,
        )
    w = cast_matrices(w, h.dtype)
    filtering = choose_filtering(h.shape[2], dilation[1], causal)
    factors = filtering.factors(w.conv.unflatten(0, (3, 3)))
    res, res_bias = w.res, w.res_bias
    if res is not None and res_bias is not None:
        factor = scale if w.gate is None else w.gate * scale
        res, res_bias = res * factor, res_bias * factor
    keep_gates = torch.is_grad_enabled() and not recompute
    h_next, y = _GatedConv.apply(  # type: ignore[no-untyped-call]
        (filtering, dilation, scale, causal, keep_gates),
        *(h, cond, past, factors, w.bias, w.cond, res, res_bias, w.out),
    )
    return h_next, y


class _GatedConv(torch.autograd.Function):
    """The op, with its taps turned into factors, and gate and scale folded into the residual."""

    @staticmethod
    def forward(
        ctx: Any,
        settings: tuple[Filtering, tuple[int, int], float, bool, bool],
        h: Tensor,
        cond: Tensor,
        past: Tensor | None,
        factors: Tensor,
        bias: Tensor,
        cond_weight: Tensor | None,
        res: Tensor | None,
        res_bias: Tensor | None,
        out: Tensor,
    ) -> tuple[Tensor | None, Tensor]:
        filtering, dilation, scale, causal, keep_gates = settings
        B, H, W, C = h.shape
        h_next = None if res is None else h.new_empty(h.shape)
        y = h.new_empty(B, H, W, out.shape[1])
        gates = h.new_empty(B, H, W, 2 * C) if keep_gates else None
        conv = _Convolution(filtering, dilation, factors, h, past, causal)
        for b in range(B):
            conv.read(b)
            for rows in conv.blocks:
                g = _gates(conv, rows, bias, cond[b, rows], cond_weight)
                if gates is not None:
                    gates[b, rows] = g
                o = (g[..., :C] * g[..., C:]).view(-1, C)
                # A product with few outputs is several times faster with these as its rows.
                y[b, rows].view(-1, y.shape[3]).t().copy_(out.t() @ o.t())
                if h_next is not None and res is not None and res_bias is not None:
                    torch.add(res_bias, h[b, rows], alpha=scale, out=h_next[b, rows])
                    h_next[b, rows].view(-1, C).addmm_(o, res)
        ctx.save_for_backward(h, cond, past, factors, bias, cond_weight, res, out, gates)
        ctx.settings = settings
        return h_next, y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh_next: Tensor | None, dy: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            return _backward(ctx, dh_next, dy)


def _backward(ctx: Any, dh_next: Tensor | None, dy: Tensor) -> tuple[Tensor | None, ...]:
    h, cond, past, factors, bias, cond_weight, res, out, gates = ctx.saved_tensors
    filtering, dilation, scale, causal, _ = ctx.settings
    B, _, _, C = h.shape
    dh, dcond = h.new_empty(h.shape), h.new_empty(cond.shape)
    dpast = None if past is None else h.new_empty(past.shape)
    dbias, dout = torch.zeros_like(bias), torch.zeros_like(out)
    dres = None if res is None else torch.zeros_like(res)
    dcond_weight = None if cond_weight is None else torch.zeros_like(cond_weight)
    conv = _Convolution(filtering, dilation, factors, h, past, causal)
    adjoint = _Adjoint(conv)
    for b in range(B):
        conv.read(b)
        adjoint.start()
        for rows in conv.blocks:
            if gates is None:
                g = _gates(conv, rows, bias, cond[b, rows], cond_weight)
            else:
                g = gates[b, rows]
            t, s = g[..., :C], g[..., C:]
            o = t * s
            flat_o, flat_dy = o.view(-1, C), dy[b, rows].reshape(-1, dy.shape[3])
            do = flat_dy @ out.t()
            dout += (flat_dy.t() @ flat_o).t()
            if dh_next is not None and res is not None and dres is not None:
                dr = dh_next[b, rows].reshape(-1, C)
                do.addmm_(dr, res.t())
                dres.addmm_(flat_o.t(), dr)
            # da = do · (s (1 − t²), t s (1 − s)) = (do · s − do · o · t, do · o − do · o · s)
            o *= do.view(o.shape)
            ds = do.view(o.shape).mul_(s)
            da = dcond[b, rows] if cond_weight is None else h.new_empty(g.shape)
            torch.addcmul(ds, o, t, value=-1, out=da[..., :C])
            torch.addcmul(o, o, s, value=-1, out=da[..., C:])
            flat_da = da.view(-1, 2 * C)
            dbias += flat_da.sum(dim=0)
            if cond_weight is not None and dcond_weight is not None:
                c = cond[b, rows].reshape(-1, cond.shape[3])
                dcond_weight.addmm_(c.t(), flat_da)
                torch.mm(flat_da, cond_weight.t(), out=dcond[b, rows].view(c.shape))
            adjoint.add(rows, da)
        dpast_rows, dh_rows = adjoint.finish()
        if dpast is not None:
            dpast[b] = dpast_rows
        if dh_next is None:
            dh[b] = dh_rows
        else:
            torch.add(dh_rows, dh_next[b], alpha=scale, out=dh[b])
    dres_bias = None if dh_next is None else dh_next.sum(dim=(0, 1, 2))
    return (
        *(None, dh, dcond, dpast, adjoint.factors, dbias),
        *(dcond_weight, dres, dres_bias, dout),
    )


def _gates(
    conv: _Convolution, rows: slice, bias: Tensor, cond: Tensor, cond_weight: Tensor | None
) -> Tensor:
    """Return tanh and sigmoid, (R, W, 2C), of some rows; valid until the next call."""
    a = conv(rows, bias)
    if cond_weight is not None:
        cond = torch.mm(cond.reshape(-1, cond.shape[2]), cond_weight).view(a.shape)
    a += cond
    t = a[..., : a.shape[2] // 2]
    t *= 2
    a.sigmoid_()
    t *= 2  # tanh(a) = 2 σ(2a) − 1: torch's σ is four times as fast as its tanh
    t -= 1
    return a


class _Convolution:
    """The dilated convolution of one item after the other.

    Args:
        filtering: along the columns.
        dilation: along rows and along columns.
        factors: (P, 3, C, 2C) for the P products of a tile and the three taps along the rows.
        h: the items (B, H, W, C).
        past: (B, 2 · d_h, W, C), the rows above them, or None.
        causal: Whether to see no column to the right.

    Attributes:
        blocks: the rows to ask for, in this order.
    """

    def __init__(
        self,
        filtering: Filtering,
        dilation: tuple[int, int],
        factors: Tensor,
        h: Tensor,
        past: Tensor | None,
        causal: bool,
    ) -> None:
        self.filtering, self.factors, self.h, self.past = filtering, factors, h, past
        self.d_h, self.d_w = dilation
        _, H, self.width, self.channels = h.shape
        # Of the inputs in x; moved a dilation on, the symmetric taps see nothing to the right.
        self.first = 2 * self.d_w if causal else self.d_w
        self.n_past = 0 if past is None else past.shape[1]
        self.n_tile_blocks = -(-self.width // (filtering.m * self.d_w))
        self.n_tiles = self.n_tile_blocks * self.d_w
        self.n_columns = self.n_tiles * filtering.m  # the width, and up to a whole tile block
        n_rows = max(1, min(H, BLOCK_COLUMNS // self.n_columns))
        self.blocks = [slice(r, min(r + n_rows, H)) for r in range(0, H, n_rows)]
        self.x = h.new_zeros(self.n_past + H, self.n_columns + 2 * self.d_w, self.channels)
        self.v = h.new_empty(filtering.n_products, (self.n_past + H) * self.n_tiles, self.channels)
        self.m = h.new_empty(filtering.n_products * n_rows * self.n_tiles * 2 * self.channels)
        self.a = h.new_empty(n_rows, self.n_columns, 2 * self.channels)
        self.output_matrix = filtering.output_matrix(h)

    def read(self, item: int) -> None:
        """Transform the inputs of an item."""
        inner = self.x[:, self.first : self.first + self.width]
        inner[self.n_past :] = self.h[item]
        if self.past is not None:
            inner[: self.n_past] = self.past[item]
        self.filtering.transform(self.windows(self.x), self.tiles(self.v))

    def __call__(self, rows: slice, bias: Tensor) -> Tensor:
        """Return the outputs (R, W, 2C) of some rows; valid until the next call."""
        m = self.products(rows)
        for j, inputs, outputs in self.taps(rows):
            if j == 2:
                torch.bmm(self.v[:, inputs], self.factors[:, j], out=m)
            else:
                m[:, outputs].baddbmm_(self.v[:, inputs], self.factors[:, j])
        m[self.filtering.ones] += bias
        a = self.a[: rows.stop - rows.start]
        products = self.tiles(m).permute(1, 2, 0, 3)
        torch.matmul(self.output_matrix, products, out=self.columns(a))
        return a[:, : self.width]

    def taps(self, rows: slice) -> Iterator[tuple[int, slice, slice]]:
        """Yield each tap along the rows that reaches a row: its index, and which tiles meet.

        The tiles are those of the inputs in `v` and those of the outputs in `products(rows)`. The
        tap of the rows themselves comes first and reaches all of them.
        """
        for j in (2, 1, 0):
            shift = self.n_past - (2 - j) * self.d_h
            first = max(rows.start, -shift)
            if first < rows.stop:
                inputs = slice((first + shift) * self.n_tiles, (rows.stop + shift) * self.n_tiles)
                yield j, inputs, slice((first - rows.start) * self.n_tiles, None)

    def products(self, rows: slice) -> Tensor:
        """Return the room for the products (P, R · tiles, 2C) of some rows."""
        shape = (self.filtering.n_products, (rows.stop - rows.start) * self.n_tiles)
        return self.m[: shape[0] * shape[1] * 2 * self.channels].view(*shape, 2 * self.channels)

    def tiles(self, products: Tensor) -> Tensor:
        """View products (P, R · tiles, N) as (P, R, tile blocks, d_w · N)."""
        P, _, N = products.shape
        return products.view(P, -1, self.n_tile_blocks, self.d_w * N)

    def columns(self, a: Tensor) -> Tensor:
        """View outputs (R, columns, N) as (R, tile blocks, outputs of a tile, d_w · N)."""
        R, _, N = a.shape
        return a.view(R, self.n_tile_blocks, self.filtering.m, self.d_w * N)

    def windows(self, x: Tensor) -> Tensor:
        """View x (R, d_w + columns + d_w, C) as what tiles read: (P, R, tile blocks, d_w · C).

        With one product, that of the tap at the output's own column, the input lies there too.
        """
        m, run, own = self.filtering.m, self.d_w * self.channels, self.first * self.channels
        shape = (self.filtering.n_products, x.shape[0], self.n_tile_blocks, run)
        return x.as_strided(shape, (run, x.stride(0), m * run, 1), own if m == 1 else 0)


class _Adjoint:
    """The backward pass of a `_Convolution`, an item after the other.

    Attributes:
        factors: the gradient by the factors, summed over all items.
    """

    def __init__(self, conv: _Convolution) -> None:
        self.conv = conv
        by_tap = conv.factors.transpose(0, 1)  # so that those of one tap are a batch of matrices
        self.factors = by_tap.new_zeros(by_tap.shape).transpose(0, 1)
        self.v = torch.empty_like(conv.v)
        self.a = torch.zeros_like(conv.a)
        identity = torch.eye(conv.filtering.n_products, dtype=conv.h.dtype)
        input_matrix = torch.empty_like(identity)
        conv.filtering.transform(identity, input_matrix)
        self.input_matrix = input_matrix.t()

    def start(self) -> None:
        """Begin an item, which the convolution has read."""
        self.v[:, : self.conv.n_past * self.conv.n_tiles] = 0  # nothing else fills these first

    def add(self, rows: slice, da: Tensor) -> None:
        """Take the gradient (R, W, 2C) by the outputs of a block of rows, in the blocks' order."""
        conv = self.conv
        a, m = self.a[: da.shape[0]], conv.products(rows)
        a[:, : conv.width] = da
        outputs_first = conv.columns(a).permute(2, 0, 1, 3).reshape(conv.filtering.m, -1)
        torch.mm(conv.output_matrix.t(), outputs_first, out=m.view(m.shape[0], -1))
        for j, inputs, outputs in conv.taps(rows):
            dm = m[:, outputs]
            self.factors[:, j].baddbmm_(conv.v[:, inputs].transpose(1, 2), dm)
            back = conv.factors[:, j].transpose(1, 2)
            if j == 2:
                torch.bmm(dm, back, out=self.v[:, inputs])
            else:
                self.v[:, inputs].baddbmm_(dm, back)

    def finish(self) -> tuple[Tensor, Tensor]:
        """Return the gradients by the item's past rows (2 · d_h, W, C) and rows (H, W, C)."""
        conv = self.conv
        x = torch.zeros_like(conv.x)
        dx = conv.tiles((self.input_matrix @ self.v.flatten(1)).view(self.v.shape))
        for window, part in zip(conv.windows(x), dx, strict=True):
            window += part
        inner = x[:, conv.first : conv.first + conv.width]
        return inner[: conv.n_past], inner[conv.n_past :]
