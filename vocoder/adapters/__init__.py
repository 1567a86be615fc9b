"""Voices as the vocoder of other projects' pipelines, one file each; `docs/tts.md` shows them all.

No file here imports the project that it serves.
"""
