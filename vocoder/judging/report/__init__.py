"""A comparison as one HTML page that needs nothing else: figures, pictures and sound."""

from __future__ import annotations

from vocoder.judging.report.page import Example, render_report

__all__ = ["Example", "render_report"]
