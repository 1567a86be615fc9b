"""Bijections: forward, inverse and log-determinant side by side."""
