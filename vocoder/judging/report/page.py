"""The page of voices: what a comparison found, for eye and ear. Sounds are WAV, pictures PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vocoder.files.audio import write_wav
from vocoder.judging.comparison import RECORDING, Comparison, Figure, VoiceScores, format_summary
from vocoder.judging.report.charts import nice_ticks, strip_chart
from vocoder.judging.report.document import base64_text, document
from vocoder.judging.report.spectrogram import RANGE_DB, spectrogram_png


@dataclass(frozen=True)
class Example:
    """A clip to look at and listen to."""

    clip: str  # its id
    recording: npt.NDArray[np.float64]  # (N,), full scale ±1
    sounds: Mapping[str, npt.NDArray[np.float64]]  # (N,) by the voice's name


def render_report(comparison: Comparison, examples: Sequence[Example]) -> str:
    """Return the page as HTML.

    Args:
        comparison: The figures to show.
        examples: the clips that get pictures and sound, in this order.
    """
    names = ", ".join(comparison.labels.values())
    sections = {
        "figures": ("Figures", _figures(comparison)),
        "spread": ("Spread", _spread(comparison)),
        "examples": ("Sound and pictures", _examples(comparison, examples)),
        "clips": ("All clips", _clips(comparison, examples)),
    }
    return document(
        title=f"{names} on {comparison.data}",
        heading="Voices compared" if len(comparison.voices) > 1 else "A voice judged",
        about=comparison.headline(),
        sections=sections,
        script=(Path(__file__).parent / "page.js").read_text(encoding="utf-8"),
    )


def _figures(comparison: Comparison) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in comparison.labels.values())
    rows = "".join(_figure_row(comparison, figure) for figure in comparison.figures)
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    return f"""<section aria-labelledby="figures">
<h2 id="figures">Figures</h2>
<p>Copy synthesis of {comparison.counted_clips} against their recordings: the mean over clips, ± its
standard error. The best of a row is bold.</p>
<div class="scroll" role="region" aria-labelledby="figures" tabindex="0"><table class="figures">
<thead><tr><th scope="col">figure</th><th scope="col">better</th>{heads}</tr></thead>
<tbody>{rows}</tbody></table></div>
{f"<ul>{notes}</ul>" if notes else ""}
</section>"""


def _figure_row(comparison: Comparison, figure: Figure) -> str:
    best = comparison.best(figure.name)
    cells = "".join(
        f'<td class="best">{text}<span class="unseen"> (best)</span></td>'
        if voice.name == best
        else f"<td>{text}</td>"
        for voice in comparison.voices
        for text in [format_summary(voice, figure) or '<span aria-label="none">–</span>']
    )
    return (
        f'<tr><th scope="row">{_titled(comparison, figure)}<small>{escape(figure.meaning)}</small>'
        f"</th><td>{figure.better}</td>{cells}</tr>"
    )


def _titled(comparison: Comparison, figure: Figure) -> str:
    unit = comparison.unit(figure)
    return escape(f"{figure.label}, {unit}" if unit else figure.label)


def _spread(comparison: Comparison) -> str:
    charts = "".join(
        f"<figure><figcaption>{_titled(comparison, figure)} "
        f"<small>{figure.better} is better</small></figcaption>"
        f"{strip_chart(comparison, figure)}</figure>"
        for figure in comparison.figures
        if figure.name != "nats_per_dim_by_length"  # clip by clip the same as by clips
    )
    return f"""<section aria-labelledby="spread">
<h2 id="spread">Spread over clips</h2>
<p>A dot is a clip; the bar reaches over the middle half of them, the tall line is the mean.</p>
<div class="charts">{charts}</div>
</section>"""


def _examples(comparison: Comparison, examples: Sequence[Example]) -> str:
    articles, size = [], 0
    for index, example in enumerate(examples):
        article = _example(comparison, example, index)
        size += len(article)
        articles.append(article)
    content = "".join(articles) or "<p>None were asked for.</p>"
    return f"""<section aria-labelledby="examples">
<h2 id="examples">Sound and pictures, worst clips first</h2>
<p>{len(examples)} of {len(comparison.clips)} clips, by mel distance over the voices; 16-bit WAV,
and {size / 1e6:.1f} MB of this page. Brightness is power over {RANGE_DB:g} dB below the loudest
of the recording.</p>
<p class="keys"><kbd>Tab</kbd> goes to the next player, <kbd>Space</kbd> plays and stops,
<kbd>←</kbd> <kbd>→</kbd> change the voice at the same moment of the clip, <kbd>↑</kbd> <kbd>↓</kbd>
change the clip, <kbd>Home</kbd> starts again. A click into a picture plays from there.</p>
{content}
</section>"""


def _example(comparison: Comparison, example: Example, index: int) -> str:
    place = comparison.clips.index(example.clip)
    rate = comparison.preset.sample_rate
    scores = {voice.name: voice for voice in comparison.voices}
    sounds = {RECORDING: example.recording, **example.sounds}
    players = "".join(
        _player(
            example,
            comparison.labels.get(name, name),
            audio,
            rate,
            _caption(comparison, scores.get(name), place),
        )
        for name, audio in sounds.items()
    )
    return f"""<article aria-labelledby="clip-{index}">
