"""Recordings to train on."""
