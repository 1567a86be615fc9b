#!/bin/sh
# A voice that knows the faults of your text-to-mel model:
#   sh egs/tts/finetune.sh RECORDINGS MELS VOICE [RECIPE] [KEY=VALUE ...]
# MELS holds what the model predicts for each recording in its own rhythm (teacher forcing, or given
# durations): name.npy, .npz, .pt or .safetensors for name.wav, (80, frames) or turned, up to two
# frames longer or shorter. VOICE is what to start from, made by the same RECIPE; where that is of
# another preset than tacotron2-22k, say so: PRESET=pwg-22k sh egs/tts/finetune.sh ...
set -eu
recordings=${1:?usage: finetune.sh RECORDINGS MELS VOICE [RECIPE] [KEY=VALUE ...]}
mels=${2:?usage: finetune.sh RECORDINGS MELS VOICE [RECIPE] [KEY=VALUE ...]}
voice=${3:?usage: finetune.sh RECORDINGS MELS VOICE [RECIPE] [KEY=VALUE ...]}
recipe=${4:-own_voice/nanoflow-22k}
preset=${PRESET:-tacotron2-22k}
shift "$(($# < 4 ? $# : 4))"
for setting in "$@"; do shift; set -- "$@" -o "$setting"; done

# 1. Pair them. What does not fit is named and left out; the exit status is then 1, and training goes
#    on without it.
vocoder preprocess wavs --source "$recordings" --mels "$mels" --out data/finetune \
    --preset "$preset" || [ $? -eq 1 ]

# 2. Go on from the voice with a smaller step: it has only to learn what the model gets wrong.
vocoder train "$recipe" --data data/finetune --run-dir runs/finetune --init-from "$voice" \
    -o train.lr=1e-4 "$@"

# 3. Listen to the predicted mels that were paired.
vocoder synthesize data/finetune -o out/finetune --voice runs/finetune
