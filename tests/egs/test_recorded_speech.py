"""Corpora from packages: the rules of leaving out and holding out, and what a user meets."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import soundfile
from helpers import write_tone

from vocoder.data.speech.corpus import Corpus
from vocoder.data.speech.preprocess import preprocess

STORY = Path(__file__).parents[2] / "egs" / "recorded_speech"
SHARE = Path("/usr/share")
README = (STORY / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def story(monkeypatch):
    monkeypatch.syspath_prepend(str(STORY))
    for name in ("make_corpora", "packages", "synthetic"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("make_corpora")


@pytest.fixture
def run(story, monkeypatch, capsys):
    """Give a function that runs the script and returns what it printed."""

    def call(*arguments):
        command = ["make_corpora.py", *map(str, arguments), "--jobs", "1"]
        monkeypatch.setattr(sys, "argv", command)
        story.main()
        return capsys.readouterr().out

    return call


def prompt(story, group, below):
    return story.Recording(Path("x.g722"), group, PurePosixPath(below))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- the rules ----


def test_prompts_are_held_out_by_their_path_alone(story):
    shares = Counter()
    for number in range(4000):
        below = f"digits/{number}.g722"
        split = story.split_of_prompt(prompt(story, "en", below))
        assert split == story.split_of_prompt(prompt(story, "ru", below))
        digit = hashlib.sha1(below.encode()).hexdigest()[0]
        assert (split == "test") == (digit in "01")
        assert (split == "validation") == (digit == "2")
        shares[split] += 1
    assert shares["test"] == pytest.approx(500, abs=60)  # three deviations of 4000 draws at 1/8
    assert shares["validation"] == pytest.approx(250, abs=45)


@pytest.mark.parametrize(
    ("group", "below", "reason"),
    [
        ("en", "silence/1.g722", "silence"),
        ("it", "beep.g722", "a beep"),
        ("ru", "confbridge-join.g722", "a chime"),
        ("en", "seconds.g722", "the same recording as the held-out queue-seconds"),
        ("ru", "seconds.g722", None),
        ("en", "digits/1.g722", None),
        ("fr", "confbridge-leave-in.g722", None),
    ],
)
def test_what_is_no_prompt_is_named(story, group, below, reason):
    assert story.why_no_prompt(prompt(story, group, below)) == reason


def test_a_twin_is_left_out_of_training_for_one_that_is_held_out(story):
    for name, twin in sys.modules["packages"].TWINS.items():
        language, below = name.split("/")
        assert story.split_of_prompt(prompt(story, language, f"{below}.g722")) == "train"
        assert story.split_of_prompt(prompt(story, language, f"{twin}.g722")) != "train"


def test_clips_to_judge_are_spread_over_the_groups(story):
    clips = [(f"{group}/{n}.wav", 3.0) for group in ("en", "fr", "ru") for n in range(100)]
    chosen = story.to_judge([*clips, ("it/short.wav", 1.0), ("it/long.wav", 60.0)])
    assert Counter(path.split("/")[0] for path in chosen) == {"en": 40, "fr": 40, "ru": 40}
    assert chosen == story.to_judge(reversed(clips))
    assert len(story.to_judge(clips[:7])) == 7


def test_no_sentence_is_spoken_twice_and_a_part_is_held_out(story):
    sentences = story.plan()
    assert sentences == story.plan()
    for field in ("target", "text"):
        assert len({getattr(sentence, field) for sentence in sentences}) == len(sentences)
    n_held_out = sum(story.split_of_sentence(sentence) == "validation" for sentence in sentences)
    assert 0.03 < n_held_out / len(sentences) < 0.1


@pytest.mark.skipif(not list(SHARE.glob("asterisk/sounds/ru_*")), reason="needs the prompts")
def test_the_packages_hold_what_the_readme_says(story):
    found = [recording for package in story.PROMPTS for recording in package.recordings(SHARE)]
    usable = [r for r in found if not story.why_no_prompt(r) and r.source.stat().st_size]
    splits = Counter(story.split_of_prompt(recording) for recording in usable)
    assert splits == {"train": 2218, "validation": 221, "test": 301}
    for number in ("2,218", "221", "301"):
        assert number in README


def test_a_link_to_a_folder_is_no_second_folder(story, tmp_path):
    folder = tmp_path / "asterisk/sounds/ru_RU_f_IvrvoiceRU"
    (folder / "digits").mkdir(parents=True)
    (folder / "digits/1.g722").write_bytes(b"x")
    (folder.parent / "ru_RU").symlink_to(folder)
    (package,) = (package for package in story.PROMPTS if "-ru-" in package.name)
    assert len(package.recordings(tmp_path)) == 1


# ---- the work ----


@pytest.fixture
def share(tmp_path):
    """Give a folder like /usr/share with some lines of dialogue and some words."""
    share = tmp_path / "share"
    lines = share / "games/fillets-ng/sound"
    for number in range(24):
        for language in ("cs", "nl"):
            write_tone(lines / f"reef/{language}/{language}{number}.ogg")
    write_tone(lines / "reef/effect.ogg")
    for name in ("ktuberling/sounds/en/hat.ogg", "klettres/de/alpha/a.ogg"):
        write_tone(share / name, rate=44100)
    return share


def test_dialogue_becomes_a_corpus_to_judge_by(story, run, share, tmp_path, monkeypatch):
    monkeypatch.setattr("packages.JUDGED_DIGITS", "0123456789abcdef")
    lines = share / "games/fillets-ng/sound/reef"
    soundfile.write(lines / "cs/cs0.ogg", np.zeros(9000), 22050)
    shutil.copy(lines / "cs/cs1.ogg", lines / "nl/nl2.ogg")
    (lines / "nl/nl3.ogg").write_bytes(b"no sound")
    out = tmp_path / "dialogue"
    said = run("dialogue", out, "--share", share)
    assert "test 45 clips, 0.4 min; 3 files left out" in said
    reasons = dict(line.split("\t") for line in (out / "left_out.tsv").read_text().splitlines())
    assert reasons["fillets-ng-cs/reef/cs/cs0.ogg"].startswith("silent")
    same = "the same file as fillets-ng-cs/reef/cs/cs1.ogg"
    assert reasons["fillets-ng-nl/reef/nl/nl2.ogg"] == same
    assert reasons["fillets-ng-nl/reef/nl/nl3.ogg"].startswith("cannot be read")
    assert len(list(out.rglob("*.ogg"))) == 45
    report = preprocess(
        "wavs", out, tmp_path / "corpus", test_list=out / "test.txt", n_jobs=1, strict=True
    )
    assert len(Corpus.open(report.out).utterances("test")) == 45


def test_a_second_run_continues_and_ends_in_the_same(story, run, share, tmp_path, monkeypatch):
    monkeypatch.setattr("packages.JUDGED_DIGITS", "0123456789abcdef")
    out = tmp_path / "dialogue"
    said = run("dialogue", out, "--share", share)
    before = contents(out)
    kept, lost = out / "fillets-ng-cs/reef/cs/cs1.ogg", out / "fillets-ng-cs/reef/cs/cs2.ogg"
    time = kept.stat().st_mtime_ns
    lost.unlink()
    assert run("dialogue", out, "--share", share) == said
    assert contents(out) == before
    assert kept.stat().st_mtime_ns == time


def test_a_quarter_is_judged_and_none_in_a_language_of_the_prompts(run, share, tmp_path):
    out = tmp_path / "unseen"
    run("unseen", out, "--share", share)
    kept = (out / "test.txt").read_text().splitlines()
    assert 4 <= len(kept) <= 22  # of 49: three deviations of draws at 1/4
    assert not any("ktuberling-en" in name for name in kept)
    left_out = (out / "left_out.tsv").read_text()
    assert "ktuberling-en/hat.ogg\tin a language of the prompts, en\n" in left_out


# ---- what is to be mended ----


def test_what_is_not_installed_is_named_with_its_command(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit) as stopped:
        run("unseen", tmp_path / "out", "--share", tmp_path)
    names = "fillets-ng-data-cs fillets-ng-data-nl ktuberling-data klettres-data"
    remedy = f"make_corpora: not installed: {names}; run: apt-get install {names}"
    assert str(stopped.value) == remedy
    with pytest.raises(SystemExit, match=r"apt-get install ffmpeg asterisk-core-sounds-en-g722 "):
        run("prompts", tmp_path / "out", "--share", tmp_path)
    with pytest.raises(SystemExit, match=r" espeak-ng flite festival .* festvox-us-slt-hts$"):
        run("mixed", tmp_path / "out", "--share", tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_recordings_is_refused(run, share, tmp_path):
    out = tmp_path / "out"
    write_tone(out / "mine.wav", seconds=0.1)
    with pytest.raises(SystemExit, match=r"mine.wav: is not of this collection; give an empty"):
        run("dialogue", out, "--share", share)
    assert (out / "mine.wav").exists()


# ---- with the programs ----


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_prompts_are_decoded_once_and_split(run, tmp_path):
    share, out = tmp_path / "share", tmp_path / "out"
    for index, language in enumerate(("en_US", "es_MX", "fr_CA", "it_IT", "ru_RU")):
        folder = share / f"asterisk/sounds/{language}_f_Someone"
        for name in ("digits/1", "beep", "hello"):
            target = (folder / name).with_suffix(".g722")
            target.parent.mkdir(parents=True, exist_ok=True)
            tone = f"sine=f={200 + 50 * index + len(name)}:d=0.4:r=16000"
            command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", tone, "-f", "g722", target]
            subprocess.run(command, check=True)
    (share / "asterisk/sounds/ru_RU_f_Someone/is.g722").write_bytes(b"")
    said = run("prompts", out, "--share", share)
    assert "6 files left out" in said
    assert "ru/is.wav\tempty\n" in (out / "left_out.tsv").read_text()
    info = soundfile.info(out / "en/digits/1.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert info.frames == pytest.approx(0.4 * 16000, abs=32)
    assert run("prompts", out, "--share", share) == said


@pytest.mark.parametrize("program", ["espeak-ng", "flite", "text2wave"])
def test_a_sentence_is_spoken_and_its_pauses_are_not_silent(story, tmp_path, program):
    if shutil.which(program) is None or not (SHARE / story.FESTIVAL_VOICE).exists():
        pytest.skip(f"needs {program} and its voices")
    sentence = next(each for each in story.plan() if each.program == program)
    story.speak(sentence, tmp_path)
    audio, rate = soundfile.read(tmp_path / sentence.target, dtype="int16")
    assert rate == {"espeak-ng": 22050, "flite": 16000, "text2wave": 32000}[program]
    assert 1 < len(audio) / rate < 15
    assert np.diff(np.flatnonzero(np.diff(audio))).max() < 30  # samples that stay the same
    assert [path.name for path in tmp_path.rglob("*.*")] == [Path(sentence.target).name]
