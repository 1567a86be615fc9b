#!/bin/sh
# The whole way on the shipped clips, from the root of the repository: sh egs/quickstart/run.sh
set -eu

# 1. Recordings to mels. Clips in sorted order; the first tenth, two, is kept for the test.
vocoder preprocess ljspeech --source egs/quickstart/corpus --out data/quickstart

# 2. Mels to a voice. Ctrl-C stops, `--resume` goes on.
vocoder train tiny/nanoflow --data data/quickstart --run-dir runs/quickstart

# 3. The voice to sound: out/waterfall.wav and two more.
vocoder synthesize egs/quickstart/mels -o out --voice runs/quickstart
