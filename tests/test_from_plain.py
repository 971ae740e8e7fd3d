"""Plain values of a file become a configuration only where each is what its field says."""

import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from golf_fast.checks import for_file, later
from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.from_plain import from_plain
from golf_fast.recipes import RECIPES

FILE = Path("some.json")


@dataclass(frozen=True)
class Inner:
    count: int = 3
    share: float = 0.5
    on: bool = True
    way: Literal["left", "right"] = "left"
    bits: Literal[5, 6] = 5
    place: Path | None = None
    names: tuple[str, ...] = ()
    new: int = later(7)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise InputError(f"inner.count is {self.count}: it must be 0 or more")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = later(None)


def plain(**changes: Any) -> dict[str, Any]:
    held = {key: value for key, value in dataclasses.asdict(Inner()).items() if key != "new"}
    return {"name": "a", "inner": held | changes}


def test_right_values_are_taken() -> None:
    assert from_plain(Outer, plain(), FILE) == Outer("a")
    made = from_plain(Outer, plain(place="x/y", names=["a", "b"], share=1, bits=6, new=8), FILE)
    assert made.inner == Inner(share=1.0, bits=6, place=Path("x/y"), names=("a", "b"), new=8)
    assert type(made.inner.share) is float


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"count": 3.0}, "inner.count is 3.0: it must be a whole number"),
        ({"count": True}, "inner.count is true: it must be a whole number"),
        ({"count": "3"}, 'inner.count is "3": it must be a whole number'),
        ({"count": None}, "inner.count is null: it must be a whole number"),
        ({"count": -1}, "inner.count is -1: it must be 0 or more"),
        ({"share": True}, "inner.share is true: it must be a number"),
        ({"share": "0.5"}, 'inner.share is "0.5": it must be a number'),
        ({"share": 10**400}, "inner.share is 1000"),
        ({"on": 1}, "inner.on is 1: it must be true or false"),
        ({"on": "yes"}, 'inner.on is "yes"'),
        ({"way": "up"}, 'inner.way is "up": it must be one of "left", "right"'),
        ({"way": ["left"]}, "inner.way is a list of 1: it must be one of"),
        ({"bits": 7}, "inner.bits is 7: it must be one of 5, 6"),
        ({"bits": 6.0}, "inner.bits is 6.0: it must be one of 5, 6"),
        ({"place": 3}, "inner.place is 3: it must be a path or null"),
        ({"place": "a\0b"}, r'inner.place is "a\u0000b": it must be a path or null'),
        ({"names": "ab"}, 'inner.names is "ab": it must be a list, each a text'),
        ({"names": ["a", 3]}, "inner.names is a list of 2: it must be a list, each a text"),
        ({"cuont": 3}, "inner.cuont is no field of this version; did you mean count?"),
        ({"\x1b[2J": 3}, r"inner.\u001b[2J"),
        ({"new": 7.5}, "inner.new is 7.5: it must be a whole number"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as raised:
        from_plain(Outer, plain(**changes), FILE)
    message = str(raised.value)
    assert message.startswith("some.json: ")
    assert said in message
    assert message.isprintable()
    assert len(message) < 200


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "the content is a list of 0: it must be an object"),
        (None, "the content is null"),
        ({}, "has no name; it must have one, a text"),
        ({"name": "a"}, "has no inner; it must have one, an object"),
        ({"name": "a", "inner": None}, "inner is null: it must be an object, the fields of a Inner"),
        ({"name": "a", "inner": {}}, "has no inner.count; it must have one, a whole number"),
    ],
)
def test_what_is_missing_is_named(value: object, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"some.json: {said}")):
        from_plain(Outer, value, FILE)


def test_a_dataclass_that_may_be_null_is_read_as_strictly() -> None:
    whole = plain()
    assert from_plain(Outer, {**whole, "other": None}, FILE).other is None
    assert from_plain(Outer, {**whole, "other": whole["inner"]}, FILE).other == Inner()
    for wrong, said in (
        ({}, "has no other.count"),
        (3, "other is 3: it must be an object"),
        ({"a": 1}, "other.a is no"),
    ):
        with pytest.raises(InputError, match=said):
            from_plain(Outer, {**whole, "other": wrong}, FILE)


def test_a_lenient_reader_passes_over_what_it_does_not_know_and_fills_what_is_not_there() -> None:
    assert from_plain(Outer, {"name": "a", "inner": {"more": 1}, "more": 2}, FILE, lenient=True) == Outer("a")
    with pytest.raises(InputError, match="has no name"):
        from_plain(Outer, {}, FILE, lenient=True)
    with pytest.raises(InputError, match=r"inner\.count is true"):
        from_plain(Outer, {"name": "a", "inner": {"count": True}}, FILE, lenient=True)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_comes_back_from_its_file(recipe: str) -> None:
    config = RECIPES[recipe]()
    assert from_plain(RunConfig, json.loads(json.dumps(config.as_dict())), FILE) == config


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield from leaves(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]


def changed(path: tuple[str, ...], value: object) -> dict[str, Any]:
    made = RunConfig().as_dict()
    held = made
    for key in path[:-1]:
        held = held[key]
    held[path[-1]] = value
    return made


@pytest.mark.parametrize("path", list(leaves(RunConfig().as_dict())), ids=".".join)
def test_no_field_of_a_run_takes_a_value_of_another_kind(path: tuple[str, ...]) -> None:
    """What a value is decides, for each field there is or will be; and no number is without a limit."""
    for value in ({}, [[]], {"a": 1}, [1.5], [None], 1e300, float("nan"), float("inf"), 2**64, -(2**64), "\0"):
        if path == ("recipe",) and value == "\0":
            continue  # a text that is only shown
        with pytest.raises(InputError, match=path[-1]):
            print(path, value, from_plain(RunConfig, changed(path, value), FILE))


def test_a_file_says_nothing_of_a_later_field_that_it_has_no_use_for() -> None:
    """So the artifact of an earlier recipe stays the same to the byte when a field is added."""
    assert "new" not in for_file(Inner())
    assert for_file(Inner(new=8))["new"] == 8
    assert list(for_file(Inner())) == [field.name for field in dataclasses.fields(Inner)][:-1]
    for inner in (Inner(), Inner(count=4, new=8)):
        assert from_plain(Inner, json.loads(json.dumps(for_file(inner))), FILE) == inner
