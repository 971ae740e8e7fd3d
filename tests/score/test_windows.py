"""The arithmetic of windows against a loop that walks over them."""

import pytest

from golf_fast.score.windows import Windows

SHAPES = [(1, 1), (2, 1), (5, 5), (6, 4), (7, 3), (8, 2), (12, 5), (13, 13)]
LENGTHS = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 17, 18, 24, 25, 26, 40, 61]


def walk(targets: int, window: int, stride: int) -> list[range]:
    """What each window scores, by moving one window along until it reaches the end."""
    scored = []
    start = ended = 0
    while ended < targets:
        end = min(start + window, targets)
        scored.append(range(ended, end))
        start, ended = start + stride, end
    return scored


@pytest.mark.parametrize(("window", "stride"), SHAPES)
def test_each_window_scores_from_where_the_one_before_ended(window: int, stride: int) -> None:
    for targets in LENGTHS:
        windows = Windows(targets, window, stride)
        got = [range(windows.first_scored(k), windows.end(k)) for k in range(windows.count)]
        assert got == walk(targets, window, stride)
        assert [target for scored in got for target in scored] == list(range(targets))
        for k, scored in enumerate(got[1:], start=1):
            assert scored.start - k * stride == window - stride, "all but the first score from one place on"


@pytest.mark.parametrize(("window", "stride"), SHAPES)
def test_a_window_belongs_to_the_chunk_of_its_first_scored_target(window: int, stride: int) -> None:
    for targets in LENGTHS:
        windows = Windows(targets, window, stride)
        firsts = [scored.start for scored in walk(targets, window, stride)]
        for chunk in (window, window + 1, 2 * window, 3 * window + 2):
            for start in range(0, targets, chunk):
                stop = min(start + chunk, targets)
                inside = [k for k, first in enumerate(firsts) if start <= first < stop]
                assert list(range(*windows.scoring_from(start, stop))) == inside


def test_the_challenges_validation_set() -> None:
    """62,021,632 targets, 2048 by 64: the published scripts' 969,088 windows but the 31 short repeats at the end."""
    windows = Windows(62_021_632, 2048, 64)
    assert windows.count == 62_021_632 // 64 - 31
    assert windows.end(windows.count - 2) == 62_021_632 - 64
    assert windows.scoring_from(0, 32768) == (0, 481)
    assert windows.scoring_from(32768, 65536) == (481, 993)
