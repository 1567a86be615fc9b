#!/bin/sh
# NanoGlow on CIFAR-10: sh egs/cifar10/run.sh cifar-10-binary.tar.gz
# Fetch https://www.cs.toronto.edu/~kriz/cifar.html first, either version; it is read from the tar.
set -eu
data=${1:?usage: run.sh CIFAR-10-TAR}

# 1. Days on a GPU are expected; it has not yet been run on one. For eight of one machine:
#    torchrun --nproc-per-node 8 -m vocoder train …
#    -o train.checkpointing=true fits larger batches into the same memory.
vocoder train cifar10/nanoglow --data "$data" --run-dir runs/cifar10

# 2. The test images are scored here alone. A Fréchet distance needs the caller's own network:
#    --extractor inception.pt, a TorchScript file, whose code is run.
vocoder evaluate-images runs/cifar10 --data "$data" --draws 4

# 3. A grid of samples, at a temperature that flatters them.
vocoder sample runs/cifar10 -o out/cifar10.png --temperature 0.7

# ImageNet is converted once, to arrays that are mapped from disk; its variant goes into checkpoints:
#   vocoder preprocess imagenet32 --source FOLDER --out data/imagenet32
#   vocoder train imagenet32/glow --data data/imagenet32 --run-dir runs/imagenet32
