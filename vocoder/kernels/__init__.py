"""The ops that take the time, each defined by a reference in plain torch.

`with kernels.use("reference"):` asks for a backend; the variable VOCODER_BACKEND does so too.
"""

from __future__ import annotations

from vocoder.kernels.dispatch import BackendError, use
from vocoder.kernels.gated_conv.op import GatedConvWeights, gated_conv2d, pack_gated_conv

__all__ = ["BackendError", "GatedConvWeights", "gated_conv2d", "pack_gated_conv", "use"]
