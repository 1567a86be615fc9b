"""Pickles read as arrays alone: every protocol comes back, and nothing is ever run."""

from __future__ import annotations

import builtins
import os
import pickle
import struct

import numpy as np
import pytest
from cifar10_files import modern_pickle, with_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_sets import TEST, Payload, refuse

from vocoder.errors import VocoderError
from vocoder.files.pickles import load_arrays


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", ">i2", "<i8", "f4", "?"])
def test_arrays_come_back_from_every_protocol(protocol, order, dtype):
    array = np.asarray(np.arange(12).reshape(3, 4), dtype, order)
    loaded = load_arrays(pickle.dumps({"a": array, "n": [1, "x"]}, protocol), "a")
    np.testing.assert_array_equal(loaded["a"], array)
    assert loaded["a"].dtype == array.dtype
    assert loaded["n"] == [1, "x"]


def test_the_old_and_the_new_name_of_numpys_core():
    content = pickle.dumps({"a": np.arange(3)}, 2)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert (new in content) or (old in content)
    for name in (new, old):
        loaded = load_arrays(content.replace(new, old).replace(old, name), "a")
        np.testing.assert_array_equal(loaded["a"], np.arange(3))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, builtins.eval, builtins.exec, os.mkdir])
def test_a_hostile_pickle_is_not_run(tmp_path, protocol, function):
    trace = tmp_path / "trace"
    argument = {
        os.system: f"touch {trace}",
        os.mkdir: str(trace),
    }.get(function, f"__import__('os').mkdir({str(trace)!r})")
    content = pickle.dumps({"data": Payload(function, argument)}, protocol)
    folder = with_batch(tmp_path / "cifar", content)
    refuse("cifar10", folder, "test_batch: not a pickle of plain arrays (it names ", ".")
    assert not trace.exists()
    pickle.loads(content)  # the payload does work
    assert trace.exists()


HOSTILE_PICKLES = {
    "getattr": b"cbuiltins\ngetattr\n.",
    "a submodule of numpy": b"cnumpy.testing._private.utils\nrunstring\n.",
    "numpy's loader": b"cnumpy\nload\n.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.dot\x93.",
    "an extension code": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pos\n.",
    "the state of a name": b"\x80\x02cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",
    "a class of a name": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "an old instance": b"(inumpy\nndarray\n.",
    "a large memo": b"N" + b"r\xff\xff\xff\x7f" + b".",
    "a large memo in text": b"Np2000000000\n.",
    "a large string": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "a buffer of protocol 5": pickle.dumps({"a": np.arange(3)}, 5),
    "an encoder": b"c_codecs\nencode\n(Va\nVzip\ntR.",
    "nothing": b"",
    "no stop": b"}",
    "an empty stack": b".",
    "deep": b"(" * 100_000 + b"t" * 100_000 + b".",
}


@pytest.mark.parametrize("name", HOSTILE_PICKLES)
def test_hostile_pickles(name):
    with pytest.raises(VocoderError, match=r"\Aa: not a pickle of plain arrays [^\n]*\Z"):
        load_arrays(HOSTILE_PICKLES[name], "a")


@pytest.mark.parametrize("code", ["O", "V8", "i4,O", "i4,f8", "S3", "U1", "M8[s]", "c8", "i999"])
def test_arrays_of_anything_but_numbers_are_refused(code):
    content = pickle.dumps({"a": np.arange(3, dtype="i8")}, 2)
    text = code.encode()
    marked = content.replace(b"X\x02\x00\x00\x00i8", b"X" + struct.pack("<I", len(text)) + text)
    assert marked != content
    with pytest.raises(VocoderError, match="not a pickle of plain arrays"):
        load_arrays(marked, "a")


PLAIN = modern_pickle(TEST[:1])


@given(place=st.integers(0, 400), value=st.integers(0, 255))
@settings(deadline=None, max_examples=200)
def test_any_damage_is_read_or_refused(place, value):
    damaged = bytearray(PLAIN)
    damaged[place if place < 200 else -(place - 199)] = value
    try:
        load_arrays(bytes(damaged), "a")
    except VocoderError as error:
        assert "\n" not in str(error)
