"""A growing window compiles no kernel again: counted in the cache that launches look into, without a GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, triton, torch
from golf_fast.ops.absent_gpu import AbsentGpu
from golf_fast.ops.window_attention import cases, launches

triton.runtime.driver.set_active(AbsentGpu(90))

def empty(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device="meta")

def compiled(length, window):
    q, out, grad, dq = (empty(4, length, 8, 64) for _ in range(4))
    k, v, dk, dv = (empty(4, length, 4, 64) for _ in range(4))
    lse, delta = (empty(4, 8, length, dtype=torch.float32) for _ in range(2))
    all_launches = (
        launches.forward(q, k, v, None, window, None, out, lse),
        *launches.backward(grad, q, k, v, out, lse, None, window, dq, dk, dv, delta),
    )
    for launch in all_launches:
        launch.compile()
    return [sum(len(cache[0]) for cache in launch.kernel.device_caches.values()) for launch in all_launches]

print(json.dumps([compiled(*shape) for shape in json.loads(input())]))
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_windows_and_odd_lengths_share_one_compilation() -> None:
    shapes = [(2048, 1), (2048, 2), (2048, 100), (2048, 128), (2048, 10**9), (2047, 512)]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(shapes), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    counts = json.loads(done.stdout)
    # Strides are multiples of 16 at an odd length too, so those of a batch do not compile anew either.
    assert counts == [[1, 1, 1]] * len(shapes)
