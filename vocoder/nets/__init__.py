"""Estimators: the networks that parametrise the flows."""
