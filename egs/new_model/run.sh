#!/bin/sh
# A vocoder of one's own, in one file, by the ordinary commands: sh egs/new_model/run.sh
# More words, such as -o train.steps=1000, go to the training.
set -eu
own="--plugin egs/new_model/shimmer.py"
data=data/new_model
run=runs/new_model

# 1. A corpus and a training, as for the models that ship. Ctrl-C stops, --resume goes on.
vocoder preprocess ljspeech --source egs/quickstart/corpus --out $data
vocoder train $own egs/new_model/shimmer.yaml --data $data --run-dir $run "$@"

# 2. What the voice is, and how it streams: the file tells its reach, so that it can.
vocoder info $own $run

# 3. Whole mels to sound, and a mel that comes in pieces.
vocoder synthesize $own egs/quickstart/mels -o out/new_model --voice $run
vocoder synthesize $own - -o - --stream wav --voice $run < $data/mels/ES000001.npy \
    > out/new_model/streamed.wav

# 4. How good it is: likelihood, distances from the recordings, speed; and beside Griffin-Lim.
vocoder evaluate $own $run --data $data --report $run/report.html
vocoder compare $own $run griffin-lim --data $data
