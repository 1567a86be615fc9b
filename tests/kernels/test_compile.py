"""Every Triton kernel compiled ahead of time for five cards, none of which need be here.

The tiles are those that the dispatch gives each card. A spill to local memory, a tile that does not
fit, or a product that misses the tensor cores costs more than any test of results would show.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from vocoder.kernels.gated_conv import triton_kernels as layer  # noqa: E402
from vocoder.kernels.gated_conv import triton_tiles as layer_tiles  # noqa: E402
from vocoder.kernels.invert_flow import triton_kernels as row  # noqa: E402
from vocoder.kernels.invert_flow import triton_transposed as short_row  # noqa: E402
from vocoder.kernels.invert_flow.triton_tiles import OPENER, Tile, choose_tile  # noqa: E402

pytestmark = pytest.mark.skipif(
    triton.knobs.runtime.interpret, reason="the interpreter compiles nothing"
)

SHARED_MEMORY = {  # bytes a program
    (8, 0): 163 * 1024,
    (8, 6): 99 * 1024,
    (8, 9): 99 * 1024,
    (9, 0): 227 * 1024,
    (12, 0): 99 * 1024,
}
# A card of another's generation and tiles, for which every kernel took the other's registers: each
# kernel is compiled once, in its largest size, since compiling takes a second.
LIKE = {(8, 6): (8, 9)}
RECORDED = Path(__file__).with_name("kernel_registers.json")
SLACK = 8  # registers; more than that is a change to look at


@dataclass(frozen=True)
class Launch:
    """A kernel as one card gets it.

    Args:
        name: of the launch, without the card.
        kernel: the function.
        types: of the arguments that are not constants, by name, as Triton writes them.
        constants: of the other arguments, by name.
        n_warps: warps of a program.
        n_stages: of the pipeline.
    """

    name: str
    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    n_warps: int
    n_stages: int


def row_launches(card: tuple[int, int]) -> Iterator[Launch]:
    """Yield the row op's launches: 1 s and 10 s of one item, 10 s of sixteen."""
    for channels in (64, 128):
        tiles = [choose_tile(card, channels, n) for n in (1_378, 13_781, 220_500)]
        for n_mels in (0, 80):
            for tile in dict.fromkeys(tiles):
                yield from layer_launches(tile, channels, n_mels, "fp16")
            constants = {"INPUT": row.AFFINE.value, "LAST": False, "BLOCK_W": OPENER.n_columns}
            yield row_launch(row.row_open, OPENER, channels, n_mels, "fp16", constants)
    yield from layer_launches(choose_tile(card, 128, 13_781), 128, 80, "bf16")


def layer_launches(tile: Tile, channels: int, n_mels: int, dtype: str) -> Iterator[Launch]:
    """Yield what runs a layer."""
    constants: dict[str, Any] = {"BLOCK_W": tile.n_columns, "BLOCK_K": tile.depth}
    last = constants | {"LAST": False}
    if tile.layout == "transposed":
        yield row_launch(short_row.row_ahead, tile, channels, n_mels, dtype, constants)
        if n_mels == 0:  # what was looked ahead has the conditioning in it
            yield row_launch(short_row.row_layer_transposed, tile, channels, 0, dtype, last)
        return
    if tile.layout == "columns":
        last |= {"queue_tiles": None, "conv_tiles": None}
    yield row_launch(row.row_layer, tile, channels, n_mels, dtype, last)


def row_launch(
    kernel: Any,
    tile: Tile,
    channels: int,
    n_mels: int,
    dtype: str,
    constants: dict[str, Any],
) -> Launch:
    constants = {"C": channels, "N_MELS": n_mels, "N_PAST": 2} | constants
    if not n_mels:
        constants["cond_weight"] = None
    numbers = ["row", "z_row", "row_1", "row_2", "cond_row", "H", "W", "dilation"]
    operands = ["queue", "next_queue", "cond", "conv", "cond_weight", "res", "taps"]
    types = dict.fromkeys(numbers, "i32") | dict.fromkeys(operands, f"*{dtype}")
    types |= {
        "scale": "fp32",
        "lengths": "*i32",
        "queue_tiles": f"tensordesc<{dtype}[1, {tile.n_columns}, {tile.depth}]>",
        "conv_tiles": f"tensordesc<{dtype}[{tile.depth}, {2 * channels}]>",
    }
    types = {name: types.get(name, "*fp32") for name in kernel.arg_names if name not in constants}
    condition = "mel" if n_mels else "projected"
    size = f"{tile.layout}-{tile.n_columns}x{tile.depth}"
    name = f"{kernel.__name__}-C{channels}-{condition}-{size}-{dtype}"
    return Launch(name, kernel, types, constants, tile.n_warps, tile.n_stages)


def training_launches(card: tuple[int, int]) -> Iterator[Launch]:
    """Yield the layer's launches, forward and backward, for the affine transform."""
    for channels in (64, 128):
        tiles = layer_tiles.choose_tiles(card, channels)
        for n_mels in (0, 80):
            yield training_launch(layer.layer_forward, tiles.forward, channels, n_mels)
        yield training_launch(layer.gate_backward, tiles.gate, channels)
        yield training_launch(layer.input_gradient, tiles.input, channels)
        yield training_launch(layer.weight_gradient, tiles.weight, channels)


