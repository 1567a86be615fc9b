#!/bin/sh
# A voice from your own recordings: sh egs/own_wavs/run.sh FOLDER
# WAV, FLAC or OGG of one speaker, any rate, in folders or not; an hour is a start, ten are good.
# Cut long recordings at pauses, into clips of 2 to 15 seconds.
set -eu
source=${1:?usage: run.sh FOLDER}

# 1. A tenth of the clips, drawn by a seed, is kept for the test. Files that cannot be used are named
#    and left out; the exit status is then 1, so look before you go on.
vocoder preprocess wavs --source "$source" --out data/own

# 2. For other rates preprocess with --preset (see `vocoder presets`) and take a recipe of its hop.
vocoder train own_voice/nanoflow-22k --data data/own --run-dir runs/own

# 3. Any mel of that preset, from your text-to-speech model or, as here, from a recording.
vocoder synthesize "$source" -o out/own --voice runs/own
