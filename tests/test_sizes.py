"""How large a file and a function may be, and that all of the package has type hints."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import vocoder

PACKAGE = Path(vocoder.__file__).parent
LONGEST_FILE = 400  # lines
LONGEST_BODY = 60  # lines, from the first statement after the docstring
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                yield f"{name}:{node.lineno} {node.name}", node


def n_lines(function: Function) -> int:
    first, *others = function.body
    docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = others[0] if docstring and others else first
    return (function.end_lineno or 0) - start.lineno + 1


def is_kernel(function: Function) -> bool:
    """Tell a Triton kernel, whose language has no types."""
    return any("triton.jit" in ast.unparse(decorator) for decorator in function.decorator_list)


def unhinted(function: Function) -> list[str]:
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    arguments += [more for more in (given.vararg, given.kwarg) if more is not None]
    bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
    return bare + (["return"] if function.returns is None else [])


def test_no_file_is_too_long() -> None:
    lengths = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()
    }
    assert not {name: n for name, n in lengths.items() if n > LONGEST_FILE}


def test_no_function_is_too_long() -> None:
    lengths = {name: n_lines(function) for name, function in functions()}
    assert not {name: n for name, n in lengths.items() if n > LONGEST_BODY}


def test_every_function_is_hinted() -> None:
    bare = {name: unhinted(node) for name, node in functions() if not is_kernel(node)}
    assert not {name: missing for name, missing in bare.items() if missing}
