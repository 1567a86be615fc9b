"""A Coqui TTS model and a voice of ours: python egs/tts/speak_coqui.py MODEL CONFIG "Hello." """

import argparse

import numpy as np
from TTS.utils.synthesizer import Synthesizer

import vocoder
from vocoder.adapters.coqui import denormalised_preset

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", help="its .pth")
parser.add_argument("config", help="its config.json")
parser.add_argument("text")
parser.add_argument("--voice", help="of the model's mels; by default Griffin-Lim")
parser.add_argument("-o", "--out", default="coqui.wav")
arguments = parser.parse_args()

synthesizer = Synthesizer(tts_checkpoint=arguments.model, tts_config_path=arguments.config)
default = vocoder.GriffinLimVocoder(denormalised_preset(synthesizer.tts_model.ap))
voice = vocoder.load(arguments.voice) if arguments.voice else default
vocoder.adapters.CoquiVocoder.plug_into(synthesizer, voice, seed=0)

audio = np.array(synthesizer.tts(arguments.text), dtype=np.float32)
vocoder.write_wav(arguments.out, audio, synthesizer.output_sample_rate)
