"""`python -m benchmarks score`: what scoring costs a token, in sliding windows as published, in ours, and streamed.

The published loop is written here in plain form from docs/seed.md, section 6: windows are sliced on the host, the model
runs eagerly on every position of every window, the losses of the last `stride` count, and sums leave the device for
each batch. It runs the same model on the same tokens, so that what differs is the loop. Losses are compared before
anything is timed. All ways take turns within a round, and ratios are within rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import results
from benchmarks.measure import milliseconds, one_core, timing
from benchmarks.step import record_script
from benchmarks.step.parts import fill
from golf_fast import machine
from golf_fast.arguments import Parser, a_path
from golf_fast.config import ModelConfig, compiles
from golf_fast.errors import InputError
from golf_fast.model import GPT
from golf_fast.recipes import RECIPES
from golf_fast.report import table
from golf_fast.score.rows import TokenRows
from golf_fast.score.sliding import score_windows
from golf_fast.score.streaming import score_stream
from golf_fast.score.windows import Windows

SMALL = ModelConfig(vocab_size=1024, dim=256, layers=8, heads=4, kv_heads=2, bigram_buckets=4096, bigram_dim=64)
"""What a CPU is given where no recipe is named."""
TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 0.2}
"""Nats by which a loss may differ between two ways."""
STREAMED_WINDOWS = 8
"""Tokens that are streamed, in contexts: enough for its first piece not to count."""

Logits = Callable[[Tensor], Tensor]


def main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks score", description=__doc__)
    parser.add_argument(
        "--recipe", choices=sorted(RECIPES), help="whose model (default: a small one on a CPU, or seed)"
    )
    parser.add_argument("--context", type=int, default=1024, help="length of a window (default: 1024)")
    parser.add_argument("--stride", type=int, default=64, help="tokens that a window scores (default: 64)")
    parser.add_argument("--windows", type=int, help="windows of a round (default: 16, on a GPU 512)")
    parser.add_argument("--batch", type=int, help="windows at a time (default: 4, on a GPU 32)")
    parser.add_argument("--model-window", type=int, default=256, help="positions that the windowed model sees")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each time (default: 5)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--upstream",
        type=a_path,
        metavar="PATH",
        help="run the published loop with the model of a published record script too. The file is EXECUTED, with your "
        "rights: name one that you have read and trust",
    )
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON lines")
    results.add_option(parser)
    options = parser.parse_args(arguments)
    for name in ("context", "stride", "model_window", "rounds", "windows", "batch"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} is {value}: it must be at least 1")
    if options.stride > options.context:
        raise InputError(f"--stride is {options.stride}: it must be at most --context = {options.context}")
    device, _ = machine.choose_device(options.device)
    small = device.type == "cpu"
    options.windows = options.windows or (16 if small else 512)
    options.batch = options.batch or (4 if small else 32)
    base = RECIPES[options.recipe]().model if options.recipe else SMALL if small else ModelConfig()
    rows = []
    for windows in ((0,), (options.model_window,)):
        config = dataclasses.replace(base, window=windows)
        if small:
            with one_core():
                rows += measure(config, options, device)
        else:
            rows += measure(config, options, device)
    for row in rows:
        results.append(row)
        if options.json:
            print(json.dumps(row))
    if not options.json:
        print(
            table(
                ["a position sees", "way", "microseconds a token", "times the published"], [_line(row) for row in rows]
            )
        )


def _line(row: dict[str, Any]) -> list[object]:
    return [row["sees"], row["way"], f"{row['us_per_token']['median']:.1f}", f"{row['speedup']:.2f}"]


def measure(config: ModelConfig, options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """A row of plain values for each way of scoring with a model of this configuration.

    Raises:
        InputError: two ways find different losses, so there are no times.
    """
    dtype, _ = machine.choose_compute_dtype("auto", device)
    model = GPT(config, compute_dtype=dtype, seed=42)
    fill(model)
    model.to(device)
    context, stride = options.context, options.stride
    count = max(context + options.windows * stride, STREAMED_WINDOWS * context)
    tokens = np.random.default_rng(2).integers(0, config.vocab_size, count + 1).astype(np.uint16)
    ways = _ways(model, tokens, options, device)
    found = {name: run() for name, (_, run) in ways.items()}
    _require_same(model, tokens, found, context, dtype)
    for name in ("record script",) if options.upstream else ():
        ways[name] = _record_script(model, tokens, options, device)
        ways[name][1]()
    samples = {name: np.empty(options.rounds) for name in ways}
    for i in range(options.rounds):
        for name, (scored, run) in ways.items():
            samples[name][i] = milliseconds(lambda run=run: (run(), _wait(device))) * 1e3 / scored
    published = samples["published loop"]
    around = results.environment(device.type)
    shape = {name: getattr(config, name) for name in ("vocab_size", "dim", "layers", "heads", "kv_heads")}
    return [
        {
            "op": "score",
            "way": name,
            "model": shape,
            "sees": f"{config.window[0]} positions" if config.window[0] else "all before",
            "context": context,
            "stride": stride,
            "batch": options.batch,
            "dtype": machine.dtype_name(dtype),
            "compiled": compiles("auto", device.type),
            "us_per_token": dataclasses.asdict(timing(times)),
            "speedup": float(np.median(published / times)),
            "times_windows": float(np.median(samples["windows"] / times)),
            "rounds": options.rounds,
            **around,
        }
        for name, times in samples.items()
    ]


def _ways(
    model: GPT, tokens: np.ndarray, options: argparse.Namespace, device: torch.device
) -> dict[str, tuple[int, Callable[[], Tensor]]]:
    """By name, the targets that a run scores, and the run, which gives their losses."""
    stride, rows = options.stride, TokenRows(tokens, device)
    windows = Windows(rows.targets, options.context, stride)
    compiled = compiles("auto", device.type)
    quick = torch.compile(model.token_losses, dynamic=False, fullgraph=True) if compiled else None
    scored = options.windows * stride

    def ours() -> Tensor:
        losses = torch.zeros(rows.targets, device=device)
        last = 1 + options.windows  # without the first window, which scores all of its targets
        score_windows(model.token_losses, quick, rows, windows, 1, last, options.batch, losses, lambda done: None)
        return losses[options.context : options.context + scored]

    def streamed() -> Tensor:
        losses = torch.zeros(rows.targets, device=device)
        score_stream(model, rows, 0, rows.targets, losses, lambda done: None)
        return losses

    ways = {
        "published loop": (scored, lambda: published_loop(model.logits, tokens, options, device)),
        "windows": (scored, ours),
    }
    return ways if model.config.window == (0,) else ways | {"streaming": (rows.targets, streamed)}


@torch.inference_mode()
def published_loop(logits: Logits, tokens: np.ndarray, options: argparse.Namespace, device: torch.device) -> Tensor:
    """The losses of the last `stride` targets of each window after the first, in the published scripts' way."""
    context, stride = options.context, options.stride
    on_device = torch.from_numpy(tokens.astype(np.int64)).to(device)
    starts = [stride * (1 + k) for k in range(options.windows)]
    found, total = [], 0.0
    for at in range(0, len(starts), options.batch):
        of_batch = starts[at : at + options.batch]
        x = torch.zeros(len(of_batch), context, dtype=torch.int64, device=device)
        y = torch.zeros_like(x)
        for row, start in enumerate(of_batch):
            chunk = on_device[start : start + context + 1]
            x[row], y[row] = chunk[:-1], chunk[1:]
        scores = logits(x).float()
        losses = F.cross_entropy(scores.flatten(0, 1), y.flatten(), reduction="none").view_as(y)
        for row in range(len(of_batch)):
            last = losses[row, context - stride :]
            total += float(last.double().sum())
            found.append(last)
    return torch.cat(found)


