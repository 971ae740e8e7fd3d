"""Tables as text."""

import pytest

from golf_fast.report import table


def test_numbers_to_the_right_and_text_to_the_left() -> None:
    assert table(
        ["stage", "seconds", "bytes", "note"],
        [["data", 8.25, None, "built"], ["train", "100.0", 15913048, "3"], ["x", None, 0, True]],
    ).splitlines() == [
        "stage  seconds       bytes  note",
        "-----  -------  ----------  -----",
        "data    8.2500           -  built",
        "train    100.0  15,913,048  3",
        "x            -           0  yes",
    ]


def test_no_line_ends_in_blanks_and_the_terminal_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["a" * 200, ""], ["b", "c"]]
    wide = table(["first", "second"], rows)
    monkeypatch.setenv("COLUMNS", "20")
    assert table(["first", "second"], rows) == wide
    assert all(line == line.rstrip() for line in wide.splitlines())


def test_no_rows() -> None:
    assert table(["a", "bc"], []) == "a  bc\n-  --"


def test_a_column_of_dashes_alone_is_text() -> None:
    assert table(["bytes"], [[None]]).splitlines()[2] == "-"
