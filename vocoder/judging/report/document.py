"""The frame of every report: one HTML file that loads nothing, and whose policy forbids it to.

Sounds and pictures are in the file itself, as data URIs. Whoever fills in a section escapes every
text that comes from outside.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from vocoder import __version__
from vocoder.errors import VocoderError
from vocoder.files.atomic import atomic_path


def document(
    *, title: str, heading: str, about: str, sections: Mapping[str, tuple[str, str]], script: str
) -> str:
    """Return a report as HTML.

    Args:
        title: The title of the window, plain text.
        heading: The heading of the page, plain text.
        about: A sentence without its full stop that tells what was judged, plain text.
        sections: The name in the navigation and the HTML of each section, by the id of its heading;
            one whose HTML is empty is left out.
        script: The only script that the page may run; "" for none.
    """
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    digest = base64_text(hashlib.sha256(script.encode()).digest())
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    shown = {anchor: section for anchor, section in sections.items() if section[1]}
    links = "\n".join(f'<a href="#{anchor}">{name}</a>' for anchor, (name, _) in shown.items())
    content = "\n".join(html for _, html in shown.values())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(heading)}</h1>
<p>{escape(about)}. Written by vocoder {__version__}.</p>
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{content}
</main>
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


@contextlib.contextmanager
def report_file(report: str | Path | None) -> Iterator[Path | None]:
    """Give a temporary file that becomes the report, so that a bad place is refused at once.

    Args:
        report: Path of the report; None gives None.

    Raises:
        VocoderError: It is a folder, or lies in one that does not exist.
        OSError: The report cannot be written.
    """
    if report is None:
        yield None
        return
    report = Path(report)
    if report.is_dir():
        raise VocoderError(f"{report}: is a folder; name a file such as {report / 'report.html'}")
    if not report.parent.is_dir():
        raise VocoderError(f"{report}: there is no folder {report.parent}; make it first")
    with atomic_path(report) as temporary:
        yield temporary


def base64_text(content: bytes) -> str:
    """Return bytes as data URIs hold them."""
    return base64.b64encode(content).decode()


def write_page(path: Path, html: str) -> None:
    """Write a page in UTF-8; a name in it that is none, as a path may be, is shown by escapes."""
    path.write_text(html, encoding="utf-8", errors="backslashreplace")
