"""`python -m benchmarks tune` where there is no GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.measure import Comparison, Timing
from benchmarks.tune import command as tune
from benchmarks.tune.kernels import Shapes, kernels
from golf_fast.errors import InputError

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(("name", "first"), [("qk-backward", "tokens"), ("residual-mix-backward", "rows")])
def test_says_what_the_compiler_makes_of_each_choice(name: str, first: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks", "tune", "--compile", "--kernel", name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    said = r"warps (\d+)(?: programs (\d+))? +(\d+) registers +(\d+) bytes shared (\d+) programs"
    found = [re.search(said, line) for line in lines]
    assert len(lines) >= 5
    assert all(found)
    assert [line.split()[:2] for line in lines[:2]] == [[name, "now"], [name, first]]
    for match in found:
        warps, asked, registers, shared, programs = (int(number or 1) for number in match.groups())
        assert asked <= programs <= 64 // warps
        assert programs * registers * 32 * warps <= 65536
        assert programs * (shared + 1024) <= 233472


@pytest.mark.parametrize(
    ("arguments", "interpret", "message"),
    [
        (["--window", "0"], "", "--window is 0: it must be at least 1"),
        ([], "1", "TRITON_INTERPRET is 1, and the interpreter compiles nothing: unset it"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], interpret: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", interpret)
    with pytest.raises(InputError, match=f"^{message}$"):
        tune.main(arguments)


def pair(peer: str, ratio: float, ratio_p80: float) -> Comparison:
    now, other = Timing(0.8, 0.8, 0.8), Timing(0.8 * ratio, 0.1, 0.9)
    return Comparison(peer, now, other, ratio, ratio - 0.05, ratio_p80, 51)


def test_the_summary_takes_what_noise_does_not_reach() -> None:
    found = [
        ("attention-dq", pair("two heads", 0.9, 0.985)),
        ("attention-dq", pair("fastest", 0.75, 0.8)),
        ("mlp-up", pair("often slower", 0.9, 1.02)),
        ("mlp-up", pair("by a hair", 0.99, 0.995)),
    ]
    assert tune.summary(found) == [
        "attention-dq: take fastest: 0.800 -> 0.600 ms, 1.333 x as fast (choose_tiles of "
        "golf_fast/ops/window_attention/launches.py)",
        "mlp-up: keep the present one of 3",
    ]
    assert tune.summary([]) == []


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_every_kernel_has_a_place_where_it_is_chosen() -> None:
    assert {kernel.name for kernel in kernels(Shapes(), torch.device("meta"))} == set(tune.PLACES)
    for place in tune.PLACES.values():
        chooser, _, path = place.partition(" of ")
        assert chooser in (Path(__file__).parents[3] / path).read_text()
