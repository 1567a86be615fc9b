"""mAR-SCF: normalizing flows with multi-scale autoregressive priors (CVPR 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from vocoder.errors import VocoderError
from vocoder.flows.coupling import CouplingEstimator
from vocoder.flows.elementwise import Elementwise, SigmoidAffine
from vocoder.flows.mixlogcdf import MixLogCdf
from vocoder.flows.multiscale import FlowStep, level_shapes
from vocoder.models.families.image_flow import SCALE_FLOOR, ImageFlow, ImageFlowConfig
from vocoder.models.families.sizes import check_sizes
from vocoder.nets.channel_prior import channel_priors
from vocoder.nets.convnet2d import ConvEstimator, ConvNet2d, ZeroConv2d
from vocoder.nets.gatednet2d import GatedNet2d
from vocoder.registry import register_model

MIN_LOG_SCALE = -5.0  # of the logistics


@dataclass(frozen=True)
class MarScfConfig(ImageFlowConfig):
    """mAR-SCF: autoregressive priors over the channels that leave at each level.

    Beside the differences of `ImageFlowConfig`:

    ==================  ===================================  ======================================
    part                parity                               default
    ==================  ===================================  ======================================
    ConvLSTM            two biases for each gate, all        one bias; weights by their fan-in,
                        weights U(±1/√channels)              forget bias 1
    prior's moments     start anywhere, log_std unbounded    eps = z at first, log_std within ±7
    top prior           an embedding of nothing: dead        none
    mixture network     starts anywhere; a direction of one  starts at zero, which is the identity;
                        number beside each rescaling: dead   the rescaling alone
    logistics           scale at least exp(-7)               at least exp(-5), so that the inverse
                                                             is well defined in single precision
    ==================  ===================================  ======================================

    The images are those of all models, k/256 - 0.5 before dequantisation, not the published k/255.
    """

    # "affine": as in Glow, with the shift after the scale; "mixlogcdf": as in Flow++, mixtures of
    # logistics by gated convolutions and attention.
    coupling: Literal["affine", "mixlogcdf"] = "affine"
    n_components: int = 32  # K of each mixture
    n_blocks: int = 10  # of the mixtures' networks
    dropout: float = 0.2  # in the mixtures' networks
    prior_channels: int = 32  # hidden channels of the ConvLSTM
    prior_layers: int = 3
    # Of the first, second, ... level; the last one serves all that follow.
    prior_kernel_sizes: tuple[int, ...] = (5, 5, 3)
    prior_dilations: tuple[int, ...] = (2, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "n_components", "n_blocks", "prior_channels", "prior_layers")
        if not 0 <= self.dropout < 1:
            raise VocoderError(f"dropout must be in [0, 1), got {self.dropout}")
        sizes, dilations = self.prior_kernel_sizes, self.prior_dilations
        if not sizes or any(size < 1 or size % 2 == 0 for size in sizes):
            raise VocoderError(f"prior_kernel_sizes must be odd, got {sizes}")
        if not dilations or min(dilations) < 1:
            raise VocoderError(f"prior_dilations must be at least 1, got {dilations}")
        if self.coupling == "mixlogcdf" and self.channels % 4:
            raise VocoderError(
                f"channels must be a multiple of 4 for mixlogcdf (attention heads), "
                f"got {self.channels}"
            )


@register_model("marscf", MarScfConfig)
class MarScf(ImageFlow):
    """Steps of flow, each with a network of its own, under autoregressive priors."""

    config: MarScfConfig

    def __init__(self, config: MarScfConfig) -> None:
        shapes = level_shapes(config.image_shape, config.n_levels)
        super().__init__(
            config,
            [
                [
                    FlowStep(shape.channels, _transform(config), config.parity)
                    for _ in range(config.n_steps)
                ]
                for shape in shapes
            ],
            channel_priors(
                shapes,
                channels=config.prior_channels,
                n_layers=config.prior_layers,
                kernel_sizes=config.prior_kernel_sizes,
                dilations=config.prior_dilations,
                parity=config.parity,
            ),
        )
        self.nets = nn.ModuleList(
            nn.ModuleList(_net(config, shape.channels // 2) for _ in range(config.n_steps))
            for shape in shapes
        )

    @property
    def gains_from_bf16_on_cpu(self) -> bool:
        """Whether affine couplings do; mixtures of logistics took twice as long in bf16."""
        return self.config.coupling == "affine" and self.config.convolutions_gain_from_bf16

    def estimators(self) -> list[list[CouplingEstimator]]:
        """Return the estimator of every step of every level."""
        return [list(cast("nn.ModuleList", level)) for level in self.nets]  # type: ignore[arg-type]


class AffineNet(nn.Module):
    """Glow's network and head as one module.

    Args:
        in_channels: Channels of the half that conditions and of the one that is transformed.
        channels: Number of hidden channels.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.net = ConvNet2d(in_channels, channels, (3, 1))
        self.head = ZeroConv2d(channels, 2 * in_channels, 3)

    def forward(self, half: Tensor) -> Tensor:
        """Map (B, c, H, W) to parameters (B, 2, c, H, W)."""
        return ConvEstimator(self.net, self.head, n_params=2)(half)


def _transform(config: MarScfConfig) -> Elementwise:
    if config.coupling == "affine":
        return SigmoidAffine(0.0 if config.parity else SCALE_FLOOR, shift_first=False)
    published = MixLogCdf(config.n_components)
    return published if config.parity else MixLogCdf(config.n_components, MIN_LOG_SCALE)


def _net(config: MarScfConfig, in_channels: int) -> nn.Module:
    if config.coupling == "affine":
        return AffineNet(in_channels, config.channels)
    return GatedNet2d(
        in_channels,
        config.channels,
        config.n_blocks,
        _transform(config).n_params,
        config.dropout,
        config.parity,
    )
