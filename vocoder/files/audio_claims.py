"""How much sound the header of a file promises, beyond which libsndfile reads nothing.

A file that was cut is shortened by it in silence, and one whose size was never filled in is empty.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

# A program that writes WAV to a pipe cannot go back to fill in the size of its data: ffmpeg leaves
# 0xFFFFFFFF there, espeak-ng 0x7FFFF000, others 0. Such sizes promise nothing.
_UNKNOWN = {"I": 0x7FFFF000, "Q": 1 << 62}

_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


@dataclass(frozen=True)
class _Chunks:
    """A form of file that consists of chunks, each with its name and size before it."""

    order: str  # "<" or ">"
    name: str  # format of a chunk's name
    size: str  # format of its size
    first: int  # where the first chunk lies
    sound: bytes  # the name of the chunk of samples
    align: int
    own: int = 0  # bytes of name and size that the size counts


_FORMS = {
    b"RIFF": _Chunks("<", "4s", "I", 12, b"data", 2),
    b"RIFX": _Chunks(">", "4s", "I", 12, b"data", 2),
    b"RF64": _Chunks("<", "4s", "I", 12, b"data", 2),
    b"FORM": _Chunks(">", "4s", "I", 12, b"SSND", 2),  # AIFF
    b"riff": _Chunks("<", "16s", "Q", 40, _W64_DATA, 8, own=24),
}
_AU = {b".snd": ">4xII", b"dns.": "<4xII"}


@dataclass(frozen=True)
class Claim:
    """What a header says of the size of its samples.

    Attributes:
        n_missing: Bytes of sound that it promises beyond the file's end.
        unsized: Place of a 0 that stands for the size of samples that are there; None without one.
    """

    n_missing: int = 0
    unsized: int | None = None


def read_claim(stream: BinaryIO) -> Claim:
    """Return what the header of an open file of sound claims; of an unknown form, nothing."""
    length = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(1024)
    magic = head[:4]
    if magic in _FORMS:
        return _claim_of_chunks(stream, _FORMS[magic], length)
    if magic in _AU and len(head) >= 12:
        start, size = struct.unpack_from(_AU[magic], head)
        return Claim() if size >= _UNKNOWN["I"] else Claim(max(0, start + size - length))
    if magic == b"NIST":
        return Claim(max(0, _end_of_nist(head) - length))
    return Claim()


def _claim_of_chunks(stream: BinaryIO, form: _Chunks, length: int) -> Claim:
    layout = struct.Struct(form.order + form.name + form.size)
    large = 0  # the size of the samples where 32 bits are too few
    place = form.first
    while place + layout.size <= length:
        stream.seek(place)
        name, size = layout.unpack(stream.read(layout.size))
        start = place + layout.size
        size = max(0, size - form.own)
        if name == b"ds64":
            (large,) = struct.unpack("<8xQ", stream.read(16).ljust(16, b"\0"))
        if name == form.sound:
            if size == 0xFFFFFFFF and 0 < large < _UNKNOWN["Q"]:
                size = large
            elif size >= _UNKNOWN[form.size]:
                return Claim()
            if not size and name == b"data" and _is_sound(stream, form, start, length):
                return Claim(unsized=place + 4)
            return Claim(max(0, start + size - length))
        place = start + size - size % -form.align
    return Claim()


def _is_sound(stream: BinaryIO, form: _Chunks, place: int, length: int) -> bool:
    """Tell whether samples lie there, and not nothing or the next chunks."""
    layout = struct.Struct(form.order + form.name + form.size)
    if place >= length:
        return False
    while place + layout.size <= length:
        stream.seek(place)
        name, size = layout.unpack(stream.read(layout.size))
        if not re.fullmatch(rb"[\x20-\x7e]{4}", name):
            return True
        place += layout.size + size - size % -form.align
    return place not in (length, length + 1)


def _end_of_nist(head: bytes) -> int:
    """Return where the samples of a NIST SPHERE file end; 0 where its header does not say."""
    sizes = [
        re.search(pattern, head)
        for pattern in (
            rb"\ANIST_1A\n *(\d{1,6})\n",
            rb"\nsample_count -i (\d{1,15})\n",
            rb"\nchannel_count -i (\d{1,5})\n",
            rb"\nsample_n_bytes -i (\d)\n",
        )
    ]
    if None in sizes:
        return 0
    header, n_samples, n_channels, n_bytes = (int(size[1]) for size in sizes if size)
    return header + n_samples * n_channels * n_bytes
