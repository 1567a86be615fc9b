"""Every command through the real entry point."""

from __future__ import annotations

import io
import json
import re
import resource
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import assert_one_error_line, error_command, left_in, run_apart
from helpers import make_corpus, write_tone
from hypothesis import given
from hypothesis import strategies as st
from voices import TACOTRON2, save_tiny_voice, some_mel

import vocoder
from vocoder.files.audio import read_wav, write_wav
from vocoder.mel.convert import convert_mel
from vocoder.mel.files import read_mel, write_mel
from vocoder.mel.presets import PRESETS, get_preset
from vocoder.synthesis.sources import natural_key
from vocoder.voice.catalogue import default_voice
from vocoder.voice.load import load


def save_mel(path, n_frames=4, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, some_mel(n_frames, seed).numpy())
    return path


def n_samples(path_or_bytes):
    source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else str(path_or_bytes)
    with wave.open(source) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getnframes()


# ---- the group ----


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["synthesize", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from vocoder.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as error: assert error.code == 0, error.code\n"
        "heavy = {'torch', 'numpy', 'librosa', 'soundfile', 'torchaudio', 'tqdm'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (b"Usage: vocoder" if arguments != ["--version"] else b"vocoder, version") in done.stdout


def test_help_answers_at_once():
    """In processor time, and the best of several tries: other work on the machine is not ours."""

    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run_apart("--help").code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


def test_a_misspelt_command_is_suggested(run):
    assert_one_error_line(
        run("synthesise"), "no command 'synthesise'", "did you mean 'synthesize'?"
    )
    assert_one_error_line(run("qqqq"), "`vocoder --help` lists them")


@pytest.mark.parametrize("arguments", [["train"], ["synthesize", "-o", "x"], ["info", "--nope"]])
def test_a_wrong_use_is_one_line(run, arguments):
    assert_one_error_line(run(*arguments))


def test_ctrl_c_is_quiet(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vocoder.recipe.list_recipes", interrupted)
    result = run("recipes")
    assert (result.code, result.err.strip(), result.out) == (130, "", b"")


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken():
        raise RuntimeError("ours")

    monkeypatch.setattr("vocoder.recipe.list_recipes", broken)
    with pytest.raises(RuntimeError, match="ours"):
        vocoder.cli.main(["recipes"])


def test_a_closed_pipe_is_quiet():
    command = f"{sys.executable} -m vocoder presets | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


# ---- synthesize: one input ----


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
def test_every_mel_format_says_the_same(run, tmp_path, voice, suffix):
    mel = some_mel(4)
    if suffix == ".pt":
        torch.save(mel, tmp_path / "a.pt")
    else:
        write_mel(tmp_path / f"a{suffix}", mel, TACOTRON2)
    result = run(
        "synthesize",
        tmp_path / f"a{suffix}",
        "-o",
        tmp_path / "a.wav",
        "--voice",
        voice,
        "--seed=1",
    )
    assert result.code == 0, result.err
    assert result.out == b""
    audio, rate = read_wav(tmp_path / "a.wav")
    assert rate == 22050
    expected = load(voice).synthesize(mel, seed=1).numpy().clip(-1, 32767 / 32768)
    np.testing.assert_allclose(audio, expected, atol=1 / 32768)


def test_frames_first_is_recognised(run, tmp_path, voice):
    mel = some_mel(5).numpy()
    for name, array in (("a", mel), ("b", mel.T)):
        np.save(tmp_path / f"{name}.npy", array)
    inputs = (tmp_path / "a.npy", tmp_path / "b.npy")
    assert run("synthesize", *inputs, "-o", tmp_path, "--voice", voice, "--seed=1").code == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_standard_input_to_standard_output(run, tmp_path, voice):
    content = save_mel(tmp_path / "a.npy").read_bytes()
    result = run("synthesize", "-", "-o", "-", "--voice", voice, "--seed=1", stdin=content)
    assert result.code == 0, result.err
    assert n_samples(result.out) == 4 * 256
    run("synthesize", tmp_path / "a.npy", "-o", tmp_path, "--voice", voice, "--seed=1")
    assert result.out == (tmp_path / "a.wav").read_bytes()


def test_standard_output_through_a_real_pipe(tmp_path, voice):
    content = save_mel(tmp_path / "a.npy").read_bytes()
    result = run_apart("synthesize", "-", "-o", "-", "--voice", voice, input=content)
    assert n_samples(result.out) == 4 * 256
    assert "× real time" in result.err


def test_the_closing_line(run, tmp_path, voice):
    save_mel(tmp_path / "a.npy", 43)
    result = run("synthesize", tmp_path / "a.npy", "-o", tmp_path / "out", "--voice", voice)
    line = re.fullmatch(
        r"vocoder: 1 file, 0\.50 s of audio in (\S+) s: (\S+) × real time \(\S+tiny.*, cpu\)\n",
        result.err.splitlines(keepends=True)[-1],
    )
    assert line
    assert float(line[2]) > 0


def test_clipped_samples_are_counted(run, tmp_path, voice):
    save_mel(tmp_path / "a.npy")
    where = ("-o", tmp_path / "a.wav", "--voice", voice, "--seed=1")
    result = run("synthesize", tmp_path / "a.npy", *where, "--temperature=5")
    assert re.search(r"a\.wav: \d+ samples were clipped", result.err)
    assert "clipped" not in run("synthesize", tmp_path / "a.npy", *where, "--temperature=0").err


def test_the_default_voice_is_named_with_its_reason(run, tmp_path):
    save_mel(tmp_path / "a.npy")
    result = run("synthesize", tmp_path / "a.npy", "-o", tmp_path / "a.wav")
    default = default_voice(TACOTRON2)
    told = f"vocoder: voice {default.voice}, the default for tacotron2-22k: {default.reason}\n"
    assert told in result.err
    assert n_samples(tmp_path / "a.wav") == 4 * 256


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A package that ships a voice called "tiny", which is the default."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    save_tiny_voice(folder / "tiny.safetensors")
    (folder / "tiny.md").write_text("# A tiny voice")
    voice = {"file": "tiny.safetensors", "card": "tiny.md", "figures": {"stoi": 0.25}}
    default = {"voice": "tiny", "reason": "STOI 0.25 against 0.2"}
    catalogue = {
        "presets": {"tacotron2-22k": default},
        "no_voice": "nothing else",
        "griffin_lim_refine": 1,
        "voices": {"tiny": voice},
    }
    (folder / "voices.json").write_text(json.dumps(catalogue))
    monkeypatch.setattr("vocoder.voice.catalogue._FOLDER", folder)
    return folder


def test_a_shipped_voice_is_known_by_its_name(run, tmp_path, shipped):
    mel = save_mel(tmp_path / "a.npy")
    run("synthesize", mel, "-o", tmp_path / "named.wav", "--voice", "tiny", "--seed=1")
    result = run("synthesize", mel, "-o", tmp_path / "default.wav", "--seed=1")
    told = "vocoder: voice tiny, the default for tacotron2-22k: STOI 0.25 against 0.2\n"
    assert told in result.err
    assert (tmp_path / "named.wav").read_bytes() == (tmp_path / "default.wav").read_bytes()
    assert load().name == "tiny"
    text = run("info", "tiny").out.decode()
    assert str(shipped / "tiny.md") in text
    assert re.search(r"^stoi +0\.25$", text, re.MULTILINE)
    assert_one_error_line(run("info", "tony"), "griffin-lim, tiny", "did you mean 'tiny'?")


def test_each_mel_of_a_folder_is_spoken_by_the_default_voice_of_its_preset(run, tmp_path, shipped):
    other = get_preset("hifigan-22k")
    (tmp_path / "mels").mkdir()
    write_mel(tmp_path / "mels" / "a.npz", some_mel(4), TACOTRON2)
    write_mel(tmp_path / "mels" / "b.npz", some_mel(4), other)
    result = run("synthesize", tmp_path / "mels", "-o", tmp_path / "out", "--seed=1")
    assert "vocoder: voice tiny, the default for tacotron2-22k: STOI 0.25 against" in result.err
    assert "vocoder: voice griffin-lim, the default for hifigan-22k: nothing else" in result.err
    assert "(tiny, griffin-lim, cpu)" in result.err
    for name, voice in (("a", "tiny"), ("b", "griffin-lim")):
        alone = tmp_path / f"{name}.wav"
        mel = tmp_path / "mels" / f"{name}.npz"
        run("synthesize", mel, "-o", alone, "--seed=1", "--voice", voice)
        assert (tmp_path / "out" / f"{name}.wav").read_bytes() == alone.read_bytes()


def test_a_preset_has_a_default_voice_of_its_own_and_a_voice_its_own_refinement(
    run, tmp_path, shipped, caplog
):
    content = json.loads((shipped / "voices.json").read_text())
    content["voices"]["tiny"] |= {"refine": 2, "stream_refine": 1}
    (shipped / "voices.json").write_text(json.dumps(content))
    mel = save_mel(tmp_path / "a.npy")
    command = ("synthesize", mel, "--seed=1", "-o", tmp_path / "default.wav")
    assert "voice tiny, the default for tacotron2-22k" in run(*command).err
    named = ("synthesize", mel, "--seed=1", "--voice=tiny", "-o")
    run(*named, tmp_path / "refined.wav", "--refine=2")
    run(*named, tmp_path / "plain.wav", "--refine=0")
    default = (tmp_path / "default.wav").read_bytes()
    assert default == (tmp_path / "refined.wav").read_bytes()
    assert default != (tmp_path / "plain.wav").read_bytes()
    assert re.search(r"^default voice of tacotron2-22k +tiny ", run("info").out.decode(), re.M)
    told = run("info", "tiny").out.decode()
    assert re.search(r"^mel consistency +2 steps, 1 in a stream, where", told, re.M)
    plain = run("info", shipped / "tiny.safetensors").out.decode()
    latencies = [int(re.search(r"^stream latency +(\d+)", text, re.M)[1]) for text in (told, plain)]
    assert latencies[0] - latencies[1] == 3  # what a step reaches ahead
    pytest.importorskip("onnxruntime")
    run("export", "tiny", "-o", tmp_path / "tiny.onnx")
    assert "tiny: takes 2 steps of mel consistency by itself, which a graph cannot" in caplog.text


def test_a_path_of_a_shipped_name_is_a_path(run, tmp_path, shipped, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mel = save_mel(tmp_path / "a.npy")
    (tmp_path / "tiny").mkdir()
    for command in (("synthesize", mel, "-o", "a.wav", "--voice"), ("benchmark",)):
        assert_one_error_line(run(*command, "./tiny"), "tiny: holds no checkpoint")
        # Not the current folder, which an empty path is.
        assert_one_error_line(run(*command, ""), "voice '': no such file")


# ---- synthesize: many inputs ----


def test_a_folder_keeps_its_names(run, tmp_path, voice):
    for name in ("b", "a10", "a9", "deep/er/c"):
        save_mel(tmp_path / f"in/{name}.npy")
    (tmp_path / "in/.hidden.npy").write_bytes(b"junk")
    (tmp_path / "in/notes.txt").write_text("not a list here")
    result = run("synthesize", tmp_path / "in", "-o", tmp_path / "out", "--voice", voice)
    assert result.code == 0, result.err
    assert left_in(tmp_path / "out") == ["a10.wav", "a9.wav", "b.wav", "deep/er/c.wav"]
    assert "vocoder: 4 files" in result.err


def test_a_list_is_relative_to_itself(run, tmp_path, voice):
    save_mel(tmp_path / "lists/sub/a.npy")
    save_mel(tmp_path / "b.npy")
    listing = tmp_path / "lists/some.txt"
    listing.write_text(f"sub/a.npy\n\n../b.npy\n{save_mel(tmp_path / 'c.npy')}\n")
    result = run("synthesize", listing, "-o", tmp_path / "out", "--voice", voice)
    assert result.code == 0, result.err
    assert left_in(tmp_path / "out") == ["b.wav", "c.wav", "sub/a.wav"]


def test_a_preprocessed_corpus(run, tmp_path, voice):
    make_corpus(tmp_path / "corpus", n_clips=2)
    result = run("synthesize", tmp_path / "corpus", "-o", tmp_path / "out", "--voice", voice)
    assert result.code == 0, result.err
    assert left_in(tmp_path / "out") == ["clip0.wav", "clip1.wav"]
    mel = np.load(tmp_path / "corpus/mels/clip0.npy")
    assert n_samples(tmp_path / "out/clip0.wav") == mel.shape[1] * 256


def test_copy_synthesis_resamples(run, tmp_path, voice):
    """A tone at 44.1 kHz, analysed at the voice's rate, lasts as long as before."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(22_050) / 44_100)
    write_wav(tmp_path / "tone.wav", tone, 44_100)
    out = tmp_path / "out"
    result = run("synthesize", tmp_path / "tone.wav", "-o", out, "--voice", voice)
    assert result.code == 0, result.err
    n_frames = TACOTRON2.n_frames(11_025)
    assert n_samples(out / "tone.wav") == n_frames * 256


@pytest.mark.parametrize("batch_size", [2, 3, 10])
def test_the_batch_size_changes_nothing(run, tmp_path, voice, batch_size):
    for n_frames in (7, 2, 5, 3):
        save_mel(tmp_path / f"in/{n_frames}.npy", n_frames, seed=n_frames)
    for size in (1, batch_size):
        out = tmp_path / f"out{size}"
        run(
            "synthesize", tmp_path / "in", "-o", out, "--voice", voice, "--seed=1",
            "--batch-size", size,
        )  # fmt: skip
    for one in (tmp_path / "out1").iterdir():
        alone, _ = read_wav(one)
        batched, _ = read_wav(tmp_path / f"out{batch_size}" / one.name)
        np.testing.assert_allclose(batched, alone, atol=2 / 32768)  # rounded to 16 bits


def test_griffin_lim_takes_each_mel_by_its_own_preset(run, tmp_path):
    for name in ("vocos-24k", "tacotron2-22k", "pwg-24k"):
        preset = get_preset(name)
        mel = torch.full((preset.n_mels, 4), preset.silence_floor)
        write_mel(tmp_path / f"{name}.npz", mel, preset)
    inputs = sorted(tmp_path.glob("*.npz"))
    out = tmp_path / "out"
    result = run("synthesize", *inputs, "-o", out, "--voice", "griffin-lim", "--batch-size=3")
    assert result.code == 0, result.err
    for name, n_total, rate in (
        ("vocos-24k", 1024, 24000), ("tacotron2-22k", 1024, 22050), ("pwg-24k", 1200, 24000)
    ):  # fmt: skip
        audio, sample_rate = read_wav(out / f"{name}.wav")
        assert (len(audio), sample_rate) == (n_total, rate)


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_is_that_of_the_numbers(numbers):
    names = [f"clip{number}" for number in numbers]
    assert sorted(names, key=natural_key) == [f"clip{number}" for number in sorted(numbers)]


@given(st.lists(st.text()))
def test_any_names_can_be_ordered(names):
    sorted(names, key=natural_key)


# ---- synthesize: which file, which preset ----


def test_two_inputs_for_one_output_are_refused_before_any_work(run, tmp_path, voice):
    a, b = save_mel(tmp_path / "1/x.npy"), save_mel(tmp_path / "2/x.npy")
    out = tmp_path / "out"
    result = run("synthesize", a, b, "-o", out, "--voice", voice)
    assert_one_error_line(result, out / "x.wav", a, b)
    assert not out.exists()


def test_an_input_is_never_replaced(run, tmp_path):
    path = tmp_path / "a.wav"
    write_wav(path, np.zeros(3000), 22050)
    before = path.read_bytes()
    assert_one_error_line(run("synthesize", path, "-o", tmp_path), path, "would replace an input")
    assert path.read_bytes() == before


def test_one_file_holds_one_input(run, tmp_path):
    mels = [save_mel(tmp_path / f"{i}.npy") for i in range(2)]
    assert_one_error_line(run("synthesize", *mels, "-o", tmp_path / "x.wav"), "2 inputs")
    assert_one_error_line(run("synthesize", *mels, "-o", "-"), "one input")
    assert_one_error_line(run("synthesize", mels[0], "-o", tmp_path / "x.flac"), "only .wav")


def test_an_output_is_a_file_that_can_be_written_or_a_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_mel(Path("a.npy"))
    speak = ("synthesize", "a.npy", "--voice", "griffin-lim", "-o")
    convert = ("convert-mel", "a.npy", "--from", "tacotron2-22k", "--to", "nanoflow-db-22k", "-o")
    assert_one_error_line(run(*speak, "b.mp3"), "only .wav files", "b.mp3/ if that is one")
    assert_one_error_line(run(*convert, "b.pt"), "only .npz, .safetensors, .npy files")
    for command, names in ((speak, [""]), (convert, ["", "-"])):
        for name in names:
            assert_one_error_line(run(*command, name), f"-o {name!r}: name a file (.", "a folder")
    assert left_in(tmp_path) == ["a.npy"]
    for command, names in (
        (speak, ["b.WAV", "v1.0/", "v1.0"]),
        (convert, ["b.NPZ", "b.NPY", "b.Safetensors"]),
    ):
        for name in names:
            result = run(*command, name)
            assert result.code == 0, result.err
    written = ["a.npy", "b.NPY", "b.NPZ", "b.Safetensors", "b.WAV", "v1.0/a.wav"]
    assert left_in(tmp_path) == written
    for name in ("b.NPY", "b.NPZ", "b.Safetensors"):
        assert read_mel(name).mel.shape == (80, 4)


def test_a_list_in_capitals(run, tmp_path, voice):
    save_mel(tmp_path / "a.npy")
    (tmp_path / "LIST.TXT").write_text("a.npy\n")
    result = run("synthesize", tmp_path / "LIST.TXT", "-o", tmp_path / "out", "--voice", voice)
    assert result.code == 0, result.err


def test_griffin_lim_by_another_preset(run, tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(24_000), 24_000)
    flags = ("--voice", "griffin-lim", "--preset", "vocos-24k", "--dtype", "float64")
    result = run("synthesize", tmp_path / "a.wav", "-o", tmp_path / "out", *flags)
    assert result.code == 0, result.err
    audio, rate = read_wav(tmp_path / "out/a.wav")
    assert (len(audio), rate) == (get_preset("vocos-24k").n_frames(24_000) * 256, 24_000)


@pytest.mark.parametrize("preset", ["nanoflow-db-22k", "vocos-24k"])
def test_a_recording_is_analysed_by_the_voices_own_preset(run, tmp_path, voice, preset):
    """No command could convert it."""
    write_wav(tmp_path / "a.wav", np.zeros(22_050), 22_050)
    speak = ("synthesize", tmp_path / "a.wav", "-o", tmp_path / "out", "--voice", voice)
    result = run(*speak, "--preset", preset)
    assert_one_error_line(result, tmp_path / "a.wav", preset, "leave --preset out")
    assert run(*speak).code == 0


def test_the_refusal_of_a_preset_names_the_command_that_mends_it(run, tmp_path, voice):
    """What `convert-mel` makes is then spoken, and equals `vocoder.convert_mel`."""
    origin = next(
        preset for preset in PRESETS.values()
        if preset.log == "log10" and preset.fingerprint != TACOTRON2.fingerprint
        and _converts(preset)
    )  # fmt: skip
    mel = convert_mel(some_mel(6), TACOTRON2, origin)
    write_mel(tmp_path / "a.npz", mel, origin)
    speak = ("-o", tmp_path / "out", "--voice", voice, "--seed=1")
    refusal = run("synthesize", tmp_path / "a.npz", *speak)
    assert_one_error_line(refusal, tmp_path / "a.npz", origin.name, "log log10 ≠ ln")
    assert not (tmp_path / "out").exists()

    assert run(*error_command(refusal)).code == 0
    converted = tmp_path / "a.tacotron2-22k.npz"
    read = read_mel(converted)
    assert read.preset == TACOTRON2
    torch.testing.assert_close(read.mel, convert_mel(mel, origin, TACOTRON2))
    assert run("synthesize", converted, *speak).code == 0


def _converts(preset):
    try:
        convert_mel(torch.zeros(preset.n_mels, 1), preset, TACOTRON2)
    except vocoder.VocoderError:
        return False
    return True


def test_convert_mel_of_a_folder_fills_a_folder(run, tmp_path):
    save_mel(tmp_path / "in/deep/a.npy")
    save_mel(tmp_path / "in/b.npy")
    flags = ("--from", "speechbrain-22k", "--to", "tacotron2-22k")
    result = run("convert-mel", tmp_path / "in", "-o", tmp_path / "out", *flags)
    assert result.code == 0, result.err
    assert left_in(tmp_path / "out") == ["b.npz", "deep/a.npz"]
    result = run("convert-mel", tmp_path / "in/b.npy", "-o", tmp_path / "b.npy", *flags)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), np.load(tmp_path / "in/b.npy"))


def test_the_preset_option_outranks_file_and_range_check(run, tmp_path, voice):
    loud = tmp_path / "loud.npy"
    np.save(loud, np.linspace(-100, 0, 80 * 4, dtype=np.float32).reshape(80, 4))
    write_mel(tmp_path / "pwg.npz", some_mel(4), get_preset("pwg-22k"))
    flags = ("-o", tmp_path / "out", "--voice", voice)
    for path in (loud, tmp_path / "pwg.npz"):
        assert run("synthesize", path, *flags).code == 2
        assert run("synthesize", path, *flags, "--preset", "waveglow-22k").code == 0


# ---- the other commands ----


def test_presets_are_all_listed(run):
    table = run("presets").out.decode()
    for preset in PRESETS.values():
        assert re.search(rf"^{preset.name} .*{preset.fingerprint}", table, re.MULTILINE)
    assert "waveglow-22k" in table


def test_recipes_are_listed_and_printed(run):
    names = vocoder.list_recipes()
    table = run("recipes").out.decode().splitlines()
    assert [line.split()[0] for line in table] == names
    assert all(len(line.split()) > 1 for line in table)  # each says what it is
    text = run("recipes", names[0]).out.decode()
    assert "model:" in text


def test_info_of_a_voice(run, voice):
    text = run("info", voice).out.decode()
    for row in ("model +nanoflow", "preset +tacotron2-22k", "step +7", "nll +1.5"):
        assert re.search(rf"^{row}$", text, re.MULTILINE), row
    model = vocoder.checkpoint.load(voice).model
    assert re.search(rf"parameters +{model.n_parameters():,}\n", text)
    assert TACOTRON2.fingerprint in text


def test_info_of_the_installation(run):
    text = run("info").out.decode()
    assert re.search(rf"^torch +{re.escape(torch.__version__)}$", text, re.MULTILINE)
    assert "griffin-lim" in text


def test_preprocess_train_evaluate_synthesize(run, tmp_path):
    """The main job in four commands, on half a minute of tones."""
    (tmp_path / "wavs").mkdir()
    for i in range(6):
        times = np.arange(22_050) / 22_050
        write_wav(
            tmp_path / f"wavs/{i}.wav", 0.3 * np.sin(2 * np.pi * 200 * (i + 1) * times), 22050
        )
    corpus, run_dir = tmp_path / "corpus", tmp_path / "run"
    result = run("preprocess", "wavs", "--source", tmp_path / "wavs", "--out", corpus, "--jobs=1")
    assert result.code == 0, result.err
    result = run(
        "train", "tiny/nanoflow", "--data", corpus, "--run-dir", run_dir, "--device=cpu",
        "-o", "train.steps=2", "-o", "train.batch_size=2",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert Path(result.out.decode().strip()).is_file()
    for voice in (run_dir, "griffin-lim"):
        result = run("evaluate", voice, "--data", corpus, "--device=cpu")
        assert result.code == 0, result.err
        assert ": 1 test clip, " in result.out.decode()
    result = run("synthesize", corpus, "-o", tmp_path / "out", "--voice", run_dir, "--device=cpu")
    assert result.code == 0, result.err
    for path in (corpus / "mels").iterdir():
        n_frames = np.load(path).shape[1]
        assert n_samples(tmp_path / f"out/{path.stem}.wav") == n_frames * 256


def test_preprocess_names_what_it_left_out(run, tmp_path):
    source = tmp_path / "wavs"
    for i in range(3):
        write_tone(source / f"{i}.wav", seconds=1.0)
    (source / "bad.wav").write_bytes(b"RIFF")
    result = run("preprocess", "wavs", "--source", source, "--out", tmp_path / "out", "--jobs=1")
    assert result.code == 1
    assert re.search(r"^vocoder: left out \S*bad\.wav: ", result.err, re.MULTILINE)
