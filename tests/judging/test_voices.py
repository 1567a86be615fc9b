"""Judging voices: the recording is ideal, and one voice is judged as it is beside others."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import assert_one_error_line, left_in
from helpers import make_corpus

from vocoder.data.speech.corpus import MANIFEST, Corpus
from vocoder.errors import VocoderError
from vocoder.judging import metrics
from vocoder.judging import voices as evaluation
from vocoder.judging.likelihood import log_likelihood
from vocoder.judging.voices import compare
from vocoder.voice.griffin_lim import GriffinLimVocoder
from vocoder.voice.load import load

FIGURES_OF_ALL = (
    "log_spectral_distance",
    "mel_distance",
    "mel_cepstral_distortion",
    "f0_rmse",
    "voicing_f1",
    "tone_bias",
    "stoi",
    "pesq",
)
DNSMOS = ("dnsmos_overall", "dnsmos_signal", "dnsmos_background", "dnsmos_p808")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A corpus of three test clips, of noisy tones that grow higher."""
    folder = make_corpus(tmp_path_factory.mktemp("corpus"), n_clips=4, seconds=0.6)
    manifest = Corpus.open(folder).manifest
    utterances = [
        dataclasses.replace(utterance, split="test" if i < 3 else "train")
        for i, utterance in enumerate(manifest.utterances)
    ]
    manifest = dataclasses.replace(manifest, utterances=tuple(utterances))
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def comparison(data, voice, tmp_path_factory):
    page = tmp_path_factory.mktemp("page") / "report.html"
    found = compare(
        ["griffin-lim", voice, "recording"], data, device="cpu", report=page, n_examples=2
    )
    return found, page


def scores_of(comparison, name):
    return next(voice for voice in comparison.voices if voice.name == str(name))


def test_the_recording_is_first_and_ideal_in_every_figure(comparison):
    found, _ = comparison
    recording = scores_of(found, "recording")
    assert set(recording.values) == {*FIGURES_OF_ALL, *DNSMOS}
    for figure in FIGURES_OF_ALL:
        means = {v.name: v.summary(figure)[0] for v in found.voices}
        best = max if figure in ("voicing_f1", "stoi", "pesq") else min
        known = [mean for mean in means.values() if np.isfinite(mean)]
        assert means["recording"] == best(known), figure
        ideal = {"voicing_f1": 1, "stoi": 1, "pesq": 4.64}.get(figure, 0)
        assert recording.values[figure] == pytest.approx(ideal, abs=0.01)


def test_a_voice_scores_alone_as_it_does_beside_others(comparison, data, voice):
    beside = scores_of(comparison[0], voice)
    alone = scores_of(compare(voice, data, device="cpu"), voice)
    assert alone.values.keys() == beside.values.keys()
    for figure in set(alone.values) - {"times_real_time"}:
        np.testing.assert_allclose(alone.values[figure], beside.values[figure], rtol=1e-6)


def test_likelihoods_are_those_of_the_trainer_and_of_flows_alone(comparison, data, voice):
    corpus = Corpus.open(data)
    expected = log_likelihood(load(voice, device="cpu").model, corpus, corpus.utterances("test"))
    scores = scores_of(comparison[0], voice)
    found = [scores.summary(f"nats_per_dim{end}")[0] for end in ("", "_by_length", "_active")]
    assert found == pytest.approx([expected.mean_over_clips, expected.per_sample, expected.active])
    assert "nats_per_dim" not in scores_of(comparison[0], "griffin-lim").values


def test_figures_are_those_of_the_metrics(comparison, data):
    corpus = Corpus.open(data)
    clip = corpus.utterances("test")[1]
    recording = corpus.audio(clip) / 32768
    speaker = load("griffin-lim", device="cpu")
    audio = speaker.synthesize(torch.tensor(corpus.mel(clip)), seed=0).numpy()[: len(recording)]
    values = scores_of(comparison[0], "griffin-lim").values
    for metric in (metrics.log_spectral_distance, metrics.stoi, metrics.f0_rmse):
        expected = metric(recording, audio, 22050)
        assert values[metric.__name__][1] == pytest.approx(expected, rel=1e-6)


def test_lines_are_sought_where_the_voice_has_its_rows(data, monkeypatch, tmp_path):
    from vocoder import checkpoint
    from vocoder.mel.presets import get_preset
    from vocoder.models.waveflow import WaveFlow, WaveFlowConfig

    torch.manual_seed(0)
    model = WaveFlow(WaveFlowConfig(channels=4, n_layers=1, n_flows=1, n_height=8))
    checkpoint.save(tmp_path / "eight.safetensors", model, get_preset("tacotron2-22k"), step=0)
    sought = []
    tone_bias = metrics.tone_bias
    monkeypatch.setattr(metrics, "tone_bias", lambda *a: sought.append(a[3]) or tone_bias(*a))
    compare([tmp_path / "eight.safetensors", "recording"], data, n_clips=1, device="cpu")
    assert sought == [8, 16]


