"""Files of `torch.save` that hold objects: their tensors, and of everything else only the state.

`torch.load` either imports and calls whatever a file names, or with `weights_only` refuses modules
that were saved whole. Here a module becomes an `Inert`, which has the name of its class and its
attributes, and nothing is imported. Both formats are read: the zip archive of today, and the stream
of pickles that torch wrote up to 1.5.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from vocoder.errors import VocoderError, reason
from vocoder.files.pickles import refuse_large_memo

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Inert:
    """What stands for an object of a class that is not imported.

    Attributes:
        origin: full name of its class.
        state: Attributes of the object, as the file has them.
    """

    origin = ""
    state: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.state = state


_NOTHING = r"(?!)"


def read_torch_file(path: str | Path, inert: str = _NOTHING) -> Any:
    """Return what `torch.save` wrote, all tensors on the CPU.

    Args:
        path: Path of the file.
        inert: a regular expression of the full names that become an `Inert`, by default of none;
            beside them tensors and plain values alone are admitted.

    Raises:
        VocoderError: the file is missing, not one of torch, damaged, or names anything else.
    """
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"PK":
                return _Zip(file, inert).load()
            return _Legacy(file, inert).load()
    except FileNotFoundError:
        raise VocoderError(f"{path}: no such file") from None
    # The machine of pickle, zip and torch meet damage with any exception.
    except Exception as error:
        raise VocoderError(
            f"{path}: not a file of tensors alone, or damaged ({reason(error)})"
        ) from None


def module_tensors(module: Inert, prefix: str = "") -> dict[str, Tensor]:
    """Return the parameters of a module that was saved whole, named as in its state dict.

    Raises:
        VocoderError: it has not the attributes of a module.
    """
    tensors = {}
    parameters, children = (module.state.get(key) for key in ("_parameters", "_modules"))
    if not isinstance(parameters, dict) or not isinstance(children, dict) or prefix.count(".") > 9:
        raise VocoderError(f"{module.origin} {prefix[:99]}: not a module as torch saves them")
    for name, parameter in parameters.items():
        if isinstance(parameter, Tensor):
            tensors[f"{prefix}{name}"] = parameter
    for name, child in children.items():
        if isinstance(child, Inert):
            tensors |= module_tensors(child, f"{prefix}{name}.")
    return tensors


class _Dict(dict[Any, Any]):
    """An OrderedDict without its attributes, such as the `_metadata` of a state dict."""

    def __setstate__(self, state: Any) -> None:
        pass


class _StorageType:
    """The type of a storage, which a file names."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def _rebuild_tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """Return a view of a storage; the other arguments matter to training alone."""
    if math.prod(size) > storage.numel():
        raise pickle.UnpicklingError(f"it views {storage.numel()} values in shape {tuple(size)}")
    return torch.as_strided(storage, size, stride, offset)


def _rebuild_parameter(tensor: Tensor, *_: Any) -> Tensor:
    return tensor


_PLAIN: dict[str, Any] = {
    "collections.OrderedDict": _Dict,
    "collections.Counter": _Dict,
    "builtins.set": set,
    "__builtin__.set": set,  # as protocol 2 calls it
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    **{f"torch.{name}": _StorageType(dtype) for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Knows the names of tensors and plain values, and lets the others of `inert` be.

    Args:
        file: where a pickle starts.
        inert: see `read_torch_file`.
        load_storage: makes the storage of a persistent id, (N,).
    """

    def __init__(self, file: BinaryIO, inert: str, load_storage: Callable[..., Tensor]) -> None:
        super().__init__(file, encoding="latin1")
        self.inert = inert
        self.load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _PLAIN:
            return _PLAIN[full]
        if re.fullmatch(self.inert, full) is None:
            raise pickle.UnpicklingError(f"it names {full}")
        return type("Inert", (Inert,), {"origin": full})

    def persistent_load(self, pid: Any) -> Any:
        kind, *parts = pid
        if kind == "module":  # a class, where its source was, and its source
            return parts[0]
        if kind != "storage" or not isinstance(parts[0], _StorageType):
            raise pickle.UnpicklingError(f"it refers to a {kind!r} of an unknown type")
        return self.load_storage(parts[0].dtype, *parts[1:])


