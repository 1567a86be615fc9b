#!/bin/sh
# NanoFlow on LJSpeech: sh egs/ljspeech/run.sh LJSPEECH-1.1
# Fetch and unpack https://keithito.com/LJ-Speech-Dataset (2.6 GB) first. Where there is no network,
#   python egs/make_espeak_corpus.py data/espeak --hours 3
# makes a corpus of the same shape; give data/espeak then.
set -eu
source=${1:?usage: run.sh LJSPEECH-1.1}

# 1. 13,100 clips; the first 1310 are the published test. Continues if it was stopped.
vocoder preprocess ljspeech --source "$source" --out data/ljspeech

# 2. One GPU. For eight of one machine: torchrun --nproc-per-node 8 -m vocoder train …
vocoder train ljspeech/nanoflow --data data/ljspeech --run-dir runs/ljspeech

# 3. Likelihood of the test clips, then their sound again from nothing but their mels.
vocoder evaluate runs/ljspeech --data data/ljspeech
vocoder synthesize egs/quickstart/mels -o out/ljspeech --voice runs/ljspeech