def test_the_report_shows_the_worst_clips_first(comparison):
    found, page = comparison
    html = page.read_text(encoding="utf-8")
    badness = np.mean(
        [v.values["mel_distance"] for v in found.voices if v.name != "recording"], axis=0
    )
    expected = [found.clips[i] for i in np.argsort(-badness)[:2]]
    assert re.findall(r'<h3 id="clip-\d">(\S+) ', html) == expected
    assert html.count("<audio ") == 2 * 3  # the recording once a clip, not twice
    assert left_in(page.parent) == ["report.html"]


def test_libraries_that_are_missing_leave_one_note(data, monkeypatch):
    find_spec = importlib.util.find_spec
    missing = ("parselmouth", "pystoi", "pesq", "speechmos")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name)
    )
    found = compare("recording", data, n_clips=1)
    assert found.notes == (
        "pitch error, voicing F1, STOI, PESQ, DNSMOS overall, DNSMOS signal, DNSMOS background, "
        "DNSMOS P.808: left out, not installed; run: pip install 'vocoder[metrics]'",
    )
    assert set(scores_of(found, "recording").values) == set(FIGURES_OF_ALL) - {
        *("f0_rmse", "voicing_f1", "stoi", "pesq")
    }


def test_a_figure_that_some_clips_lack_is_noted(data, monkeypatch):
    def undefined(*arguments):
        raise metrics.UndefinedFigureError("none")

    monkeypatch.setattr(metrics, "f0_rmse", undefined)
    found = compare("recording", data, n_clips=2)
    assert found.notes == ("recording: pitch error is undefined for 2 of 2 clips",)
    assert "undefined" in found.table()


def test_a_figure_that_a_library_returns_as_nan_is_noted(data, monkeypatch):
    monkeypatch.setattr(metrics, "stoi", lambda *arguments: float("nan"))
    found = compare("recording", data, n_clips=2)
    assert found.notes == ("recording: STOI is undefined for 2 of 2 clips",)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), float("inf")])
def test_a_likelihood_that_is_not_finite_is_not_hidden(data, voice, monkeypatch, value):
    honest = evaluation.clip_likelihood

    def diverging(model, corpus, clip):
        score = honest(model, corpus, clip)
        return dataclasses.replace(score, mean=value) if clip.id == "clip1" else score

    monkeypatch.setattr(evaluation, "clip_likelihood", diverging)
    found = compare(voice, data, device="cpu")
    label = found.labels[str(voice)]
    assert label != str(voice)  # the end of the path, as the table has it
    note = f"{label}: the log-likelihood is not finite for 1 of 3 clips; take an earlier checkpoint"
    assert note in found.notes
    scores = scores_of(found, voice)
    for figure in ("nats_per_dim", "nats_per_dim_by_length"):
        assert scores.summary(figure)[::2] == (-np.inf, 3)
    assert np.isfinite(scores.summary("nats_per_dim_active")[0])


def test_a_voice_that_makes_nan_is_named_with_the_clip(data, monkeypatch, tmp_path):
    class Broken(GriffinLimVocoder):
        def synthesize(self, mel, *arguments, **settings):
            return super().synthesize(mel, *arguments, **settings) * float("nan")

    monkeypatch.setattr(evaluation, "load", lambda *_, **__: Broken(device="cpu"))
    with pytest.raises(VocoderError, match=r"voice griffin-lim: makes NaN .* of clip clip0"):
        compare(["griffin-lim"], data, device="cpu", report=tmp_path / "report.html")
    assert left_in(tmp_path) == []


def test_counts_are_checked(data):
    with pytest.raises(VocoderError, match="n_clips -1: must be at least 1"):
        compare("recording", data, n_clips=-1)
    with pytest.raises(VocoderError, match="n_examples -1: must be 0 or more"):
        compare(["recording"], data, n_examples=-1)


def test_the_commands_print_a_table_and_json(run, data):
    result = run("compare", "recording", "griffin-lim", "--data", data, "--clips=1", "--device=cpu")
    assert result.code == 0, result.err
    assert re.search(r"^STOI +more +1\.000  ", result.out.decode(), re.MULTILINE)
    result = run("evaluate", "recording", "--data", data, "--clips=1", "--json")
    found = json.loads(result.out)
    assert found["voices"][0]["figures"]["stoi"]["mean"] == pytest.approx(1)
    assert found["clips"] == [{"id": "clip0", "seconds": 0.592}]


