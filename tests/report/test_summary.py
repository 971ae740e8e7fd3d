from dataclasses import dataclass

from golf_fast.report import summary


@dataclass
class Step:
    name: str
    bytes: int
    bpb: float | None


def cells(text: str) -> list[list[str]]:
    """The rows of a table below its heading, cut where two spaces or more stand."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()[2:]]


def test_each_step_is_compared_with_the_one_before() -> None:
    steps = [Step("trained", 4000, 1.5), Step("quantized", 1000, 1.52), Step("coded", 900, 1.52)]
    assert cells(summary.compression_table(steps)) == [
        ["trained", "4,000", "1.50000"],
        ["quantized", "1,000", "-3,000", "1.52000", "+0.02000"],
        ["coded", "900", "-100", "1.52000", "+0.00000"],
    ]


def test_what_was_not_measured_is_left_empty() -> None:
    steps = [Step("trained", 4000, None), Step("coded", 900, None)]
    assert cells(summary.compression_table(steps)) == [["trained", "4,000"], ["coded", "900", "-3,100"]]
    rows = cells(summary.stages_table([("data", 0.25, None, None), ("score", 10.0, 5000, 1.23456)]))
    assert rows == [["data", "0.2"], ["score", "10.0", "5,000", "1.2346"]]
