"""Bytes in and out, safely: sound, arrays, pictures and pickles."""
