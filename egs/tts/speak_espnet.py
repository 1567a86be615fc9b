"""An ESPnet2 model and a voice of ours: python egs/tts/speak_espnet.py CONFIG MODEL "Hello." """

import argparse

from espnet2.bin.tts_inference import Text2Speech

import vocoder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("config", help="the config.yaml of the training")
parser.add_argument("model", help="its .pth")
parser.add_argument("text")
parser.add_argument("--voice", help="of the preset pwg-22k; by default Griffin-Lim")
parser.add_argument("-o", "--out", default="espnet.wav")
arguments = parser.parse_args()

text2speech = Text2Speech(arguments.config, arguments.model)
default = vocoder.GriffinLimVocoder("pwg-22k")
voice = vocoder.load(arguments.voice) if arguments.voice else default
text2speech.vocoder = vocoder.adapters.EspnetVocoder(voice, seed=0)

audio = text2speech(arguments.text)["wav"]
vocoder.write_wav(arguments.out, audio.cpu(), text2speech.fs)