def training_launch(kernel: Any, tile: layer_tiles.Tile, channels: int, n_mels: int = 80) -> Launch:
    constants: dict[str, Any] = {
        "C": channels,
        "N_MELS": n_mels,
        "N_OUT": 2,
        "LAST": False,
        "SAVE_A": True,
        "BLOCK_W": tile.columns,
        "BLOCK_K": tile.depth,
        "BLOCK_N": tile.depth,
    }
    if not n_mels:
        constants["cond_weight"] = None
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    numbers = ["H", "W", "dilation", "n_tiles", "n_trips"]
    operands = ["h", "cond", "conv", "cond_weight", "res", "h_next", "a"]
    operands += ["dh_next", "da", "o", "dh"]
    types = dict.fromkeys(numbers, "i32") | dict.fromkeys(operands, "*bf16") | {"scale": "fp32"}
    types = {name: types.get(name, "*fp32") for name in kernel.arg_names if name not in constants}
    condition = "" if n_mels else "-projected"
    name = f"{kernel.__name__}-C{channels}{condition}-{tile.columns}x{tile.depth}-bf16"
    return Launch(name, kernel, types, constants, tile.n_warps, tile.n_stages)


# Kernels of one short product: nothing to load ahead, and often fewer rows than Hopper's wide
# product takes.
SHORT = ("row_open", "gate_backward")


def all_launches(card: tuple[int, int]) -> list[Launch]:
    return [*row_launches(card), *training_launches(card)]


def compiled_launches(card: tuple[int, int]) -> list[Launch]:
    """Return all launches of a card, or of one that is like another each kernel's largest."""
    launches = all_launches(card)
    if card in LIKE:  # the sizes come in rising order
        launches = [*{launch.kernel.__name__: launch for launch in launches}.values()]
    return launches


LAUNCHES = {
    f"sm_{card[0]}{card[1]}-{launch.name}": (card, launch)
    for card in SHARED_MEMORY
    for launch in compiled_launches(card)
}


def compile_for(card: tuple[int, int], launch: Launch) -> Any:
    """Compile a launch; pointers are aligned to 16 bytes, as those of whole tensors are."""
    names = launch.kernel.arg_names
    signature = {name: launch.types.get(name, "constexpr") for name in names}
    aligned = [["tt.divisibility", 16]]
    attributes = {(i,): aligned for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(launch.kernel, signature, launch.constants, attributes)
    options = {"num_warps": launch.n_warps, "num_stages": launch.n_stages}
    return triton.compile(source, GPUTarget("cuda", 10 * card[0] + card[1], 32), options)


def resources(compiled: Any, folder: Path) -> dict[str, int]:
    """Return what the machine code takes: registers a thread, bytes of stack and local memory."""
    path = folder / "kernel.cubin"
    path.write_bytes(compiled.asm["cubin"])
    command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    usage = re.findall(r"(REG|STACK|LOCAL):(\d+)", result.stdout + result.stderr)
    return {name: int(number) for name, number in usage}


@pytest.mark.parametrize(("card", "other"), LIKE.items())
def test_what_is_compiled_once_is_launched_alike(
    card: tuple[int, int], other: tuple[int, int]
) -> None:
    assert all_launches(card) == all_launches(other)
    assert SHARED_MEMORY[card] == SHARED_MEMORY[other]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHES)
def test_kernel_fits_the_card(name: str, tmp_path: Path) -> None:
    card, launch = LAUNCHES[name]
    compiled = compile_for(card, launch)
    used = resources(compiled, tmp_path)
    assert used["STACK"] == used["LOCAL"] == 0, "spills"
    assert compiled.metadata.shared <= SHARED_MEMORY[card]
    ptx = compiled.asm["ptx"]
    wide, narrow = "wgmma.mma_async", "mma.sync"
    if launch.kernel.__name__ in SHORT:
        assert wide in ptx or narrow in ptx, "the tensor cores are not used"
    else:
        assert (wide if card == (9, 0) else narrow) in ptx, "the tensor cores are not used"
        assert "cp.async" in ptx, "operands are not loaded ahead"
    if "descriptors" in name:
        assert "cp.async.bulk.tensor" in ptx
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    if triton.__version__ == recorded["triton"]:
        assert used["REG"] <= recorded["registers"][name] + SLACK, "run this file to record anew"


def test_registers_are_recorded_for_the_shipped_launches() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["registers"]
    assert set(recorded) == set(LAUNCHES)


def record() -> None:
    """Write the registers that this Triton gives every launch."""
    registers = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (card, launch) in LAUNCHES.items():
            registers[name] = resources(compile_for(card, launch), Path(folder))["REG"]
    content = {"triton": triton.__version__, "registers": registers}
    RECORDED.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":  # after a change of the kernels or of Triton
    record()
