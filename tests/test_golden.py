"""What fixed runs compute: a change that moves a number here says so in `golden/runs.json`, or is a fault.

Each recipe runs at a small size in float32 on one thread, under a recorded schedule, so that a run is a function of
its seed and text. On the machine that recorded the numbers they must come again to the last bit, artifact and
weights too; elsewhere, and with GOLF_FAST_BACKENDS=reference, where other instructions add in another order, to a few
parts in a hundred thousand.

    python tests/test_golden.py    records them anew
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bare_run import leave_out_the_rest

from golf_fast.console import exit_with
from golf_fast.ops import backends, passes
from golf_fast.train.__main__ import main

GOLDEN = Path(__file__).parent / "golden"
RUNS = GOLDEN / "runs.json"
SMALL = [
    "--model.vocab-size=320",
    "--model.dim=64",
    "--model.layers=4",
    "--model.heads=4",
    "--model.kv-heads=2",
    "--model.bigram-buckets=96",
    "--model.bigram-dim=16",
    "--train.batch-tokens=1024",
    "--train.seq-len=32",
    "--train.warmup-steps=1",
    "--train.ema-start-step=2",
    "--train.swa-every=2",
    "--train.compute-dtype=float32",
    "--train.val-every=5",
    "--compress.prune-min-elements=256",
    "--compress.fp16-max-elements=256",
    "--score.window=32",
    "--score.stride=16",
    "--score.ttt-chunk-tokens=512",
    "--score.ttt-batch-rows=4",
]
RECIPES = {
    "tiny": ["--compress.calibration-tokens=2048"],
    "base": [],
    "seed": ["--compress.low-rank=2", "--compress.calibration-tokens=2048"],
    "seed_as_published": ["--score.allow-illegal"],
}
LEFT_OUT = {
    "run_id",
    "train_seconds",
    "tokens_per_second",
    "total_bytes",
    "code_bytes",
    "code_hash",
    "eval_seconds",
    "device",
    "versions",
    "backends",
    "data_fingerprint",
    "file_hashes",
    "validation_shards",
    "validation_bytes",
    "peak_memory_bytes",
    "not_judged",
    "score_order",
    "resumed",
    "repeated_seconds",
}
"""Of result.json: what depends on the machine or the text of the program."""
TOLERANCE = 5e-5
"""Relative, of losses on another machine."""


def machine() -> str:
    """What the last bits depend on."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    capability = torch.backends.cpu.get_cpu_capability()
    name = model.partition(":")[2].strip()
    native = backends.resolve("softcap_cross_entropy", "cpu").name == "native"
    made_by = f"passes {passes.paths()[-1]}" if native else "no passes"
    return f"{name}, {capability}, {made_by}, torch {torch.__version__}, numpy {np.__version__}"


def write_text(path: Path) -> None:
    """Documents of made-up words, some of them much more frequent than others."""
    generator = np.random.default_rng(7)
    words = ["".join(chr(97 + letter) for letter in generator.integers(0, 26, size)) for size in [1, 2, 4, 7] * 50]
    shares = 1 / np.arange(1, len(words) + 1)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(60):
            chosen = generator.choice(words, 60, p=shares / shares.sum())
            file.write(json.dumps({"text": " ".join(chosen) + ".\n"}) + "\n")


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(folder: Path, recipe: str) -> dict[str, Any]:
    """What is computed by a run of `recipe` in `folder`."""
    write_text(folder / "text.jsonl")
    flags = [f"--data.text={folder / 'text.jsonl'}", f"--data.built={folder / 'built'}", f"--runs-dir={folder}"]
    replayed = f"--train.replay-schedule={GOLDEN / 'schedule'}"
    arguments = [recipe, *SMALL, *flags, replayed, f"--run-id={recipe}", "--device=cpu", *RECIPES[recipe]]
    before = sys.argv
    sys.argv = ["train", *arguments]
    try:
        with one_thread(), pytest.MonkeyPatch.context() as patch:
            leave_out_the_rest(patch.setattr)
            with pytest.raises(SystemExit) as stop:
                exit_with(main)
    finally:
        sys.argv = before
    assert stop.value.code == 0
    return found(folder / recipe)


def found(run_dir: Path) -> dict[str, Any]:
    """The numbers of a run, and the hashes of the files that hold more of them."""
    result = json.loads((run_dir / "result.json").read_text())
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return {
        "result": {name: value for name, value in result.items() if name not in LEFT_OUT},
        "train_losses": [record["loss"] for record in records if record["kind"] == "train"],
        "val_losses": [record["loss"] for record in records if record["kind"] == "val"],
        "compression": [record["bpb"] for record in records if record["kind"] == "compression"],
        "tensors": {record["name"]: record["error"] for record in records if record["kind"] == "tensor"},
        "hashes": {
            name: hashlib.sha256((run_dir / name).read_bytes()).hexdigest()
            for name in ("artifact.golf", "checkpoint/weights.safetensors", "token_losses")
        },
    }


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested values, with where they are."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, f"{path}.{key}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from numbers(item, f"{path}[{place}]")
    else:
        yield path, value


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_fixed_run_computes_what_it_did(recipe: str, tmp_path: Path) -> None:
    golden = json.loads(RUNS.read_text())
    again = json.loads(json.dumps(run(tmp_path, recipe)))
    expected = golden["runs"][recipe]
    if golden["machine"] == machine():
        assert again == expected
        return
    again_leaves, leaves = dict(numbers(again)), dict(numbers(expected))
    assert again_leaves.keys() == leaves.keys()
    for path, value in leaves.items():
        if path.startswith(".hashes"):
            continue
        if "bytes" in path or "artifact_parts" in path:  # a weight may fall on another integer
            assert again_leaves[path] == pytest.approx(value, rel=0.01, abs=2), path
        elif path.startswith(".tensors"):
            assert again_leaves[path] == pytest.approx(value, rel=0.03), path
        elif isinstance(value, float):
            assert again_leaves[path] == pytest.approx(value, rel=TOLERANCE), path
        else:
            assert again_leaves[path] == value, path


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        runs = {}
        for each in sorted(RECIPES):
            (Path(made) / each).mkdir()
            runs[each] = run(Path(made) / each, each)
    RUNS.write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1, sort_keys=True) + "\n")
