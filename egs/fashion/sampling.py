"""Where the time of sampling goes, and what one layer could be computed by instead.

python egs/fashion/sampling.py fashion/nanoglow-mar

Processor time of one thread; what is compared takes turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from vocoder import load_recipe
from vocoder.models.families.image_flow import ImageFlow
from vocoder.nets.convnet2d import LAYOUT
from vocoder.registry import find_model

N_IMAGES, SIDE, N_ROUNDS = 64, 14, 12  # the first level of 28 x 28 pixels


def shares(recipe_name: str) -> str:
    """Return what share of sampling each operation takes, for untrained weights."""
    recipe = load_recipe(recipe_name)
    model: ImageFlow = find_model(recipe.model)[0](recipe.config)  # type: ignore[assignment]
    model.initialise(torch.rand(N_IMAGES, *model.image_shape) - 0.5)
    model.eval().requires_grad_(False)
    eps = torch.randn(N_IMAGES, model.n_dims)
    model.inverse(eps)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        model.inverse(eps)
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=8)


def layers(channels: int) -> Mapping[str, Callable[[], object]]:
    """Return ways to compute a 3 x 3 convolution and its ReLU, and what Winograd's would take."""
    x = torch.randn(N_IMAGES, channels, SIDE, SIDE).contiguous(memory_format=LAYOUT)
    weight = torch.randn(channels, channels, 3, 3).contiguous(memory_format=LAYOUT)
    bias = torch.randn(channels)
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weight, [1, 1], [1, 1], [1, 1], 1, list(x.shape)
    )
    rest = (bias, [1, 1], [1, 1], [1, 1], 1, "relu", [], "")
    n_tiles = N_IMAGES * (SIDE // 2) ** 2  # of 2 x 2 pixels, 16 frequencies each
    tiles, products = torch.randn(16, n_tiles, channels), torch.empty(16, n_tiles, channels)
    filters, square = torch.randn(16, channels, channels), torch.randn(1024, 1024)
    return {
        "convolution": lambda: F.conv2d(x, weight, bias, padding=1),
        "ReLU": x.relu,
        "both as one": lambda: torch.ops.mkldnn._convolution_pointwise(x, weight, *rest),
        "both as one, packed": lambda: torch.ops.mkldnn._convolution_pointwise(x, packed, *rest),
        "Winograd's products": lambda: torch.bmm(tiles, filters, out=products),
        "Winograd's reads and writes": lambda: (tiles.clone(), products.copy_(tiles)),
        "matrix product of 1024 x 1024": lambda: square @ square,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="fashion/nanoglow-mar")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        print(shares(options.recipe))
        ways = layers(load_recipe(options.recipe).config.channels)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(N_ROUNDS):
            for name, run in ways.items():
                started = time.process_time()
                run()
                taken[name].append(time.process_time() - started)
    for name, seconds in taken.items():
        print(f"{statistics.median(seconds) * 1e3:7.2f} ms  {name}")


if __name__ == "__main__":
    main()
