from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from comparisons import HOSTILE, made_up

from vocoder.errors import VocoderError
from vocoder.judging.comparison import (
    FIGURES,
    Comparison,
    VoiceScores,
    format_summary,
    short_names,
)
from vocoder.judging.paired import paired_difference
from vocoder.judging.report import render_report
from vocoder.judging.report.charts import strip_chart


def voice(name: str = "a", weights: list[float] | None = None, **values: list[float]):
    arrays = {figure: np.array(column) for figure, column in values.items()}
    weighted = {} if weights is None else {figure: np.array(weights) for figure in values}
    return VoiceScores(name, arrays, weighted)


def test_the_error_is_that_of_a_mean():
    values = [1.0, 2.0, 4.0, 9.0]
    mean, error, n = voice(stoi=values).summary("stoi")
    assert (mean, n) == (4.0, 4)
    assert error == pytest.approx(np.std(values, ddof=1) / 2)


def test_weights_that_are_equal_change_nothing():
    values = [1.0, 2.0, 4.0, 9.0]
    plain = voice(stoi=values).summary("stoi")
    assert voice(weights=[3.0] * 4, stoi=values).summary("stoi") == pytest.approx(plain)


def test_speed_is_all_audio_over_all_computing():
    audio, computing = np.array([2.0, 3.0, 10.0]), np.array([1.0, 6.0, 2.0])
    speeds = (audio / computing).tolist()
    mean = voice(weights=computing.tolist(), times_real_time=speeds).summary("times_real_time")[0]
    assert mean == pytest.approx(audio.sum() / computing.sum())


def test_clips_without_a_figure_are_left_out_of_the_mean():
    nan = float("nan")
    assert voice(stoi=[nan, 1.0, 3.0]).summary("stoi")[::2] == (2.0, 2)
    assert format_summary(voice(stoi=[nan, nan]), FIGURES["stoi"]) == "undefined"
    assert format_summary(voice(stoi=[0.5]), FIGURES["stoi"]) == "0.500"  # one has no error
    assert format_summary(voice(stoi=[0.5]), FIGURES["pesq"]) == ""


def test_a_divergence_is_not_hidden():
    sick = voice(nats_per_dim=[3.0, -np.inf, 5.0], mel_distance=[1.0, 1.0, 1.0])
    assert sick.summary("nats_per_dim")[::2] == (-np.inf, 3)
    assert format_summary(sick, FIGURES["nats_per_dim"]) == "-inf"
    sound = dataclasses.replace(voice(nats_per_dim=[1.0] * 3, mel_distance=[1.0] * 3), name="b")
    comparison = dataclasses.replace(made_up(), voices=(sick, sound))
    assert comparison.ranking("nats_per_dim") == ["b", "a"]
    found = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert found["voices"][0]["figures"]["nats_per_dim"] == {
        "mean": None, "standard_error": None, "n_clips": 3, "by_clip": [3.0, None, 5.0],
    }  # fmt: skip
    assert ">-inf</text>" in strip_chart(comparison, FIGURES["nats_per_dim"])
    page = render_report(comparison, [])
    assert page.count("<td>-inf</td>") == 2  # the mean and the clip


def test_a_difference_is_that_of_pairs_with_the_interval_of_student() -> None:
    nan = float("nan")
    scores = (
        voice("a", stoi=[1.0, 2.0, 4.0, nan], pesq=[1.0] * 4),
        voice("b", stoi=[2.0, 4.0, 5.0, 1.0]),
    )
    comparison = dataclasses.replace(made_up(), voices=scores)
    mean, low, high, n = comparison.difference("stoi", "b", "a")
    # Differences 1, 2 and 1; 4.3027 is the 97.5 % quantile of Student's t with 2 degrees.
    half = 4.302653 * np.std([1, 2, 1], ddof=1) / np.sqrt(3)
    assert (mean, low, high) == pytest.approx((4 / 3, 4 / 3 - half, 4 / 3 + half))
    assert n == 3
    assert comparison.difference("stoi", "a", "b")[0] == -mean
    found = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["differences"]
    assert found == [
        {
            "voice": "b",
            "baseline": "a",
            "figures": {"stoi": {"mean": mean, "low": low, "high": high, "n_clips": 3}},
        }
    ]


def test_one_clip_has_a_difference_but_no_interval() -> None:
    nan = float("nan")
    scores = (voice("a", stoi=[1.0, nan]), voice("b", stoi=[3.0, 2.0]))
    comparison = dataclasses.replace(made_up(), voices=scores)
    mean, low, high, n = comparison.difference("stoi", "b", "a")
    assert (mean, n) == (2, 1)
    assert np.isnan([low, high]).all()
    nothing = dataclasses.replace(made_up(), voices=(scores[1], voice("c", stoi=[nan, nan])))
    assert nothing.difference("stoi", "c", "b")[3] == 0


def test_a_weighted_figure_has_no_difference_of_pairs() -> None:
    """By clips b is slower here, while all its sound takes less time than that of a."""
    scores = (
        voice("a", weights=[1.0, 10.0], times_real_time=[10.0, 1.0]),
        voice("b", weights=[2.0, 5.0], times_real_time=[5.0, 2.0]),
    )
    comparison = dataclasses.replace(made_up(), voices=scores)
    assert comparison.ranking("times_real_time") == ["b", "a"]
    with pytest.raises(VocoderError, match="times_real_time: its mean weighs clips unequally"):
        comparison.difference("times_real_time", "b", "a")
    assert comparison.to_dict()["differences"][0]["figures"] == {}


