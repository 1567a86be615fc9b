"""Whole models, one file each: Config, then Model."""
