"""torchaudio's Tacotron 2 and a voice of ours: python egs/tts/speak_torchaudio.py "Hello." """

import argparse

import torch
import torchaudio

import vocoder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text")
parser.add_argument("--voice", help="of the preset tacotron2-22k; by default griffin-lim")
parser.add_argument("-o", "--out", default="torchaudio.wav")
arguments = parser.parse_args()

bundle = torchaudio.pipelines.TACOTRON2_GRIFFINLIM_CHAR_LJSPEECH  # 107 MB, fetched once
processor, tacotron2 = bundle.get_text_processor(), bundle.get_tacotron2()
speaker = vocoder.adapters.TorchaudioVocoder(vocoder.load(arguments.voice), seed=0)

with torch.inference_mode():
    tokens, lengths = processor(arguments.text)
    specgrams, lengths, _ = tacotron2.infer(tokens, lengths)
    waveforms, lengths = speaker(specgrams, lengths)
vocoder.write_wav(arguments.out, waveforms[0, : lengths[0]].cpu(), speaker.sample_rate)
