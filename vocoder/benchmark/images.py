"""What `vocoder benchmark` runs of a model of images: training steps and sampling."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn

from vocoder.benchmark.measuring import OURS, REFERENCE, Work
from vocoder.benchmark.published import PublishedChannelPrior
from vocoder.data.images.description import shape_text
from vocoder.models.families.image_flow import ImageFlow
from vocoder.nets.channel_prior import ChannelPrior

CHECKPOINTED, BF16 = "checkpointed", "bf16 autocast"


def image_works(
    model: ImageFlow, device: torch.device, batch_sizes: Sequence[int]
) -> tuple[Iterator[Work], ...]:
    """Return the works of each kind, the smallest first; see `vocoder.benchmark.benchmark`.

    Noise serves as images, which takes as long as others.
    """
    model = model.to(device)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.initialise(torch.rand(max(batch_sizes), *model.image_shape, device=device) - 0.5)
    return _training(model, device, batch_sizes), _sampling(model, device, batch_sizes)


def _training(model: ImageFlow, device: torch.device, batch_sizes: Sequence[int]) -> Iterator[Work]:
    """Yield a training step in every batch size."""
    model.train().requires_grad_()
    optimizer = torch.optim.Adamax(model.parameters(), lr=0.0)  # the weights stay as they are

    def step(x: torch.Tensor, checkpointing: bool, autocast: bool) -> None:
        model.checkpointing = checkpointing
        with torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext():
            loss = -model.log_prob(x).mean() / model.n_dims
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.checkpointing = False

    for n_images in sorted(batch_sizes):
        x = torch.rand(n_images, *model.image_shape, device=device) - 0.5
        settings = {REFERENCE: (False, False), CHECKPOINTED: (True, False)}
        if model.gains_from_bf16(device):
            settings |= {BF16: (False, True), f"{BF16}, {CHECKPOINTED}": (True, True)}
        paths: dict[str, Callable[[], object]] = {
            name: partial(step, x, *setting) for name, setting in settings.items()
        }
        name = f"training step, {n_images} x {shape_text(model.image_shape)}"
        yield Work(name, paths, n_images, n_images, None)


def _sampling(model: ImageFlow, device: torch.device, batch_sizes: Sequence[int]) -> Iterator[Work]:
    """Yield sampling in every batch size; the reference has the published loop over channels."""
    model.eval().requires_grad_(False)
    published = copy.deepcopy(model)
    published.flow.priors = nn.ModuleList(
        PublishedChannelPrior(prior) if isinstance(prior, ChannelPrior) else prior
        for prior in published.flow.priors
    )
    has_loop = any(isinstance(prior, ChannelPrior) for prior in model.flow.priors)
    paths = {OURS: model, REFERENCE: published} if has_loop else {OURS: model}

    @torch.inference_mode()
    def sample(flow: ImageFlow, eps: torch.Tensor) -> None:
        flow.inverse(eps)

    for n_images in sorted(batch_sizes):
        eps = torch.randn(n_images, model.n_dims, device=device)
        runs: dict[str, Callable[[], object]] = {
            name: partial(sample, flow, eps) for name, flow in paths.items()
        }
        name = f"sampling, {n_images} x {shape_text(model.image_shape)}"
        yield Work(name, runs, n_images, n_images, None)
