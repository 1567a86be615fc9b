"""Writing an ONNX graph: nodes that name themselves, and constants that are stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
INT = TensorProto.INT64

# The oldest that has all that is used: files then load in onnxruntime from 1.12, of early 2022.
_OPSET, _IR_VERSION = 17, 8


class Graph:
    """A graph under construction, or the body of a loop within one.

    A value is its name. Every method that adds a node returns the name of its result.

    Args:
        outer: the graph that this one is the body of a loop in; its values can be read here.
    """

    def __init__(self, outer: Graph | None = None) -> None:
        self._root: Graph = self if outer is None else outer._root
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[Any, ...], onnx.TensorProto] = {}  # of the root alone
        self._n_names = 0  # of the root alone

    def input(self, name: str, kind: int, shape: Sequence[int | str] | None = None) -> str:
        """Declare an input; a dimension that is not fixed has a name."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(
        self, value: str, name: str, kind: int, shape: Sequence[int | str] | None = None
    ) -> None:
        """Give a value out under a name; one may be given out twice."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def take_back(self, name: str) -> str:
        """Undo `output`, and return the value, of which something else is to be made."""
        (given,) = (node for node in self._nodes if node.output == [name])
        self._nodes.remove(given)
        self._outputs = [output for output in self._outputs if output.name != name]
        value: str = given.input[0]
        return value

    def name(self, stem: str) -> str:
        """Return a name that is not yet taken, here or in any loop."""
        self._root._n_names += 1
        return f"{stem}_{self._root._n_names}"

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result."""
        return self.ops(operator, *inputs, n_outputs=1, **attributes)[0]

    def ops(self, operator: str, *inputs: str, n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several results."""
        outputs = [self.name(operator) for _ in range(n_outputs)]
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def constant(self, value: Tensor | npt.ArrayLike, kind: int = FLOAT) -> str:
        """Store a constant, once in the whole model whatever asks for the same values again."""
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        array = np.array(value, helper.tensor_dtype_to_np_dtype(kind), order="C")
        key = (kind, array.shape, hashlib.sha256(array.tobytes()).digest())
        constants = self._root._constants
        if key not in constants:
            constants[key] = numpy_helper.from_array(array, self.name("constant"))
        return constants[key].name

    def ints(self, *values: int) -> str:
        """Store a vector of integers."""
        return self.constant(values, INT)

    def cast(self, value: str, kind: int) -> str:
        """Convert a value to another type of number."""
        return self.op("Cast", value, to=kind)

    def size(self, value: str, axis: int) -> str:
        """Return the size of a value along an axis, a vector of one integer."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def count(self, start: str, end: str) -> str:
        """Return the integers from `start` up to `end`, each a vector of one; `end` is left out."""
        limits = [self.op("Squeeze", limit, self.ints(0)) for limit in (start, end)]
        return self.op("Range", *limits, self.constant(1, INT))

    def scan(self, body: Graph, states: Sequence[str], rows: Sequence[str]) -> list[str]:
        """Run `body` on each of the rows in turn.

        Args:
            body: takes the states and one of each of `rows`; returns the next states, and after
                them results that are stacked.
            states: what they are before the first row.
            rows: values that are cut along their first axis.

        Returns:
            The states after the last row, and the results of all rows, stacked.
        """
        return self.ops(
            "Scan",
            *states,
            *rows,
            n_outputs=len(body._outputs),
            body=body._proto("rows"),
            num_scan_inputs=len(rows),
        )

    def model(self, name: str, producer: str, version: str) -> onnx.ModelProto:
        """Return the whole, which must be a root."""
        return helper.make_model(
            self._proto(name),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name=producer,
            producer_version=version,
        )

    def _proto(self, name: str) -> onnx.GraphProto:
        constants = list(self._constants.values())
        return helper.make_graph(self._nodes, name, self._inputs, self._outputs, constants)
