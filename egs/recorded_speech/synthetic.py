"""Full-band speech of synthesisers: what recordings of 16 kHz cannot tell of the band above.

espeak-ng reads with many voices, at 22.05 kHz; Festival's voice `slt`, made from recordings of a
speaker, at 32 kHz; and flite's voices, made from recordings of four speakers, at 16 kHz.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from make_espeak_corpus import dither, normalise, sentences, words

# program: package
PROGRAMS = {"espeak-ng": "espeak-ng", "flite": "flite", "text2wave": "festival"}
FESTIVAL_PACKAGE = "festvox-us-slt-hts"
FESTIVAL_VOICE = "festival/voices/us/cmu_us_slt_arctic_hts"  # below /usr/share

ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029")
# All of espeak-ng's variants of a human voice; robots, whispers and demons are left out.
VARIANTS = words(
    """
    Alex Alicia Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael
    Mike Nguyen adam anika antonio aunty belinda benjamin boris caleb david ed edward edward2 f1 f2
    f3 f4 f5 grandma grandpa gustave iven iven2 iven3 iven4 john kaukovalta klatt klatt2 klatt3
    klatt4 linda m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel miguel norbert pablo paul pedro quincy
    rob robert sandro shelby steph steph2 steph3 travis victor zac
    """
)
LANGUAGES = words(
    """
    ca cs cy da de el es et eu fi fr-fr ga hi hr hu id is it lt lv nb nl pl pt pt-br ro ru sk sl sq
    sv sw ta tr uk vi
    """
)
FLITE_VOICES = ("awb", "kal16", "rms", "slt")
N_ACCENTED, N_NUMBERS, N_FLITE, N_FESTIVAL = 6, 3, 40, 200  # sentences of each voice


@dataclass(frozen=True)
class Sentence:
    """One sentence, and who speaks it."""

    target: str  # path in the corpus
    program: str
    voice: str
    text: str


def plan() -> list[Sentence]:
    """Return all sentences; no two have the same words."""
    texts = sentences(seed=11)
    planned = []
    for index, variant in enumerate(VARIANTS):
        voice = f"{ACCENTS[index % len(ACCENTS)]}+{variant}"
        planned += _spoken("espeak-ng", voice, itertools.islice(texts, N_ACCENTED))
    # A number is written alike in all languages, and each voice reads it in its own.
    numbers = _numbers(random.Random(11))
    for index, language in enumerate(LANGUAGES):
        voice = f"{language}+{VARIANTS[2 * index]}"
        planned += _spoken("espeak-ng", voice, itertools.islice(numbers, N_NUMBERS))
    for voice in FLITE_VOICES:
        planned += _spoken("flite", voice, itertools.islice(texts, N_FLITE))
    planned += _spoken("text2wave", "slt", itertools.islice(texts, N_FESTIVAL))
    return planned


def _spoken(program: str, voice: str, texts: Iterator[str]) -> list[Sentence]:
    folder = "festival" if program == "text2wave" else program
    return [
        Sentence(f"{folder}/{voice.replace('+', '-')}/{number:03d}.wav", program, voice, text)
        for number, text in enumerate(texts, 1)
    ]


def _numbers(chance: random.Random) -> Iterator[str]:
    """Yield rows of numbers without end, in the tones of statement, list and question."""
    while True:
        parts = [str(chance.randrange(10 ** chance.randrange(1, 6))) for _ in range(5)]
        yield f"{parts[0]}, {parts[1]}; {parts[2]}. {parts[3]}, {parts[4]}{chance.choice('.?!')}"


def speak(sentence: Sentence, out: Path) -> Sentence:
    """Write the sound of a sentence, unless it is there, and return the sentence.

    Raises:
        OSError: the program made no sound.
    """
    path = out / sentence.target
    if path.exists():
        return sentence
    path.parent.mkdir(parents=True, exist_ok=True)
    spoken, part = (path.with_name(f".{path.stem}.{end}") for end in ("spoken", "part"))
    chance = random.Random(sentence.text)
    english = normalise(sentence.text)
    if sentence.program == "espeak-ng":
        text = english if sentence.voice.startswith("en") else sentence.text
        pitch, pace = str(chance.randrange(40, 61)), str(chance.randrange(140, 186))
        command = ["espeak-ng", "-v", sentence.voice, "-a", "80", "-p", pitch, "-s", pace]
        command += ["-w", str(spoken), "--", text]
    elif sentence.program == "flite":
        command = ["flite", "-voice", sentence.voice, "-t", english, "-o", str(spoken)]
    else:
        voice = "(voice_cmu_us_slt_arctic_hts)"
        command = ["text2wave", "-eval", voice, "-o", str(spoken), "-"]
    done = subprocess.run(command, input=english, text=True, capture_output=True, check=False)
    if done.returncode or not spoken.exists():
        reason = (done.stderr.strip() or "made no sound").splitlines()[0]
        raise OSError(f"{' '.join(command[:3])}: {reason}")
    audio, rate = soundfile.read(spoken, dtype="int16")
    # Without digital silence, on which a likelihood earns without bound.
    seed = (chance.randrange(2**31), 0)
    soundfile.write(part, dither(np.asarray(audio), seed), rate, "PCM_16", format="WAV")
    spoken.unlink()
    os.replace(part, path)
    return sentence
