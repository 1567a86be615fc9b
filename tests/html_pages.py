"""Reports as HTML: their elements, and what must hold for every one of them."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """The elements of a page and its text; every element is closed, and every link leads on."""

    VOID = {"meta", "link", "img", "br"}  # noqa: RUF012

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(html)
        assert not self.open
        self.ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert {link["href"][1:] for link in self.all("a")} <= set(self.ids)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def assert_self_contained(page: Page) -> None:
    """Check that a page loads nothing from elsewhere, and that its policy forbids it to."""
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
    style = "".join(page.text)
    assert "@import" not in style
    assert "url(" not in style
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; ")


def assert_accessible(page: Page) -> None:
    """Check that headings are in order, and that whatever is shown has a text too."""
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert len(set(page.ids)) == len(page.ids)
    for _, attributes in page.elements:
        assert attributes.get("aria-labelledby", page.ids[0]) in page.ids
    for button in page.all("button"):
        assert button["type"] == "button"
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
