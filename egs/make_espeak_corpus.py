"""Make an LJSpeech-shaped corpus of invented sentences with espeak-ng.

    python egs/make_espeak_corpus.py data/espeak --hours 3

writes OUT/metadata.csv (`id|text|normalised text`) and OUT/wavs/ID.wav: 22.05 kHz, mono, 16 bit.
The same arguments and the same espeak-ng give the same bytes, however many processes work.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

SAMPLE_RATE = 22050
SHORTEST = 2.0  # seconds; shorter clips are left out
MARGIN = 0.05  # seconds of silence kept before and after the speech


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split(","))


# The words are chosen for their sounds: every English phoneme, common and rare clusters, and one to
# five syllables with the stress in every place.
PERSON = phrases(
    """
    the judge, my uncle, a young teacher, our neighbour, the captain, her brother, the nurse, a
    tired musician, the engineer, an old sailor, the children, the chef, your cousin, a cheerful
    farmer, the pianist, his daughter, the mayor, a quiet librarian, the photographer, an honest
    lawyer, the boy, the whole choir, a stranger, the princess, two brothers, the thief, a clever
    girl, the architect, the wizard, someone, nobody, everyone, the goalkeeper, a zoologist, the
    queen, that shoemaker, the governor, an azure ghost, the youngest voyager, the plumber, a
    physicist, the orchestra
    """
)
NAME = words(
    """
    Alice George Ruth Theodore Joyce Hugh Chloe Walter Yvonne Zachary Beth Oliver Margaret Vincent
    Isabel Jonathan Phoebe Thomas Wendy Charles Edith Arthur Naomi Ursula Patrick Queenie Howard
    Leonora
    """
)
THING = words(
    """
    bottle garage engine whistle treasure machine jacket vase feather orange kitchen watch cloth
    thumb village bridge window coin yacht fish camera television mushroom guitar ladder puzzle
    pigeon cabbage thread compass church journal lantern violin bucket onion zipper blanket mirror
    magazine statue telescope umbrella drawer sandwich oyster trousers shovel bicycle apple garden
    lighthouse engagement envelope boulder pillow cushion hedgehog elephant beehive crown mouse
    tooth wreath string square harbour toy noise fountain museum cathedral thunderstorm beverage
    glacier squirrel newspaper wheel wooden-spoon cookbook staircase waterfall
    """
)
ADJECTIVE = words(
    """
    small beige enormous curious thick yellow broken gentle purple foolish wealthy ancient bright
    hollow quiet royal rusty shallow smooth strange tiny unusual visible warm wooden young zealous
    anxious joyful narrow loud crooked fresh golden heavy icy juicy kind lovely mysterious noisy
    original pleasant rough square thirsty ugly vague awkward clean dusty early fragile genuine
    huge shiny thoughtful worthless azure cheap
    """
)
PAST = words(
    """
    measured painted carried borrowed admired found washed pushed watched sold judged described
    bought enjoyed pulled threw hid noticed moved fixed caught dropped examined ignored lifted
    mentioned needed opened polished questioned repaired shook touched used valued wanted covered
    destroyed chose drew guarded heard imagined kicked lost photographed recognised searched
    weighed wrapped
    """
)
VERB = words(
    """
    measure paint carry borrow admire find wash push watch sell judge describe buy enjoy pull throw
    hide notice move fix catch drop examine ignore lift mention need open polish question repair
    shake touch use value want cover destroy choose draw guard hear imagine kick lose photograph
    recognise
    """
)
ADVERB = words(
    """
    slowly quickly usually gently loudly carefully yesterday suddenly patiently secretly happily
    finally seldom often unfortunately casually politely twice together anyway foolishly thoroughly
    rarely beautifully joyfully silently
    """
)
PLACE = phrases(
    """
    in the garden, under the bridge, near the harbour, behind the church, at the station, in
    Chicago, beside the river, on the roof, above the valley, outside the village, in the south of
    France, through the forest, between two houses, around the corner, over the mountains, in the
    museum, along the beach, at the zoo, inside an old factory, across the ocean, within the walls,
    by the fireside, in New Zealand, throughout Asia, down in the cellar, on a rough road, north of
    the equator
    """
)
TIME = phrases(
    """
    on Thursday, before lunch, in July, at dawn, during the night, after the war, last February, in
    the middle of the week, every other Wednesday, at noon, for years, in early autumn, on her
    birthday, long ago, this evening, once a month, while it rained, without any warning, after a
    short pause
    """
)
REASON = phrases(
    """
    because the weather was changing, though nobody had asked, since the door was locked, so that
    the horses could rest, until the music stopped, as if it were made of glass, which surprised us
    all, although the price was too high, and the crowd went quiet, but the letter never arrived,
    while the children were laughing, unless I am mistaken, in order to save both time and money,
    and that was a pleasure to see, but I would rather stay at home
    """
)
SAYING = phrases(
    """
    I think, they say, we believe, it is true that, she told me that, he often says that, you
    should know that, nobody doubts that, the newspaper claims that, in my view, as usual, to be
    fair
    """
)
EXCLAMATION = phrases(
    """
    what a, just look at this, not another, here is the, how I miss that, oh dear: a
    """
)
OPENING = phrases(
    """
    well, yes, no, however, in fact, at last, of course, by the way, on the other hand, for
    example, meanwhile, strangely enough, to my great joy
    """
)
UNIT = words(
    """
    dollars miles pounds years days metres voices pages tonnes degrees boxes minutes
    """
)


def normalise(text: str) -> str:
    """Spell out the numbers, which are below a million and all that is not a word here."""
    return re.sub(r"\d+", lambda number: spell(int(number.group())), text)


def spell(number: int) -> str:
    """Return `number`, 0 to 999,999, in words."""
    small = words(
        """
        zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
        fifteen sixteen seventeen eighteen nineteen
        """
    )
    tens = words("- - twenty thirty forty fifty sixty seventy eighty ninety")
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            joint = " and " if rest and (rest < 100) else " "
            return f"{spell(number // size)} {name}" + (joint + spell(rest) if rest else "")
    if number < 20:
        return small[number]
    return tens[number // 10] + (f"-{small[number % 10]}" if number % 10 else "")


def sentences(seed: int) -> Iterator[str]:
    """Yield different sentences without end; the same ones for the same seed."""
    chance = random.Random(seed)
    seen = set()
    while True:
        sentence = one_sentence(chance)
        if sentence not in seen:
            seen.add(sentence)
            yield sentence


def one_sentence(chance: random.Random) -> str:
    pick = chance.choice

    def maybe(probability: float, choices: tuple[str, ...]) -> str:
        return f" {pick(choices)}" if chance.random() < probability else ""

    def spoken(word: str) -> str:
        return word.replace("-", " ")

    def thing() -> str:
        described = f"{pick(ADJECTIVE)} " if chance.random() < 0.7 else ""
        return described + spoken(pick(THING))

    def with_article() -> str:
        noun = thing()
        return pick(("the", "this", "her", "that", "an" if noun[0] in "aeio" else "a")) + f" {noun}"

    def who() -> str:
        return pick(NAME) if chance.random() < 0.35 else pick(PERSON)

    def number() -> str:
        digits = pick((1, 2, 2, 3, 4, 5))
        return str(chance.randrange(10 ** (digits - 1) + 1, 10**digits))

    def statement() -> str:
        opening = (
            f"{pick(OPENING)}, " if chance.random() < 0.2 else maybe(0.2, SAYING).lstrip() + " "
        )
        return (
            f"{opening.lstrip()}{who()}{maybe(0.3, ADVERB)} {pick(PAST)} {with_article()}"
            f"{maybe(0.6, PLACE)}{maybe(0.3, TIME)}"
            + (f", {pick(REASON)}" if chance.random() < 0.35 else "")
            + "."
        )

    def question() -> str:
        asking = pick(("did", "would", "could", "why did", "where did", "when will", "how could",
                       "shouldn't", "who says that"))  # fmt: skip
        verb = pick(PAST) if asking == "who says that" else pick(VERB)
        return f"{asking} {who()} {verb} {with_article()}{maybe(0.5, PLACE)}{maybe(0.3, TIME)}?"

    def choice() -> str:
        return f"would you rather {pick(VERB)} {with_article()}, or {pick(VERB)} {with_article()}?"

    def listing() -> str:
        items = ", ".join(thing() for _ in range(chance.randrange(2, 5)))
        start = pick(
            ("we packed", "there was", "please bring", "she asked for", "I counted", "buy")
        )
        return f"{start} {with_article()}, {items}, and {with_article()}{maybe(0.3, PLACE)}."

    def count() -> str:
        unit = spoken(pick(UNIT))
        start = pick((f"{who()} paid {number()} {unit} for", f"it took {number()} {unit} to reach",
                      f"only {number()} {unit} remained of", f"in {number()}, {who()} {pick(PAST)}",
                      f"page {number()} shows"))  # fmt: skip
        return f"{start} {with_article()}{maybe(0.5, PLACE)}."

    def exclamation() -> str:
        return f"{pick(EXCLAMATION)} {thing()}! {pick(NAME)}, {pick(VERB)} it{maybe(0.8, TIME)}!"

    def quotation() -> str:
        return (
            f"{pick(VERB)} {with_article()}, said {who()}, and {pick(VERB)} {with_article()} too."
        )

    def contrast() -> str:
        aside = pick(TIME) if chance.random() < 0.5 else "though"
        first, second = (f"{pick(PAST)} {with_article()}" for _ in range(2))
        return f"{who()} {first}; {who()}, {aside}, {second}."

    kinds = (statement, question, choice, listing, count, exclamation, quotation, contrast)
    sentence = chance.choices(kinds, weights=(8, 4, 1, 2, 3, 2, 2, 2))[0]()
    return sentence[0].upper() + sentence[1:]


class Order(NamedTuple):
    """One sentence to speak, with all that its sound depends on."""

    index: int
    text: str
    voice: str
    seed: int


def speak(order: Order) -> np.ndarray:
    """Return the spoken sentence, (N,) int16; pitch and pace differ a little between sentences."""
    chance = random.Random(f"{order.seed}/{order.index}")
    pitch, pace = str(chance.randrange(44, 57)), str(chance.randrange(150, 181))
    command = [
        "espeak-ng",
        "-z",
        "--stdout",
        "-v",
        order.voice,
        "-a",
        "80",
        "-p",
        pitch,
        "-s",
        pace,
    ]
    result = subprocess.run(
        [*command, "--", normalise(order.text)], capture_output=True, check=False
    )
    if result.returncode or not result.stdout:
        reason = result.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"espeak-ng: {reason[0] if reason else 'made no sound'}")
    # espeak-ng cannot seek in a pipe, so the length in its header is wrong; samples follow byte 44.
    header, body = result.stdout[:44], result.stdout[44:]
    if int.from_bytes(header[24:28], "little") != SAMPLE_RATE:
        raise RuntimeError(
            f"espeak-ng: voice {order.voice!r} is not of {SAMPLE_RATE} Hz; use another"
        )
    speech = np.frombuffer(body[: len(body) // 2 * 2], "<i2")
    loud = np.flatnonzero(np.abs(speech) > 8)
    if loud.size:
        speech = speech[loud[0] : loud[-1] + 1]
    margin = np.zeros(round(MARGIN * SAMPLE_RATE), np.int16)
    return dither(np.concatenate([margin, speech, margin]), seed=(order.seed, order.index))


def dither(audio: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """Add triangular noise of at most ±2 steps.

    A likelihood model earns without bound on digital silence, which no recording has.
    """
    noise = np.random.default_rng(seed).integers(-1, 2, (2, len(audio))).sum(0)
    return np.clip(audio + noise, -32768, 32767).astype(np.int16)


def encoded(order: Order, file_format: str) -> tuple[Order, float, bytes]:
    """Return the order, its seconds, and the sound as the bytes of a file."""
    audio = speak(order)
    file = io.BytesIO()
    soundfile.write(file, audio, SAMPLE_RATE, "PCM_16", format=file_format)
    return order, len(audio) / SAMPLE_RATE, file.getvalue()


def make(arguments: argparse.Namespace) -> tuple[int, float]:
    """Write the corpus; return how many clips and seconds it has."""
    wavs = arguments.out / "wavs"
    wavs.mkdir(parents=True, exist_ok=True)
    orders = (
        Order(index, text, arguments.voice, arguments.seed)
        for index, text in enumerate(sentences(arguments.seed))
    )
    encode = functools.partial(encoded, file_format=arguments.format)
    rows, seconds = [], 0.0
    with multiprocessing.Pool(arguments.jobs) as pool:
        # Batches bound how far the workers run ahead; the order of the results is that of the text.
        while not enough(arguments, len(rows), seconds):
            batch = list(itertools.islice(orders, 64))
            for order, length, data in pool.imap(encode, batch, chunksize=4):
                fits = SHORTEST <= length <= arguments.longest
                if not fits or enough(arguments, len(rows), seconds):
                    continue
                identity = f"ES{len(rows) + 1:06d}"
                (wavs / f"{identity}.{arguments.format}").write_bytes(data)
                rows.append((identity, order.text, normalise(order.text)))
                seconds += length
    # Written last: a folder with metadata is a whole corpus.
    lines = "".join("|".join(row) + "\n" for row in rows)
    (arguments.out / "metadata.csv").write_text(lines, encoding="utf-8")
    return len(rows), seconds


def enough(arguments: argparse.Namespace, n_clips: int, seconds: float) -> bool:
    return n_clips >= arguments.clips if arguments.clips else seconds >= arguments.hours * 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--hours", type=float, default=1.0, help="length of the corpus (default 1)")
    size.add_argument("--clips", type=int, help="number of clips, instead of hours")
    parser.add_argument("--longest", type=float, default=9.0, help="seconds of a clip (default 9)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other sentences")
    parser.add_argument("--format", choices=("wav", "flac"), default="wav")
    parser.add_argument("--voice", default="en-us", help="see `espeak-ng --voices` (default en-us)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    arguments = parser.parse_args()
    if arguments.longest <= SHORTEST:
        parser.error(f"--longest must be more than {SHORTEST:g} seconds")
    if shutil.which("espeak-ng") is None:
        sys.exit("make_espeak_corpus: espeak-ng is not installed; `apt install espeak-ng`")
    if (arguments.out / "metadata.csv").exists():
        sys.exit(f"make_espeak_corpus: {arguments.out} holds a corpus already; give another folder")
    try:
        n_clips, seconds = make(arguments)
    except (RuntimeError, OSError) as error:
        sys.exit(f"make_espeak_corpus: {error}")
    print(f"{arguments.out}: {n_clips} clips, {seconds / 3600:.2f} hours")


if __name__ == "__main__":
    main()
