"""The page of an image model: what it scored, and what it draws, for the eye."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from vocoder.files.png import encode_png
from vocoder.judging.report.charts import curve_chart, histogram
from vocoder.judging.report.document import base64_text, document
from vocoder.judging.report.image_findings import Drawing, ImageFindings, ScoredImage


def render_image_report(findings: ImageFindings) -> str:
    """Return the page as HTML.

    Args:
        findings: What to show.
    """
    data = findings.figures["data"]
    return document(
        title=f"{findings.name} on {data}",
        heading="An image model judged",
        about=f"{findings.name} on {data}",
        sections={
            "figures": ("Figures", _figures(findings)),
            "samples": ("Pictures", _drawings(findings.drawings)),
            "images": ("Image by image", _images(findings)),
            "training": ("Training", _training(findings)),
        },
        script="",
    )


def _figures(findings: ImageFindings) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(_number(value))}</td></tr>'
        for name, value in findings.figures.items()
    )
    return f"""<section aria-labelledby="figures">
<h2 id="figures">Figures</h2>
<p>Bits per dimension are an upper bound on what the model needs for a pixel of one channel: less is
better. They compare only where data set, variant and shape agree, and uniform noise fills each
pixel's step.</p>
<div class="scroll pairs" role="region" aria-labelledby="figures" tabindex="0">
<table class="figures">
<thead><tr><th scope="col">figure</th><th scope="col">value</th></tr></thead>
<tbody>{rows}</tbody></table></div>
</section>"""


def _drawings(drawings: Sequence[Drawing]) -> str:
    figures = "".join(
        f"<figure><figcaption>{escape(drawing.name)} <small>{escape(drawing.caption)}</small>"
        f'</figcaption><img class="grid" alt="{escape(drawing.name, quote=True)}"'
        f' src="{_source(drawing.pixels)}"></figure>\n'
        for drawing in drawings
    )
    return f"""<section aria-labelledby="samples">
<h2 id="samples">Pictures</h2>
<p>Brightness is fixed, whatever a picture holds: −0.5 is black and 0.5 is white.</p>
<div class="charts pictures">{figures}</div>
</section>"""


def _images(findings: ImageFindings) -> str:
    chart = histogram(findings.bits, "bits per dimension of the test images")
    lists = "".join(
        f'<h3>{title}</h3>\n<div class="thumbnails">{"".join(map(_thumbnail, images))}</div>\n'
        for title, images in (
            ("Dearest first", findings.dearest),
            ("Cheapest first", findings.cheapest),
        )
        if images
    )
    return f"""<section aria-labelledby="images">
<h2 id="images">Image by image</h2>
<p>Bits per dimension of each test image, and its place in the test images, counted from 0. What is
dear is not always strange: a plain image of few edges is cheap under any model, so that a
likelihood alone does not tell whether an image is like those that were learnt.</p>
<div class="charts"><figure><figcaption>All {len(findings.bits)} images <small>the tall line is the
mean</small></figcaption>{chart}</figure></div>
{lists}</section>"""


def _thumbnail(image: ScoredImage) -> str:
    return (
        f'<figure><img alt="Test image {image.place}" src="{_source(image.pixels)}">'
        f"<figcaption>{_number(image.bits)} <small>no. {image.place}</small></figcaption>"
        "</figure>\n"
    )


def _training(findings: ImageFindings) -> str:
    if not findings.curves:
        return ""
    chart = curve_chart(findings.curves, "bits per dimension by optimiser steps")
    return f"""<section aria-labelledby="training">
<h2 id="training">Training</h2>
<p>Bits per dimension by optimiser steps: of a training batch, and of the validation images under
the weights that are kept. What the first tenth of the steps needs more is cut off.</p>
<div class="charts"><figure>{chart}</figure></div>
</section>"""


def _source(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    return f"data:image/png;base64,{base64_text(encode_png(pixels))}"


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
