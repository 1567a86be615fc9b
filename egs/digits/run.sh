#!/bin/sh
# A model of images in minutes on a CPU, with nothing to fetch: sh egs/digits/run.sh
set -eu

# 1. Glow on the 8x8 digits that come with scikit-learn.
#    Validation images select the checkpoint; Ctrl-C stops, --resume goes on.
vocoder train digits/glow --run-dir runs/digits/glow

# 2. Bits per dimension of the 297 test images; uniform noise has 4.087, a histogram of each pixel
#    2.421. Ten draws of the dequantising noise give the tighter bound too.
vocoder evaluate-images runs/digits/glow --draws 10

# 3. Samples; test images beside what their noise decodes to; and the way from one to another.
vocoder sample runs/digits/glow -o out/digits.png
vocoder sample runs/digits/glow -o out/digits-again.png -n 18 --reconstruct
vocoder sample runs/digits/glow -o out/digits-between.png -n 8 --interpolate spherical

# All digits recipes, three seeds each, as a table (an hour):
#   python egs/digits/compare.py --jobs 2
