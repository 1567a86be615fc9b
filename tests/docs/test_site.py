"""The documentation builds without a warning, and no link in it leads nowhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import vocoder
from vocoder import adapters, kernels

pytest.importorskip("mkdocstrings", reason="needs the extra `docs`")
pytest.importorskip("material", reason="needs the extra `docs`")

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]


class Page(HTMLParser):
    """What one page of the site offers to links, and what it refers to itself."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()  # the reader may follow them
        self.parts: set[str] = set()  # the browser loads them by itself
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors.update(filter(None, (found.get("id"), found.get("name"))))
        if tag == "a":
            self.links.update(filter(None, [found.get("href")]))
        elif tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.parts.update(filter(None, [found.get("href")]))
        self.parts.update(filter(None, [found.get("src")]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(REPOSITORY)}
    built = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_link_and_anchor_resolves(site: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) > 20
    lost = []
    for path, page in pages.items():
        if path.name == "404.html":  # is shown in any folder, so that its links begin at the host
            continue
        for link in sorted(page.links | page.parts):
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(url.fragment)
            if not target.exists() or (anchor and anchor not in pages[target].anchors):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert not lost


def test_no_page_loads_anything_from_another_host(pages: dict[Path, Page]) -> None:
    for page in pages.values():
        assert not [part for part in page.parts if urlsplit(part).netloc]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "egs/README.md"])
def test_links_into_the_documentation_from_outside_it(
    name: str, site: Path, pages: dict[Path, Page]
) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?:\.\./)*docs/([\w./-]+)\.md(?:#([\w-]+))?\)", text)
    assert links
    for page, anchor in links:
        assert not anchor or anchor in pages[site / f"{page}.html"].anchors, (page, anchor)


def test_every_public_name_has_its_entry(site: Path, pages: dict[Path, Page]) -> None:
    described = {anchor for path in site.glob("api/*.html") for anchor in pages[path].anchors}
    rooms = {"vocoder": vocoder, "vocoder.kernels": kernels, "vocoder.adapters": adapters}
    for room, module in rooms.items():
        names = {f"{room}.{name}" for name in module.__all__} - set(rooms)
        assert names - described - {"vocoder.__version__"} == set()
