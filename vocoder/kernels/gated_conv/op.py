"""One layer of the WaveNet over rows, as one op: contract, packing, and reference in plain torch.

Inside the network everything is channels last, (B, H, W, C): a tap of the 3 × 3 convolution is
then a plain matrix of (columns × channels) for every dilation. Source of the layer: WaveFlow
(ICML 2020), §3.2, and NanoFlow (NeurIPS 2020), §3.3.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vocoder.errors import VocoderError
from vocoder.kernels.card import find_card
from vocoder.kernels.dispatch import choose, log_choice, requested
from vocoder.kernels.gated_conv.backends import BACKENDS, Call


@dataclass(frozen=True)
class GatedConvWeights:
    """The weights of one layer in one flow, packed for the op.

    Matrices map from their first axis to their last. `conv`, `cond` and `res` are cast to the type
    of the activations inside the op, so that their gradients keep their own; the others are at
    least float32 and stay so.

    Args:
        conv: (9, C, 2C); tap 3 · j + k reads the row (2 − j) · d_h above and the column
            (k − 1) · d_w to the right; output channels are the tanh half, then the sigmoid half.
        bias: (2C,): of the convolution and of the conditioning, plus the flow's shift.
        cond: (M, 2C), or None where the conditioning comes projected.
        res: (C, C), or None in the last layer, whose h_next nobody reads.
        res_bias: (C,), or None where `res` is.
        gate: (C,), factor of the residual; None is 1.
        out: (C, n): the skip path and the head in one, which nothing nonlinear separates.
    """

    conv: Tensor
    bias: Tensor
    cond: Tensor | None
    res: Tensor | None
    res_bias: Tensor | None
    gate: Tensor | None
    out: Tensor


@dataclass(frozen=True)
class SharedWeights:
    """What the flows that share a layer have in common, packed once for all of them.

    Args:
        conv: Matrices of the convolution; all but the skips are as in `GatedConvWeights`.
        bias: Bias of the convolution and of the conditioning, without a flow's shift.
        cond: the projection of the conditioning.
        res: the residual half of the 1 × 1 convolution.
        res_bias: Bias of the residual half.
        skip: (C, C), the skip half of the 1 × 1 convolution.
        skip_bias: (C,), its bias.
    """

    conv: Tensor
    bias: Tensor
    cond: Tensor
    res: Tensor | None
    res_bias: Tensor | None
    skip: Tensor
    skip_bias: Tensor

    def for_flow(
        self,
        head: Tensor,
        shift: Tensor | None = None,
        gate: Tensor | None = None,
        *,
        projected: bool = False,
    ) -> GatedConvWeights:
        """Return the weights of one flow.

        Args:
            head: (C, n), the projection of the skips to the transform's parameters.
            shift: (2C,), added to the pre-activation (the flow embedding).
            gate: (C,), factor of the residual.
            projected: the conditioning will come projected.
        """
        return GatedConvWeights(
            conv=self.conv,
            bias=self.bias if shift is None else self.bias + wide(shift),
            cond=None if projected else self.cond,
            res=self.res,
            res_bias=self.res_bias,
            gate=None if gate is None or self.res is None else wide(gate),
            out=self.skip @ wide(head),
        )


def pack_gated_conv(
    conv: Tensor,
    bias: Tensor,
    cond: Tensor,
    res_skip: Tensor,
    res_skip_bias: Tensor,
    *,
    last: bool = False,
) -> SharedWeights:
    """Pack a layer's parameters, as torch's convolutions keep them; ordinary differentiable torch.

    Args:
        conv: (2C, C, 3, 3).
        bias: (2C,), of `conv` and of `cond` together.
        cond: (2C, M, 1, 1).
        res_skip: (2C, C, 1, 1), the residual half first.
        res_skip_bias: Bias (2C,) of `res_skip`.
        last: Whether to leave the residual half out.
    """
    C = conv.shape[1]
    matrix, constant = res_skip[:, :, 0, 0].t(), wide(res_skip_bias)
    return SharedWeights(
        conv=conv.permute(2, 3, 1, 0).reshape(9, C, 2 * C),
        bias=wide(bias),
        cond=cond[:, :, 0, 0].t().contiguous(),
        res=None if last else matrix[:, :C].contiguous(),
        res_bias=None if last else constant[:C],
        skip=wide(matrix[:, C:]),
        skip_bias=constant[C:],
    )


def wide(tensor: Tensor) -> Tensor:
    """Return a 16-bit tensor in float32, any other as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def cast_matrices(w: GatedConvWeights, dtype: torch.dtype) -> GatedConvWeights:
    """Return the weights with the matrices that meet activations in the activations' type."""
    return replace(
        w,
        conv=w.conv.to(dtype),
        cond=None if w.cond is None else w.cond.to(dtype),
        res=None if w.res is None else w.res.to(dtype),
    )


