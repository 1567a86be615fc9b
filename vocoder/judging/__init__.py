"""Judging models: likelihood, perceptual metrics, comparisons and reports."""
