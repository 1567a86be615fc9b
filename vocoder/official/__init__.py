"""Checkpoints of the published code bases."""