def _require_same(model: GPT, tokens: np.ndarray, found: dict[str, Tensor], context: int, dtype: torch.dtype) -> None:
    pairs = [("windows", found["windows"], found["published loop"])]
    if "streaming" in found:
        ids = torch.from_numpy(tokens[: 2 * context + 1].astype(np.int64)).to(found["windows"].device)[None]
        with torch.inference_mode():
            pairs.append(
                ("streaming", found["streaming"][: 2 * context], model.token_losses(ids[:, :-1], ids[:, 1:])[0])
            )
    for name, ours, theirs in pairs:
        error = float((ours - theirs).abs().max())
        if not error <= TOLERANCE[dtype]:
            raise InputError(
                f"no times, for {name} differs by {error:.2g} nats; at most {TOLERANCE[dtype]} are rounding"
            )


def _record_script(
    model: GPT, tokens: np.ndarray, options: argparse.Namespace, device: torch.device
) -> tuple[int, Callable[[], Tensor]]:
    """The published loop with the model of a record script, which has our weights where names and shapes agree."""
    module = record_script.load(options.upstream)
    built = record_script.build(module, model, device, model.compute_dtype, options.upstream)
    logits = getattr(built.model, "forward_logits", None)
    if logits is None:
        raise InputError(f"--upstream {options.upstream}: its GPT has no forward_logits, with which windows are scored")
    return options.windows * options.stride, lambda: published_loop(logits, tokens, options, device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
