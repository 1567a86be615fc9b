#!/bin/sh
# A voice that knows the faults of your text-to-mel model:
#   sh egs/tts/finetune.sh RECORDINGS MELS VOICE [RECIPE] [KEY=VALUE ...]
# MELS holds what the model predicts for each recording in its own rhythm (teacher forcing, or given
# durations): name.npy, .npz, .pt or .safetensors for name.wav, (80, frames) or turned, up to two
# frames longer or shorter. VOICE is what to start from, made by the same RECIPE.
set -eu
recordings=${1:?usage: finetune.sh RECORDINGS MELS VOICE [RECIPE] [KEY=VALUE ...]}
mels=${2:?usage: finetune.sh RECORDINGS MELS VOICE [RECIPE] [KEY=VALUE ...]}
voice=${3:?usage: finetune.sh RECORDINGS MELS VOICE [RECIPE] [KEY=VALUE ...]}
recipe=${4:-own_voice/nanoflow-22k}
shift "$(($# < 4 ? $# : 4))"
for setting in "$@"; do shift; set -- "$@" -o "$setting"; done

# 1. Pair them. What does not fit is named and left out; the exit status is then 1.
vocoder preprocess wavs --source "$recordings" --mels "$mels" --out data/finetune

# 2. Go on from the voice with a smaller step: it has only to learn what the model gets wrong.
vocoder train "$recipe" --data data/finetune --run-dir runs/finetune --init-from "$voice" \
    -o train.lr=1e-4 "$@"

# 3. Listen to predicted mels.
vocoder synthesize "$mels" -o out/finetune --voice runs/finetune --preset tacotron2-22k