@pytest.mark.parametrize(
    ("ids", "counted"),
    [
        ("clip0", "1 test clip"),
        ("clip1\nclip0", "2 test clips"),
        ("clip2", "1 validation clip"),
        ("clip2\nclip0\nclip1", "2 test and 1 validation clips"),
    ],
)
def test_clips_that_selected_the_checkpoint_are_not_called_a_test(data, tmp_path, ids, counted):
    corpus = tmp_path / "corpus"
    shutil.copytree(data, corpus)
    manifest = Corpus.open(corpus).manifest
    utterances = tuple(
        dataclasses.replace(u, split="validation") if u.id == "clip2" else u
        for u in manifest.utterances
    )
    (corpus / MANIFEST).write_text(dataclasses.replace(manifest, utterances=utterances).to_json())
    names, page = tmp_path / "ids.txt", tmp_path / "report.html"
    names.write_text(ids)
    found = compare("recording", corpus, ids=names, report=page, n_examples=0)
    assert f"{corpus}: {counted}, " in found.headline()
    assert f"Copy synthesis of {counted} against" in page.read_text(encoding="utf-8")
    told = [note for note in found.notes if "selected the checkpoint" in note]
    assert len(told) == ("validation" in counted)


def test_only_the_clips_of_a_list_are_scored_in_its_order(run, data, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("clip2\n\nclip0\n")
    result = run("evaluate", "recording", "--data", data, "--ids", ids, "--json")
    assert [clip["id"] for clip in json.loads(result.out)["clips"]] == ["clip2", "clip0"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("clip0\nclip9", ["line 2: 'clip9' is no clip of", "did you mean"]),
        ("clip3", ["line 1: 'clip3' is a training clip"]),
        ("clip0\nclip1\nclip0", ["line 3: 'clip0' is named a second time"]),
        ("\n", ["names no clip"]),
        (None, ["cannot be opened"]),
    ],
)
def test_a_list_that_cannot_be_scored_is_told_in_one_line(run, data, tmp_path, names, words):
    ids = tmp_path / "ids.txt"
    if names is not None:
        ids.write_text(names)
    result = run("compare", "recording", "--data", data, "--ids", ids)
    assert_one_error_line(result, ids, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["griffin-lim", "griffin-lim"], ["named twice"]),
        (["griffin-lin"], ["did you mean 'griffin-lim'"]),
        (["recording", "--data", "{empty}"], ["{empty}", "no preprocessed corpus"]),
        (["recording", "--data", "{untested}"], ["{untested}", "no test clips"]),
        (["recording", "--report", "{empty}"], ["{empty}", "is a folder", "report.html"]),
        (["recording", "--report", "{empty}/no/report.html"], ["there is no folder", "make it"]),
        (["recording", "--report", "{data}/manifest.json/r.html"], ["there is no folder"]),
        ([], ["VOICE"]),
    ],
)
def test_bad_input_is_told_in_one_line(run, data, tmp_path, arguments, words):
    empty, untested = tmp_path / "empty", tmp_path / "untested"
    empty.mkdir()
    untested.mkdir()
    manifest = Corpus.open(data).manifest
    utterances = tuple(dataclasses.replace(u, split="train") for u in manifest.utterances)
    (untested / MANIFEST).write_text(
        dataclasses.replace(manifest, utterances=utterances).to_json(), encoding="utf-8"
    )
    places = {"empty": empty, "untested": untested, "data": data}
    arguments = [argument.format(**places) for argument in arguments]
    if "--data" not in arguments:
        arguments += ["--data", data]
    result = run("compare", *arguments)
    assert_one_error_line(result, *(word.format(**places) for word in words))
    assert left_in(empty) == []


def test_a_full_disk_or_a_locked_folder_leaves_the_old_report(run, data, tmp_path, monkeypatch):
    page = tmp_path / "report.html"
    page.write_text("old")

    def fail(*arguments, **settings):
        raise OSError(28, "No space left on device", str(page))

    monkeypatch.setattr(Path, "write_text", fail)
    result = run("compare", "recording", "--data", data, "--clips=1", "--report", page)
    assert_one_error_line(result, page, "No space left")
    assert page.read_text() == "old"
    assert left_in(tmp_path) == ["report.html"]


# ---- mel consistency ----


def test_voices_are_judged_with_the_steps_asked_for(data, run):
    distances = []
    for steps in (0, 4):
        found = compare("griffin-lim", data, n_clips=1, refine=steps, device="cpu")
        assert found.to_dict()["refine"] == steps
        assert f"refine {steps}, cpu" in found.headline()
        distances.append(found.voices[0].summary("mel_distance")[0])
    assert distances[1] < 0.95 * distances[0]
    result = run("evaluate", "griffin-lim", "--data", data, "--clips", 1, "--refine", 4, "--json")
    assert json.loads(result.out)["refine"] == 4
    with pytest.raises(VocoderError, match="refine -1"):
        compare("griffin-lim", data, refine=-1)
