#!/bin/sh
# How corpus/ and mels/ were made (with espeak-ng 1.51); nobody needs to do it again.
set -eu
cd "$(dirname "$0")"
rm -rf corpus/metadata.csv corpus/wavs mels held-out
python ../make_espeak_corpus.py corpus --clips 20 --longest 3.6 --format flac
# Other sentences, that no voice has seen: seed 0 makes all training corpora of these stories.
python ../make_espeak_corpus.py held-out --clips 3 --longest 5 --seed 2025
mkdir mels
python - <<'PYTHON'
from pathlib import Path

import numpy as np
import torch

from vocoder import MelSpectrogram
from vocoder.files.audio import read_wav

extract = MelSpectrogram("tacotron2-22k")
for path, name in zip(sorted(Path("held-out/wavs").iterdir()), ("waterfall", "squirrel", "cathedral")):
    audio, _ = read_wav(path, sample_rate=extract.preset.sample_rate)
    np.savez(f"mels/{name}.npz", mel=extract(torch.from_numpy(audio)), preset=extract.preset.name)
PYTHON
rm -r held-out
