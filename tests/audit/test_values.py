"""What abstract values say about chunks: which share tokens, and what copies remember."""

import pytest

from golf_fast.audit.script.values import NOTHING, UNKNOWN, WHOLE, Part, Value, blend, join, overlap


def part(*stamps: tuple[int, int]) -> Part:
    return frozenset(stamps)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (part(), part(), True),
        (part((1, 1)), part((1, 1)), True),
        (part((1, 1)), part((1, 2)), False),
        (part((1, 1)), part(), True),
        (part((1, 1)), part((2, 1)), True),
        (part((1, 1), (2, 1)), part((1, 2), (2, 1)), False),
        (part((1, 1), (1, 2)), part((1, 2)), True),
    ],
)
def test_two_parts_share_tokens_unless_one_loop_picked_them_in_different_turns(
    first: Part, second: Part, shared: bool
) -> None:
    assert overlap(frozenset({first}), frozenset({second})) is shared
    assert overlap(frozenset({second}), frozenset({first})) is shared


def test_nothing_shares_nothing() -> None:
    assert not overlap(NOTHING.parts, WHOLE)


def test_joined_values_keep_what_they_agree_on() -> None:
    one, two = Value(constant=1), Value(constant=2)
    assert join(one, one).constant == 1
    assert join(one, two).constant is UNKNOWN
    assert join(one, Value(constant=True)).constant is UNKNOWN
    assert join(one, NOTHING).constant is UNKNOWN


def test_what_is_computed_has_no_storage_and_remembers_it() -> None:
    value = blend([Value(cell=3, parts=WHOLE)])
    assert value.cell is None
    assert value.cells == {3}
    assert value.parts == WHOLE


def test_many_parts_become_fewer_and_larger() -> None:
    many = [Value(parts=frozenset({part((1, turn), (2, 1))})) for turn in range(40)]
    assert join(*many).parts == {part((2, 1))}
