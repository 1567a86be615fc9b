#!/bin/sh
# From a WaveGlow checkpoint that you have to sound, without the code that wrote it:
#   sh egs/tts/waveglow.sh waveglow_256channels.pt MEL_OR_RECORDING ...
# Any file of NVIDIA's code does: a pickled model or a state dict, old or new, with weight norm or
# without. Mels are what your text-to-mel model writes: (80, frames) as .npy, .npz or .pt.
set -eu
checkpoint=${1:?usage: waveglow.sh CHECKPOINT MEL_OR_RECORDING ...}
: "${2:?usage: waveglow.sh CHECKPOINT MEL_OR_RECORDING ...}"
shift
mkdir -p out/tts/waveglow

# 1. Make it a voice, once. Nothing that the file names is imported or run.
vocoder import "$checkpoint" -o out/tts/waveglow.safetensors
vocoder info out/tts/waveglow.safetensors

# 2. Speak with the noise of NVIDIA's examples (sigma 0.6), and take out what the voice hums.
vocoder synthesize "$@" -o out/tts/waveglow --voice out/tts/waveglow.safetensors \
    --temperature 0.6 --denoise 0.1 --seed 0

# Code that calls `waveglow.infer(mel, sigma)` goes on with two other lines:
#   python egs/tts/speak_waveglow.py "Hello." --voice out/tts/waveglow.safetensors
