"""SpeechT5 of transformers and a voice of ours: python egs/tts/speak_huggingface.py "Hello." """

import argparse

import torch
import transformers

import vocoder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text")
parser.add_argument("--voice", help="of the preset speecht5-16k; by default Griffin-Lim")
parser.add_argument("--speaker", help="an x-vector of 512 numbers, .npy; by default a flat one")
parser.add_argument("-o", "--out", default="huggingface.wav")
arguments = parser.parse_args()

name = "microsoft/speecht5_tts"  # fetched once
processor = transformers.SpeechT5Processor.from_pretrained(name)
model = transformers.SpeechT5ForTextToSpeech.from_pretrained(name)
default = vocoder.GriffinLimVocoder("speecht5-16k")
voice = vocoder.load(arguments.voice) if arguments.voice else default
speaker = vocoder.adapters.HuggingFaceVocoder(voice, seed=0)

tokens = processor(text=arguments.text, return_tensors="pt")["input_ids"]
who = torch.zeros(1, 512)
if arguments.speaker:
    import numpy

    who = torch.from_numpy(numpy.load(arguments.speaker)).float().reshape(1, 512)
audio = model.generate_speech(tokens, who, vocoder=speaker)
vocoder.write_wav(arguments.out, audio.cpu(), speaker.config.sampling_rate)
