#!/bin/sh
# Text to sound, offline: sh egs/tts/speak.sh "Good morning." [VOICE]
# espeak-ng (apt install espeak-ng) stands where your text-to-mel model will: what it says is made
# into a mel of the voice's preset, which is all that the voice hears of it.
set -eu
text=${1:?usage: speak.sh TEXT [VOICE]}
voice=${2:-griffin-lim}
mkdir -p out/tts

# 1. Text to speech, of another synthesiser.
espeak-ng -v en-us -w out/tts/espeak.wav "$text"

# 2. Its mel to sound. A model of yours writes mels (80, frames) as .npy; give those instead.
vocoder synthesize out/tts/espeak.wav -o out/tts/voice.wav --voice "$voice" --seed 0
