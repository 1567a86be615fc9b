"""Typed configuration: conversions, and refusals that name the key."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocoder.config import ConfigError, from_dict, to_dict


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    count: int = 1
    on: bool = False
    name: str = "x"
    limit: float | None = None
    sizes: tuple[int, ...] = (1,)
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count must not be negative")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("count", "3", 3),
        ("count", "1e3", 1000),
        ("count", "9007199254740993", 2**53 + 1),
        ("count", 2.0, 2),
        ("count", 2**70, 2**70),
        ("on", "True", True),
        ("limit", "1e-3", 1e-3),
        ("limit", "none", None),
        ("limit", None, None),
        ("sizes", "[3, 4]", (3, 4)),
        ("sizes", "5,6", (5, 6)),
        ("sizes", [7], (7,)),
    ],
)
def test_conversion_by_the_type_of_the_field(key: str, text: object, value: object) -> None:
    result = getattr(from_dict(Outer, {key: text}), key)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 1}, "cuont: unknown key; did you mean 'count'?"),
        ({"count": "many"}, "count: expected int, got 'many'"),
        ({"count": 1.5}, "count: expected int, got 1.5"),
        ({"count": True}, "count: expected int, got True"),
        ({"count": "nan"}, "count: expected int, got 'nan'"),
        ({"count": "inf"}, "count: expected int, got 'inf'"),
        ({"count": "sNaN"}, "count: expected int, got 'sNaN'"),
        ({"count": "1e999999999"}, "count: expected int, got '1e999999999'"),
        ({"count": "1.00000000000000000001"}, "count: expected int, got '1.00000000000000000001'"),
        ({"on": 1}, "on: expected bool, got 1"),
        ({"name": 3}, "name: expected str, got 3"),
        ({"sizes": 3}, "sizes: expected a list, got 3"),
        ({"sizes": ["a"]}, "sizes[0]: expected int, got 'a'"),
        ({"inner": {"rate": "fast"}}, "inner.rate: expected float, got 'fast'"),
        ({"inner": {"kind": "c"}}, "inner.kind: 'c' is not one of 'a', 'b'"),
        ({"inner": 3}, "inner: expected a mapping, got 3"),
        ({"count": -1}, "Outer: count must not be negative"),
    ],
)
def test_refusal_names_the_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, values)
    assert str(caught.value) == message


@dataclass(frozen=True)
class Strict:
    """A class whose refusal does not know where its values stand."""

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError("count must not be negative")


def test_a_refusal_of_the_class_itself_names_the_place() -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Strict, {"count": -1}, "manifest.json: preset")
    assert str(caught.value) == "manifest.json: preset: count must not be negative"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^place: lacks a, b, c and 1 more$"):
        from_dict(
            make_dataclass("Many", [*((name, int) for name in "abcd"), ("e", int, 1)]), {}, "place"
        )
    with pytest.raises(ConfigError, match=r"^Few: lacks b$"):
        from_dict(make_dataclass("Few", [("a", int), ("b", int)]), {"a": 1})


@dataclass(frozen=True)
class Unions:
    """Types that a plugin may give its fields."""

    number: int | float = 1
    text: str | int | None = "x"
    lr: float | Literal["auto"] = "auto"
    inner: Inner | bool = False
    either: Optional[Union[int, bool]] = None  # noqa: UP007, UP045
    many: list[int | str] = dataclasses.field(default_factory=list)
    some: Sequence[float] = ()
    pair: tuple[int, str] = (1, "a")
    any_of: tuple[float | None, ...] = ()


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("number", "3", 3),
        ("number", "1.5", 1.5),
        ("number", 2.0, 2.0),
        ("text", "3", "3"),
        ("text", 3, 3),
        ("text", "none", None),
        ("lr", "1e-3", 1e-3),
        ("lr", "auto", "auto"),
        ("inner", {"rate": 2}, Inner(2.0)),
        ("inner", "true", True),
        ("either", True, True),
        ("many", "1, a", ["1", "a"]),
        ("many", (1, "2"), [1, "2"]),
        ("some", [1, "2"], (1.0, 2.0)),
        ("pair", "2,b", (2, "b")),
        ("any_of", [None, 1], (None, 1.0)),
    ],
)
def test_unions_and_lists(key: str, given: object, value: object) -> None:
    result = getattr(from_dict(Unions, {key: given}), key)
    assert result == value
    assert type(result) is type(value)
    config = Unions(**{key: result})  # type: ignore[arg-type]
    assert from_dict(Unions, to_dict(config)) == config


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (int | float, True, "x: expected int or float, got True"),
        (float | Literal["auto"], "fast", "x: expected float or typing.Literal['auto'], got"),
        (list[int], "a", "x[0]: expected int, got 'a'"),
        (list[int], 3, "x: expected a list, got 3"),
        (tuple[int, str], [1], "x: expected 2 items, got [1]"),
        (set[int], [1], "x: set[int] is no type of a setting; those are bool, int, float, str"),
        (complex, "1", "x: complex is no type of a setting"),
        (Any, "1", "x: Any is no type of a setting"),
        (list, "1", "x: list is no type of a setting"),
        (Path | None, "1", "x: Path is no type of a setting"),
        ("Nowhere", "1", "Made: the type of a setting is not known (name 'Nowhere' is not"),
    ],
)
def test_other_types_are_refused_in_one_line(hint: Any, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(make_dataclass("Made", [("x", hint)]), {"x": value})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@given(
    st.builds(
        Outer,
        count=st.integers(min_value=0),
        on=st.booleans(),
        name=st.text(),
        limit=st.none() | st.floats(allow_nan=False),
        sizes=st.lists(st.integers()).map(tuple),
        inner=st.builds(Inner, rate=st.floats(allow_nan=False), kind=st.sampled_from("ab")),
    )
)
def test_round_trip(config: Outer) -> None:
    assert from_dict(Outer, to_dict(config)) == config


@given(
    st.integers(-(10**300), 10**300),
    st.sampled_from(("{}", " {} ", "{}.0", "{}e0", "{}0e-1", "{:_}")),
)
def test_a_whole_number_arrives_exactly(number: int, form: str) -> None:
    """Also one that no float holds, in every form that a float may have."""
    assert from_dict(Outer, {"sizes": [form.format(number)]}).sizes == (number,)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from([*to_dict(Outer()), "other"]), plain) | plain)
def test_anything_else_is_a_config_error(values: Any) -> None:
    try:
        from_dict(Outer, values)
    except ConfigError as error:
        assert "\n" not in str(error)
