"""The command itself: help that loads nothing, misspelt names, Ctrl-C, closed pipes, bugs."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from commands import assert_one_error_line, run_apart

import vocoder


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
