"""One gated layer of the estimators as one op."""
