"""Code written for WaveGlow, with a voice of ours: python egs/tts/speak_waveglow.py "Hello." """

import argparse

import torch
import torchaudio

import vocoder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text")
parser.add_argument("--voice", help="of the preset tacotron2-22k; by default griffin-lim")
parser.add_argument("-o", "--out", default="waveglow.wav")
arguments = parser.parse_args()

bundle = torchaudio.pipelines.TACOTRON2_GRIFFINLIM_CHAR_LJSPEECH  # 107 MB, fetched once
processor, tacotron2 = bundle.get_text_processor(), bundle.get_tacotron2()
voice = vocoder.load(arguments.voice)
# The next two lines were torch.hub.load(..., "nvidia_waveglow") and Denoiser(waveglow).
waveglow = vocoder.adapters.WaveGlowVocoder(voice, seed=0)
denoiser = vocoder.Denoiser(voice)

with torch.inference_mode():
    mel, _, _ = tacotron2.infer(*processor(arguments.text))
    audio = waveglow.infer(mel, sigma=0.666)
    audio = denoiser(audio, strength=0.1)
vocoder.write_wav(arguments.out, audio[0].cpu(), voice.sample_rate)
