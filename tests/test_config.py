"""Typed configuration: conversions, and refusals that name the key."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from typing import Any, Literal

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
