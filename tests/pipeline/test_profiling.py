"""Some steps of a training are traced; what fails costs the trace and never the run."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from golf_fast.config import RunConfig
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.profiling import Profiler
from golf_fast.runs import RunPaths
from golf_fast.train.clock import Clock


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def trained(folder: Path, first: int, last: int, steps: int, begun: int = 0, main: bool = True) -> list[str]:
    """The lines of a training of matrix products with a profiler."""
    log = Said()
    ranks = Ranks.single() if main else SimpleNamespace(main=False, device=torch.device("cpu"))
    context = cast(Context, SimpleNamespace(ranks=ranks, log=log, paths=RunPaths(folder)))
    profiler, clock, matrix = Profiler(context, first, last), Clock(Ranks.single()), torch.ones(64, 64)
    profiler.between_steps(begun, clock)
    for step in range(begun + 1, steps + 1):
        matrix = (matrix @ matrix).tanh()
        clock.step_issued()
        profiler.between_steps(step, clock)
    profiler.end(steps)
    return log.lines


def traced(folder: Path) -> list[dict[str, Any]]:
    with gzip.open(RunPaths(folder).profile_trace) as file:
        events: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return events


def test_torch_says_nothing_of_its_own(tmp_path: Path) -> None:
    # It reads its level once a process.
    program = (
        f"import test_profiling; from pathlib import Path; test_profiling.trained(Path({str(tmp_path)!r}), 1, 1, 2)"
    )
    path = os.pathsep.join(map(str, (Path(__file__).parent, *Path(__file__).parents[1:3])))
    environment = {name: value for name, value in os.environ.items() if name != "KINETO_LOG_LEVEL"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env={**environment, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert traced(tmp_path)


def test_a_trace_has_the_steps_that_were_asked_for(tmp_path: Path) -> None:
    lines = trained(tmp_path, 2, 4, 10)
    assert sum(event.get("name") == "aten::mm" for event in traced(tmp_path)) == 3
    table = RunPaths(tmp_path).profile_table.read_text()
    assert table.splitlines()[0].split() == ["kernel", "calls", "cpu", "ms", "share"]
    (row,) = [line for line in table.splitlines() if line.startswith("aten::mm ")]
    assert row.split()[1] == "3"
    assert lines[0].startswith("profile: steps 2 to 4 are traced, which slows them")
    assert lines[1].startswith("profile: steps 2 to 4, ")
    assert "aten::mm" in lines[1]
    assert "profile.json.gz" in lines[2]
    assert {path.name for path in tmp_path.iterdir()} == {"profile.json.gz", "profile.txt"}


@pytest.mark.parametrize(
    ("first", "last", "steps", "begun", "count"), [(3, 9, 5, 0, 3), (1, 1, 3, 0, 1), (2, 6, 9, 4, 2)]
)
def test_what_there_was_of_the_steps_is_traced(
    tmp_path: Path, first: int, last: int, steps: int, begun: int, count: int
) -> None:
    trained(tmp_path, first, last, steps, begun)
    assert sum(event.get("name") == "aten::mm" for event in traced(tmp_path)) == count


@pytest.mark.parametrize(("first", "last", "begun"), [(8, 9, 0), (1, 2, 3)])
def test_steps_that_never_come_leave_nothing(tmp_path: Path, first: int, last: int, begun: int) -> None:
    assert trained(tmp_path, first, last, 5, begun) == []
    assert list(tmp_path.iterdir()) == []


def test_other_ranks_trace_nothing(tmp_path: Path) -> None:
    assert trained(tmp_path, 1, 2, 3, main=False) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", ["start", "stop", "export_chrome_trace", "key_averages"])
def test_a_profiler_that_fails_is_said_and_the_steps_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUPTI is busy")

    monkeypatch.setattr(torch.profiler.profile, failing, fail)
    lines = trained(tmp_path, 1, 2, 4)
    assert [line for line in lines if "failed" in line] == [
        "profile: failed (RuntimeError: CUPTI is busy); the run goes on without it"
    ]
    assert not RunPaths(tmp_path).profile_trace.exists()


@pytest.mark.parametrize("text", ["5", "5:4", "0:3", "a:b", "1:2:3", "-1:3", " 1:2", "1:9999999999"])
def test_other_spans_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"profile is .*START:END"):
        RunConfig(profile=text)


def test_a_span_is_two_steps() -> None:
    assert RunConfig(profile="20:24").profiled == (20, 24)
    assert RunConfig().profiled is None