<h3 id="clip-{index}">{escape(example.clip)} <small>{comparison.seconds[place]:.1f} s</small></h3>
<div class="players">{players}</div>
</article>
"""


def _caption(comparison: Comparison, voice: VoiceScores | None, place: int) -> str:
    """Return the figures of one voice on one clip, those worth reading beside a picture."""
    if voice is None or voice.name == RECORDING:
        return "as recorded"
    parts = []
    for figure in comparison.figures:
        if figure.name in (
            "mel_distance",
            "f0_rmse",
            "tone_bias",
            "stoi",
            "pesq",
            "dnsmos_overall",
        ):
            value = voice.values[figure.name][place]
            number = f"{_number(value, figure)} {comparison.unit(figure)}".rstrip()
            parts.append(f"{figure.label} {number if math.isfinite(value) else 'undefined'}")
    return ", ".join(parts)


def _player(
    example: Example, name: str, audio: npt.NDArray[np.float64], rate: int, caption: str
) -> str:
    title = escape(f"{name}, clip {example.clip}", quote=True)
    picture = spectrogram_png(audio, rate, example.recording)
    seconds, top = len(audio) / rate, rate / 2000
    below = "".join(
        f'<span style="left:{100 * tick / seconds:.2f}%">{tick:g}</span>'
        for tick in nice_ticks(0, seconds)
        if tick <= 0.97 * seconds
    )
    beside = "".join(
        f'<span style="bottom:{100 * tick / top:.2f}%">{tick:g}</span>'
        for tick in nice_ticks(0, top)
        if tick <= 0.88 * top
    )
    return f"""<figure class="player">
<figcaption><button type="button" hidden aria-pressed="false" aria-label="Play {title}"></button>
<span><strong>{escape(name)}</strong> <small>{escape(caption)}</small></span></figcaption>
<audio controls preload="metadata" aria-label="{title}"
 src="data:audio/wav;base64,{base64_text(_wav(audio, rate))}"></audio>
<div class="plot"><div class="y" aria-hidden="true">{beside}<b>kHz</b></div>
<div class="picture"><img alt="Spectrogram of {title}, 0 to {top:g} kHz"
 src="data:image/png;base64,{base64_text(picture)}"><i class="head" hidden></i></div>
<div class="x" aria-hidden="true">{below}<b>s</b></div></div>
</figure>
"""


def _wav(audio: npt.NDArray[np.float64], rate: int) -> bytes:
    """Return 16-bit WAV, in which browsers jump to any sample; in short FLAC some fail to."""
    buffer = io.BytesIO()
    write_wav(buffer, audio, rate)
    return buffer.getvalue()


def _clips(comparison: Comparison, examples: Sequence[Example]) -> str:
    anchors = {example.clip: f"#clip-{index}" for index, example in enumerate(examples)}
    figures = [f for f in comparison.figures if f.name != "nats_per_dim_by_length"]
    voices = [voice for voice in comparison.voices if voice.name != RECORDING]
    rows = [(voice, place) for voice in voices for place in range(len(comparison.clips))]
    rows.sort(key=lambda row: -row[0].values["mel_distance"][row[1]])
    if not rows:
        return ""
    heads = "".join(
        f'<th scope="col" aria-sort="{"descending" if key == "mel_distance" else "none"}">'
        f'<button type="button">{title}</button></th>'
        for key, title in [
            ("clip", "clip"),
            ("voice", "voice"),
            *((figure.name, _titled(comparison, figure)) for figure in figures),
        ]
    )
    body = "".join(_clip_row(comparison, figures, anchors, *row) for row in rows)
    return f"""<section aria-labelledby="clips">
<h2 id="clips">All clips</h2>
<p>A press on a heading sorts by it, and another one turns the order round.</p>
<div class="scroll tall" role="region" aria-labelledby="clips" tabindex="0">
<table class="sortable"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>
</section>"""


def _clip_row(
    comparison: Comparison,
    figures: Sequence[Figure],
    anchors: Mapping[str, str],
    voice: VoiceScores,
    place: int,
) -> str:
    clip = escape(comparison.clips[place])
    anchor = anchors.get(comparison.clips[place])
    link = clip if anchor is None else f'<a href="{anchor}">{clip}</a>'
    cells = "".join(
        f"<td>{_number(voice.values[figure.name][place], figure)}</td>"
        if figure.name in voice.values
        else "<td>–</td>"
        for figure in figures
    )
    name = escape(comparison.labels[voice.name])
    return f'<tr><th scope="row">{link}</th><td>{name}</td>{cells}</tr>\n'


def _number(value: float, figure: Figure) -> str:
    return "–" if math.isnan(value) else f"{value:.{figure.n_decimals}f}"
