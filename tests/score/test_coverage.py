"""Marks of targets, against an array of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from golf_fast.score.coverage import Coverage

SIZE = 40
RANGES = st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE)).map(lambda pair: (pair[0], min(sum(pair), SIZE)))


@given(st.lists(RANGES, max_size=12), RANGES)
def test_marks_are_those_of_an_array(marked: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    coverage, expected = Coverage(SIZE), np.zeros(SIZE, np.bool_)
    for start, stop in marked:
        coverage.mark(start, stop)
        expected[start:stop] = True
        assert coverage.frontier == (SIZE if expected.all() else int(expected.argmin()))
    assert coverage.count == expected.sum()
    assert coverage.complete == expected.all()
    assert coverage.any(*asked) == expected[slice(*asked)].any()
    assert coverage.all(*asked) == expected[slice(*asked)].all()


def test_nothing_is_complete_that_has_no_targets() -> None:
    assert not Coverage(0).complete
