"""Laws that hold for every image model, in float64."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_models import CONFIGS, build, images, perturbed

from vocoder.errors import VocoderError
from vocoder.flows.linear import Conv1x1, DataInitialised
from vocoder.flows.multiscale import level_shapes
from vocoder.flows.reshape import squeeze2d, unsqueeze2d
from vocoder.models.families.image_flow import ImageFlowConfig
from vocoder.models.glow import Glow, GlowConfig
from vocoder.models.nanoglow import NanoGlow, NanoGlowConfig
from vocoder.nets.priors import SplitPrior

each_model = pytest.mark.parametrize("name", CONFIGS)


@each_model
@torch.no_grad()
def test_inverse_undoes_forward(name: str) -> None:
    model = perturbed(name)
    x = images(model)
    eps, _ = model(x)
    assert eps.shape == (3, model.n_dims)
    torch.testing.assert_close(model.inverse(eps), x, atol=1e-9, rtol=0)
    noise = torch.randn(3, model.n_dims, dtype=torch.float64)
    torch.testing.assert_close(model(model.inverse(noise))[0], noise, atol=1e-9, rtol=0)


@each_model
def test_logdet_is_that_of_the_jacobian(name: str) -> None:
    model = perturbed(name)
    x = images(model, batch=1)
    jacobian = torch.autograd.functional.jacobian(lambda image: model(image)[0], x)
    _, expected = torch.linalg.slogdet(jacobian[0, :, 0].flatten(1))
    torch.testing.assert_close(model(x)[1][0], expected, atol=1e-9, rtol=1e-9)


@each_model
@torch.no_grad()
def test_uniform_noise_costs_eight_bits(name: str) -> None:
    """No density codes what is uniform in fewer bits, whatever its weights."""
    model = perturbed(name)
    x = images(model, batch=256)
    nats = -model.log_prob(x) + model.n_dims * math.log(256)
    bits = nats / (model.n_dims * math.log(2))
    assert bits.mean() - 3 * bits.std() / 16 >= 8.0


@torch.no_grad()
def test_a_strange_image_makes_no_split_sure_of_an_element() -> None:
    """One test image of Fashion-MNIST cost a NanoGlow 4,299 bits/dim, by a log_std of -7."""
    strange = 1e3 * torch.randn(2, 6, 4, 4, dtype=torch.float64)
    for parity in (False, True):
        prior = SplitPrior(6, 6, parity).double()
        prior.head.weight.normal_()
        mean, log_std = prior.moments(strange)
        assert (log_std.abs().max() <= 5) != parity
        if not parity:
            z = mean + torch.randn_like(mean)
            eps, logdet = prior(z, strange)
            torch.testing.assert_close(prior.inverse(eps, strange), z, atol=1e-9, rtol=0)
            torch.testing.assert_close(logdet, -log_std.flatten(1).sum(1), atol=1e-9, rtol=0)


@each_model
@torch.no_grad()
def test_an_image_counts_the_same_in_every_batch(name: str) -> None:
    model = perturbed(name)
    x = images(model, batch=5)
    whole = model.log_prob(x)
    parts = torch.cat([model.log_prob(part) for part in x.split([2, 1, 2])])
    torch.testing.assert_close(parts, whole, atol=1e-9, rtol=0)


@each_model
@torch.no_grad()
def test_half_precision_inverts_too(name: str) -> None:
    """As far as its digits go; torch solves no triangular system in it."""
    model = perturbed(name).bfloat16()
    z = model(images(model).bfloat16())[0]
    assert model.inverse(z).isfinite().all()


@each_model
@torch.no_grad()
def test_a_copy_is_a_model_of_its_own(name: str) -> None:
    model = perturbed(name)
    x = images(model)
    before, twin = model(x)[0], copy.deepcopy(model)
    torch.testing.assert_close(twin(x)[0], before, atol=0, rtol=0)
    for parameter in model.parameters():
        parameter.add_(0.1)
    torch.testing.assert_close(twin(x)[0], before, atol=0, rtol=0)


@each_model
@torch.no_grad()
def test_folded_model_computes_the_same(name: str) -> None:
    model = perturbed(name)
    x = images(model)
    for ours, theirs in zip(model.fold()(x), model(x), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@each_model
@torch.no_grad()
def test_norms_start_from_data_when_told_to_and_only_then(name: str) -> None:
    model = build(name).double()
    parts = [part for part in model.modules() if isinstance(part, DataInitialised)]
    x = 3 * images(model, batch=16) + 1
    model.train()(x)
    assert parts
    assert not any(part.initialised for part in parts)

    model.eval().initialise(x)  # dropout would move the statistics from one pass to the next
    assert all(part.initialised for part in parts)
    outputs: dict[DataInitialised, torch.Tensor] = {}

    def remember(part, _, output) -> None:  # type: ignore[no-untyped-def]
        outputs.setdefault(part, output[0] if isinstance(output, tuple) else output)

    hooks = [part.register_forward_hook(remember) for part in parts]
    model(x)
    for hook in hooks:
        hook.remove()
    for output in outputs.values():
        std, mean = torch.std_mean(output, dim=(0, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
        torch.testing.assert_close(std, torch.ones_like(std), atol=1e-2, rtol=0)

    restored = build(name).double().eval()
    restored.load_state_dict(model.state_dict())
    restored.initialise(images(model))  # has happened already
    torch.testing.assert_close(restored(x)[0], model(x)[0], atol=0, rtol=0)


@each_model
def test_checkpointing_changes_no_gradient(name: str) -> None:
    model = perturbed(name)
    x = images(model)
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        model.log_prob(x).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(gradient is not None for gradient in gradients[0])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, atol=1e-12, rtol=1e-12)


@each_model
def test_dead_parameters_are_those_without_gradient(name: str) -> None:
    model = perturbed(name)
    model.log_prob(images(model)).square().sum().backward()
    n_dead = 0
    for module in model.modules():
        if hasattr(module, "n_dead_parameters"):
            gradients = [parameter.grad.flatten() for parameter in module.parameters()]  # type: ignore[union-attr]
            assert int((torch.cat(gradients) == 0).sum()) == module.n_dead_parameters
            n_dead += module.n_dead_parameters
    assert model.n_parameters(effective=True) == model.n_parameters() - n_dead
    assert (n_dead > 0) == model.config.parity


@each_model
def test_autocast_leaves_noise_and_logdet_in_full_precision(name: str) -> None:
    model = build(name)
    x = images(model).float()
    with torch.autocast("cpu", torch.bfloat16):
        eps, logdet = model(x)
    assert eps.dtype == logdet.dtype == torch.float32
    expected, _ = model(x)
    # At initialisation the couplings' networks are zero in every precision.
    if isinstance(model, Glow | NanoGlow):
        torch.testing.assert_close(eps, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_temperature_scales_the_noise() -> None:
    model = perturbed("glow")
    for temperature in (0.0, 0.7):
        generator = torch.Generator().manual_seed(1)
        drawn = model.sample(2, temperature=temperature, generator=generator)
        noise = torch.randn(
            2, model.n_dims, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
        torch.testing.assert_close(drawn, model.inverse(temperature * noise))


@pytest.mark.parametrize("name", ["glow", "nanoglow"])
@torch.no_grad()
def test_probabilities_of_all_images_sum_to_one(name: str) -> None:
    """All 16 images of 2 x 2 pixels of one bit, by quadrature over the noise that dequantises."""
    sizes = {"image_channels": 1, "image_height": 2, "image_width": 2, "n_levels": 1}
    model = perturbed(name, replace(CONFIGS[name], **sizes))
    n = 12  # points along each axis
    middles = (torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5
    # Widen what the first norm sees, so that nearly all density lies within the cube.
    model.flow.steps[0][0].norm.log_scale += 2.5
    model.flow.steps[0][0].norm.bias.zero_()
    x = torch.cartesian_prod(middles, middles, middles, middles).view(-1, 1, 2, 2)
    total = model.log_prob(x).exp().mean()
    assert 0.99 < total < 1.001


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_levels_hold_every_pixel_once(channels: int, height: int, width: int, levels: int) -> None:
    factor = 2**levels
    shapes = level_shapes((channels, height * factor, width * factor), levels)
    total = sum(s.n_factored * s.height * s.width for s in shapes)
    assert total == channels * height * width * factor**2
    assert shapes[-1].n_given == 0
    if height % 2:
        with pytest.raises(VocoderError, match="must divide by"):
            level_shapes((channels, height * factor // 2, width * factor), levels)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_squeeze_puts_the_pixels_of_a_channel_side_by_side(c: int, h: int, w: int) -> None:
    x = torch.randn(2, c, 2 * h, 2 * w)
    z = squeeze2d(x)
    for dy in range(2):
        for dx in range(2):
            assert torch.equal(z[:, 2 * dy + dx :: 4], x[:, :, dy::2, dx::2])
    assert torch.equal(unsqueeze2d(z), x)


@pytest.mark.parametrize("square", [False, True])
@torch.no_grad()
def test_convolution_starts_as_a_rotation(square: bool) -> None:
    layer = Conv1x1(7, square).double()
    weight = layer(torch.eye(7, dtype=torch.float64)[..., None, None])[0][..., 0, 0].T
    # The factors were rounded to float32.
    torch.testing.assert_close(weight @ weight.T, torch.eye(7).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_height": 12, "n_levels": 3}, "12 x 8 pixels: both sides must divide by 8"),
        ({"image_width": 0}, "at least 1"),
        ({"n_levels": 0}, "at least 1"),
        ({"n_steps": 0}, "n_steps"),
        ({"image_channels": 0}, "at least 1"),
    ],
)
def test_sizes_that_do_not_fit(change: dict[str, int], message: str) -> None:
    for config in (CONFIGS["glow"], CONFIGS["nanoglow"]):
        with pytest.raises(ValueError, match=message) as caught:
            replace(config, **{"image_height": 8} | change)
        assert "\n" not in str(caught.value)


def test_images_that_do_not_fit() -> None:
    model = build("glow")
    with pytest.raises(VocoderError, match=r"images must be \(B, 3, 4, 8\).*got \(2, 1, 4, 8\)"):
        model(torch.zeros(2, 1, 4, 8))
    with pytest.raises(VocoderError, match=r"noise must be \(B, 96\)"):
        model.inverse(torch.zeros(2, 3, 4, 8))


@pytest.mark.parametrize(
    ("config", "published", "dead"),
    [
        (GlowConfig(channels=512), 44_235_312, 182_400),
        (GlowConfig(channels=256), 15_972_912, 182_400),
        (GlowConfig(channels=256, network="six"), 287_488_560, 182_400),
        (NanoGlowConfig(variant="naive"), 9_263_064, 182_400),
        (NanoGlowConfig(variant="decomposed"), 9_934_896, 182_400),
        (NanoGlowConfig(), 10_113_264, 182_400),
        (NanoGlowConfig(flow_embedding=3), 10_175_088, 182_400),
        (NanoGlowConfig(n_steps=48), 10_641_936, 232_128),
        (NanoGlowConfig(n_steps=48, flow_embedding=3), 10_718_544, 232_128),
    ],
)
def test_parameter_counts_are_the_published_ones(
    config: ImageFlowConfig, published: int, dead: int
) -> None:
    model_class = NanoGlow if isinstance(config, NanoGlowConfig) else Glow
    with torch.device("meta"):
        model = model_class(replace(config, parity=True))
    assert model.n_parameters() == published
    assert model.n_parameters(effective=True) == published - dead


def test_default_has_no_dead_weights() -> None:
    with torch.device("meta"):
        model = NanoGlow(NanoGlowConfig())
    # The published top prior has a bias and a log_scale of it where one number serves.
    assert model.n_parameters() == model.n_parameters(effective=True) == 9_930_864 - 96
