"""Which recipes are compared, and what the papers say of their order."""

from vocoder import list_recipes

SMALL = [name for name in list_recipes() if name.startswith("fashion/") and "-gpu" not in name]

# The first of each pair needs more bits: NanoFlow (2020) says so of the variants of NanoGlow, and
# mAR-SCF (2020) of a Gaussian prior beside an autoregressive one on the same flow. Here the flow of
# the latter is narrower and has fewer steps, for about as many parameters and the same time.
ORDERS = [
    ("fashion/nanoglow-naive", "fashion/nanoglow-decomposed"),
    ("fashion/nanoglow-decomposed", "fashion/nanoglow"),
    ("fashion/nanoglow", "fashion/nanoglow-mar"),
    ("fashion/glow", "fashion/marscf-affine"),
]
