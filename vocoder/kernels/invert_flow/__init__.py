"""The inverse of one row-autoregressive flow, row after row."""