def test_a_failure_counts_in_a_difference_and_two_leave_it_unknown() -> None:
    nan, inf = float("nan"), float("inf")
    pairs = (
        ([1.0, -inf, 2.0], [1.0, 1.0, nan], -inf, 2),
        ([1.0, -inf, 2.0], [1.0, -inf, 2.0], nan, 3),  # infinite in both: which is more?
        ([inf, -inf], [0.0, 0.0], nan, 2),
    )
    for scores, baseline, mean, n in pairs:
        found = paired_difference(np.array(scores), np.array(baseline))
        np.testing.assert_equal(tuple(found), (mean, nan, nan, n))


def test_figures_of_other_numbers_of_examples_are_no_pairs() -> None:
    with pytest.raises(VocoderError, match="of 1 examples beside those of 3: cannot be paired"):
        paired_difference(np.zeros(1), np.arange(3.0))


def test_the_interval_covers_the_true_difference_nineteen_times_in_twenty() -> None:
    random = np.random.default_rng(0)
    n_covered = 0
    for _ in range(400):
        ease = random.standard_normal(12)  # of a clip, the same for both voices
        scores = (
            voice("a", stoi=(5 * ease + random.standard_normal(12)).tolist()),
            voice("b", stoi=(5 * ease + 0.5 + random.standard_normal(12)).tolist()),
        )
        comparison = dataclasses.replace(made_up(), voices=scores)
        _, low, high, _ = comparison.difference("stoi", "b", "a")
        n_covered += low < 0.5 < high
    assert n_covered / 400 == pytest.approx(0.95, abs=0.03)


def test_ranking_goes_by_direction_and_leaves_out_who_has_nothing():
    comparison = made_up()
    assert comparison.ranking("mel_distance") == ["recording", "griffin-lim", HOSTILE]
    assert comparison.ranking("stoi") == ["recording", "griffin-lim", HOSTILE]
    # The recordings are what voices are measured against.
    assert comparison.best("stoi") == comparison.best("mel_distance") == "griffin-lim"
    assert comparison.ranking("f0_rmse") == ["recording", "griffin-lim"]
    assert made_up(voices=("griffin-lim",)).best("stoi") is None


def test_json_holds_every_clip_and_no_nan():
    comparison = made_up()
    found = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert [clip["id"] for clip in found["clips"]] == list(comparison.clips)
    whisper = found["voices"][2]["figures"]
    assert whisper["f0_rmse"] == {
        "mean": None, "standard_error": None, "n_clips": 0, "by_clip": [None] * 3,
    }  # fmt: skip
    values = comparison.voices[2].values["stoi"]
    assert whisper["stoi"]["by_clip"] == values.tolist()
    assert whisper["stoi"]["mean"] == pytest.approx(values.mean())
    assert found["figures"]["mel_distance"]["unit"] == "nats"


def test_the_table_has_a_row_a_figure_and_a_column_a_voice():
    comparison: Comparison = made_up(voices=("recording", "griffin-lim"))
    lines = comparison.table().splitlines()
    assert lines[0].endswith(
        "3 test clips, 1.5 s, preset tacotron2-22k; temperature 1, seed 0, cpu"
    )
    rows = lines[2:6]
    labels = [row.split("  ")[0] for row in rows[1:]]
    assert labels == ["mel distance, nats", "pitch error, cents", "STOI"]
    columns = [rows[0].index(name) for name in ("better", "recording", "griffin-lim")]
    assert all(row[column - 1] == " " != row[column] for row in rows[1:] for column in columns)
    assert "1.000 ± 0.000*" not in rows[3]
    assert lines[-1] == comparison.notes[0]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["griffin-lim"], ["griffin-lim"]),
        (["griffin-lim", "/a/runs/mine"], ["griffin-lim", "mine"]),
        (["/a/runs/1/x", "/a/runs/2/x", "x-ray"], ["1/x", "2/x", "x-ray"]),
        (["/a/b/mine/best.safetensors"], ["mine/best.safetensors"]),
        (["a/1/b.safetensors", "a/2/b.safetensors"], ["1/b.safetensors", "2/b.safetensors"]),
        (["mine", "./mine", "/mine"], ["mine", "./mine", "/mine"]),
        (["x", "a/x"], ["x", "a/x"]),
    ],
)  # fmt: skip
def test_voices_are_shown_by_the_ends_that_tell_them_apart(names, short):
    assert list(short_names(names).values()) == short


def test_a_table_has_no_long_paths():
    figures = {"stoi": [1.0, 1.0, 1.0], "mel_distance": [0.0, 0.1, 0.2]}
    far = voice("/a/long/way/to/mine", **figures)
    comparison = dataclasses.replace(made_up(), voices=(far, voice(**figures)))
    head = comparison.table().splitlines()[2]
    assert head.split() == ["better", "mine", "a"]
    assert "/a/long" not in render_report(comparison, [])
    assert comparison.to_dict()["voices"][0]["name"] == "/a/long/way/to/mine"