class _Zip:
    """The zip archive: a pickle, and every storage as a file of its own."""

    def __init__(self, file: BinaryIO, inert: str) -> None:
        self.archive = zipfile.ZipFile(file)
        self.inert = inert
        names = [name for name in self.archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise pickle.UnpicklingError("an archive without the data.pkl of torch")
        self.root = names[0].removesuffix("data.pkl")
        self.storages: dict[str, Tensor] = {}

    def load(self) -> Any:
        names = self.archive.namelist()
        order = f"{self.root}byteorder"
        if order in names and self._read(order) != b"little":
            raise pickle.UnpicklingError("its numbers are big-endian")
        content = self._read(f"{self.root}data.pkl")
        stream = io.BytesIO(content)
        refuse_large_memo(stream, len(content))
        return _Unpickler(stream, self.inert, self._storage).load()

    def _storage(self, dtype: torch.dtype, key: str, *_: Any) -> Tensor:
        if key not in self.storages:
            content = bytearray(self._read(f"{self.root}data/{key}"))
            # Torch makes no tensor of a buffer without a byte.
            self.storages[key] = torch.frombuffer(content or bytearray(8), dtype=dtype)
        return self.storages[key]

    def _read(self, name: str) -> bytes:
        return self.archive.read(self._info(name))

    def _info(self, name: str) -> zipfile.ZipInfo:
        """Return an entry; torch compresses none, and a small file must not become a large one."""
        info = self.archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError(f"{name} is compressed")
        return info


class _Legacy:
    """The stream: magic number, version, facts of the machine, pickle, keys, storages."""

    def __init__(self, file: BinaryIO, inert: str) -> None:
        self.file = file
        self.inert = inert
        self.n_bytes = self.n_unclaimed = file.seek(0, 2)
        file.seek(0)
        self.storages: dict[str, Tensor] = {}

    def load(self) -> Any:
        if self._unpickle() != _LEGACY_MAGIC:
            raise pickle.UnpicklingError("no file of torch")
        self._unpickle()  # the version, which is 1001 in all files there are
        facts = self._unpickle()
        if not facts["little_endian"]:
            raise pickle.UnpicklingError("its numbers are big-endian")
        content = self._unpickle()
        for key in self._unpickle():
            self._fill(self.storages.pop(key))
        if self.storages:
            raise pickle.UnpicklingError("it lacks some of its tensors")
        return content

    def _unpickle(self) -> Any:
        refuse_large_memo(self.file, self.n_bytes)
        return _Unpickler(self.file, self.inert, self._storage).load()

    def _storage(
        self, dtype: torch.dtype, key: str, location: str, n: int, view: Any = None
    ) -> Tensor:
        """Return a storage that is filled later, or the part of one that an old view is."""
        if key not in self.storages:
            self.n_unclaimed -= n * dtype.itemsize
            if n < 0 or self.n_unclaimed < 0:
                raise pickle.UnpicklingError(f"it claims {n} values, more than it holds")
            self.storages[key] = torch.empty(n, dtype=dtype)
        storage = self.storages[key]
        if view is None:
            return storage
        _, start, length = view
        return storage[start : start + length]

    def _fill(self, storage: Tensor) -> None:
        (n,) = struct.unpack("<q", self.file.read(8))
        content = self.file.read(storage.nbytes)
        if n != storage.numel() or len(content) != storage.nbytes:
            raise pickle.UnpicklingError("it ends within its tensors")
        if content:
            storage.copy_(torch.frombuffer(bytearray(content), dtype=storage.dtype))
