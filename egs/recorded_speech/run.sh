#!/bin/sh
# Corpora of recorded speech from Debian packages: sh egs/recorded_speech/run.sh
# Needs ffmpeg, the packages that README.md names, and the extra `pitch` of vocoder. The same command
# continues a run that was stopped.
set -eu
make="python egs/recorded_speech/make_corpora.py"
from=data/recorded

# 1. Five languages, four speakers, 16 kHz: to train on. The lists say which clips are held out.
$make prompts $from/prompts
vocoder preprocess wavs --source $from/prompts --out data/prompts-16k --preset speecht5-16k --epochs \
    --test-list $from/prompts/test.txt --validation-list $from/prompts/validation.txt

# 2. Speakers and languages never trained on, to judge by alone: all of it is held out.
$make unseen $from/unseen
vocoder preprocess wavs --source $from/unseen --out data/unseen-16k --preset speecht5-16k --epochs \
    --test-list $from/unseen/test.txt
$make dialogue $from/dialogue
vocoder preprocess wavs --source $from/dialogue --out data/unseen-22k --epochs \
    --test-list $from/dialogue/test.txt

# 3. The prompts, and synthetic speech for the band above 8 kHz, at 22.05 kHz: to train on.
$make mixed $from/mixed
vocoder preprocess wavs --source $from/mixed --out data/mixed-22k --epochs \
    --test-list $from/mixed/test.txt --validation-list $from/mixed/validation.txt