def gated_conv2d(
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
    """Compute one gated layer, on the backend asked for (`kernels.use`) or the fastest that can.

    With the convolution a = bias + cond (projected) + Σ_jk conv[3j + k] · h(row − (2 − j) · d_h,
    column + (k − 1) · d_w), or where it is `causal` column + (k − 2) · d_w, zero outside the
    columns and above the first row:

        o      = tanh(a[..C]) · sigmoid(a[C..])
        h_next = (h + gate · (o @ res + res_bias)) · scale
        y      = o @ out

    Under autocast the activations are cast, and with them the matrices that they meet; biases,
    gate, `out` and y stay float32.

    Args:
        h: (B, H, W, C).
        cond: (B, H, W, M) where `w.cond` is set, otherwise (B, H, W, 2C).
        w: The packed weights of the layer.
        dilation: Dilation along rows (d_h) and along columns (d_w).
        scale: Factor of h_next, such as √½.
        causal: Whether to see no column to the right.
        past: (B, 2 · d_h, W, C), the rows above the first; None: zeros. With it a queue of rows
            feeds one row at a time.
        recompute: Whether to keep no pre-activation for the backward pass, but compute it again; a
            third more arithmetic for a third of the memory. The reference leaves that to
            checkpointing.

    Returns:
        h_next (B, H, W, C), of h's type, or None where `w.res` is; and y (B, H, W, n), of
        `w.out`'s type. The sum of y over the layers and its constant are the caller's.

    Raises:
        VocoderError: Shapes, types or devices that do not fit; the line names the argument.
        BackendError: The backend that was asked for cannot compute this call.
    """
    device = h.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        h, cond = h.to(dtype), cond.to(dtype)
        past = None if past is None else past.to(dtype)
    check(h, cond, w, dilation, past)
    name = _load_backend(
        device=device,
        index=h.device.index,
        dtype=h.dtype,
        channels=h.shape[3],
        n_mels=0 if w.cond is None else w.cond.shape[0],
        n_outputs=w.out.shape[1],
        d_h=dilation[0],
        causal=causal,
        queued=past is not None,
        wanted=requested(),
    )
    with torch.autocast(device, enabled=False):
        return _LOADED[name](
            h,
            cond,
            w,
            dilation=dilation,
            scale=scale,
            causal=causal,
            past=past,
            recompute=recompute,
        )


def gated_conv2d_reference(
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
    """Define `gated_conv2d`, in plain torch, for any float type; see there."""
    C = h.shape[3]
    d_h, d_w = dilation
    w = cast_matrices(w, h.dtype)
    rows = F.pad(h, (0, 0, 0, 0, 2 * d_h, 0)) if past is None else torch.cat([past, h], dim=1)
    if causal:
        rows = F.pad(rows, (0, 0, 2 * d_w, 0))
    a = F.conv2d(
        rows.permute(0, 3, 1, 2),
        w.conv.unflatten(0, (3, 3)).permute(3, 2, 0, 1),
        padding=(0, 0 if causal else d_w),
        dilation=dilation,
    ).permute(0, 2, 3, 1)
    a = a + (cond if w.cond is None else cond @ w.cond) + w.bias
    o = a[..., :C].tanh() * a[..., C:].sigmoid()
    y = o @ w.out
    if w.res is None or w.res_bias is None:
        return None, y
    r = o.to(h.dtype) @ w.res + w.res_bias
    if w.gate is not None:
        r = r * w.gate
    h_next = h + r if scale == 1.0 else (h + r) * scale
    return h_next.to(h.dtype).contiguous(), y


def check(
    h: Tensor, cond: Tensor, w: GatedConvWeights, dilation: tuple[int, int], past: Tensor | None
) -> None:
    """Refuse arguments that do not fit each other.

    Raises:
        VocoderError: the line names the argument, what it got and what to give.
    """
    if h.ndim != 4 or not h.is_floating_point():
        raise VocoderError(f"h is {tuple(h.shape)} of {h.dtype}; give floats (B, H, W, C)")
    if min(dilation) < 1:
        raise VocoderError(f"dilation {dilation}: give a pair (rows, columns) of at least 1")
    B, H, W, C = h.shape
    n_bands = 2 * C if w.cond is None else w.cond.shape[0]
    rows = 2 * dilation[0]
    shapes: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("cond", cond, (B, H, W, n_bands)),
        ("past", past, (B, rows, W, C)),
        ("w.conv", w.conv, (9, C, 2 * C)),
        ("w.cond", w.cond, (n_bands, 2 * C)),
        ("w.res", w.res, (C, C)),
        ("w.bias", w.bias, (2 * C,)),
        ("w.res_bias", w.res_bias, (C,)),
        ("w.gate", w.gate, (C,)),
        ("w.out", w.out, (C, w.out.shape[-1])),
    ]
    for name, tensor, shape in shapes:
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise VocoderError(f"{name} is {tuple(tensor.shape)}; give {shape}")
        if tensor.device != h.device:
            raise VocoderError(f"{name} is on {tensor.device}; give it on {h.device}, as h")
    for name, tensor, _ in shapes[:2]:
        if tensor is not None and tensor.dtype != h.dtype:
            raise VocoderError(f"{name} is {tensor.dtype}; give {h.dtype}, as h")
    if (w.res is None) != (w.res_bias is None):
        raise VocoderError("w.res and w.res_bias: give both, or neither in the last layer")


_LOADED: dict[str, Callable[..., tuple[Tensor | None, Tensor]]] = {}


def _load_backend(
    device: str,
    index: int | None,
    dtype: torch.dtype,
    channels: int,
    n_mels: int,
    n_outputs: int,
    d_h: int,
    causal: bool,
    queued: bool,
    wanted: str,
) -> str:
    """Return the backend's name, its function loaded; constant while torch.compile traces.

    The name and not the function, which torch.compile cannot guard where it comes from nowhere.
    """
    call = Call(
        device=device,
        card=find_card(device, index),
        dtype=dtype,
        channels=channels,
        n_mels=n_mels,
        n_outputs=n_outputs,
        d_h=d_h,
        causal=causal,
        queued=queued,
        has_numba=importlib.util.find_spec("numba") is not None,
    )
    choice = choose(BACKENDS, call, wanted)
    log_choice("gated_conv2d", choice.backend.name, choice.refusals)
    _LOADED[choice.backend.name] = choice.backend.load()
    return choice.backend.name


# What torch.compiler.assume_constant_result does; that imports the whole compiler, for seconds.
_load_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]
