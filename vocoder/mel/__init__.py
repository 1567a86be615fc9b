"""Mel-spectrograms: their recipes, making them, files of them, and back to sound."""
