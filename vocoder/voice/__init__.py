"""A trained voice at work: loading it, rendering whole utterances and streams."""
