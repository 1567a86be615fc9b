"""Corpora: readers, preprocessing, the manifest and random training crops."""
