"""`python -m benchmarks quantizers RUN_DIR`: what ways of quantizing a trained model cost in bytes and bits per byte.

Each way starts from the checkpoint of the run. Its artifact is made under the entropy coder, and the model that it
holds is scored on the run's validation tokens in windows that do not overlap, without adapting. Calibration is on the
training tokens that follow the run's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from benchmarks import results
from golf_fast import machine
from golf_fast.arguments import Parser, a_path
from golf_fast.checks import for_file
from golf_fast.compress import dequantize, prune, quantize
from golf_fast.compress.artifact.container import encode
from golf_fast.compress.size_estimate import expected_bytes
from golf_fast.config import CompressConfig, ScoreConfig
from golf_fast.data import Tokenizer, Validation, prepare
from golf_fast.distributed import Ranks
from golf_fast.model import GPT, upstream
from golf_fast.model.parameters import quantization_groups
from golf_fast.pipeline.calibration import gram_matrices, next_batches
from golf_fast.report import table
from golf_fast.runs import FinishedRun
from golf_fast.score import score_tokens

CLIPS = (6.0, 8.0, 12.0, 16.0)


def ways(config: CompressConfig) -> Iterator[tuple[str, CompressConfig]]:
    """Names and settings; `config` is the run's, and says what is small."""

    def way(**settings: Any) -> CompressConfig:
        plain = {"prune_quantile": 0.0, "target_bytes": 0, "scale_mantissa_bits": 10, "mlp_bits": 6, "fp16_keep": ()}
        return dataclasses.replace(config, **{**plain, "codec": "rans", "low_rank": 0, **settings})

    seed = CompressConfig()
    kept = {"fp16_keep": seed.fp16_keep, "mlp_bits": 5, "quantizer": "absmax"}
    yield "as published: absmax, int5 and int6, embedding fp16, pruned", way(**kept, prune_quantile=seed.prune_quantile)
    yield "the same, not pruned", way(**kept)
    for clip in CLIPS:
        for quantizer in ("sigma", "gptq", "trellis", "gptq_trellis"):
            yield f"{quantizer}, int6, embedding int8, clip {clip:g}", way(quantizer=quantizer, clip_sigma=clip)
    at = {"quantizer": "gptq", "clip_sigma": 12.0}
    for bits in (4, 3, 2):
        yield f"gptq, clip 12, scales of {bits} bits of mantissa", way(**at, scale_mantissa_bits=bits)
    best = {**at, "scale_mantissa_bits": 3}
    yield "gptq, clip 12, scales of 3, pruned", way(**best, prune_quantile=seed.prune_quantile)
    yield "gptq, clip 12, scales of 3, embedding int7", way(**best, embedding_bits=7)
    yield "gptq, clip 12, scales of 3, embedding fp16", way(**best, fp16_keep=("tok_emb",))
    yield "gptq, clip 12, scales of 3, attention int5", way(**best, attention_bits=5)
    yield "gptq, clip 12, scales of 3, MLP int5", way(**best, mlp_bits=5)
    yield "gptq, clip 12, scales of 3, bigram int5", way(**best, bigram_bits=5)
    yield "gptq, clip 12, scales of 3, rank 2 on the 3 worst", way(**best, low_rank=2, low_rank_tensors=3)
    on_trellis = {**best, "quantizer": "gptq_trellis"}
    yield "gptq_trellis, clip 12, scales of 3", way(**on_trellis)
    yield "gptq_trellis, clip 12, scales of 3, 4 states", way(**on_trellis, trellis_states=4)
    yield "gptq_trellis, clip 12, scales of 3, rate 1", way(**on_trellis, trellis_rate=1.0)
    yield "gptq_trellis, clip 12, scales of 3, embedding int7", way(**on_trellis, embedding_bits=7)
    yield "gptq_trellis, clip 12, scales of 3, attention int5", way(**on_trellis, attention_bits=5)
    yield "gptq_trellis, clip 12, scales of 3, rank 2 on the 3 worst", way(**on_trellis, low_rank=2, low_rank_tensors=3)
    yield "gptq_trellis, clip 7, scales of 3", way(**{**on_trellis, "clip_sigma": 7.0})
    yield "gptq_trellis, clip 14, scales of 3", way(**{**on_trellis, "clip_sigma": 14.0})


def main(arguments: list[str]) -> None:
    run, hessians, before = opened("quantizers", __doc__, arguments)
    rows = []
    for name, config in ways(run.compress):
        pruned = prune(run.weights, config)
        stored = quantize(pruned, config, hessians, groups=run.groups)
        size, bpb = len(encode(stored, run.model_config, **config.coding())), run.bpb(dequantize(stored))
        expected = expected_bytes(pruned, config, run.groups)
        rows.append([name, f"{size:,}", f"{expected / size - 1:+.2%}", f"{bpb - before:+.5f}"])
        measured = {"bytes": size, "expected": expected, "bpb": bpb, "bpb_before": before}
        measured["val_tokens"] = run.validation.targets
        results.append({"op": "quantizers", "run": run.name, "way": name, **measured, **run.environment})
    print(table(["quantized", "bytes", "expected", "bits per byte lost"], rows))


class Run:
    """A finished run: its weights, its tokens, and a model to score with."""

    def __init__(self, run_dir: Path, windows: int) -> None:
        self.name = run_dir.name
        finished = FinishedRun(run_dir)
        config = finished.config
        device, _ = machine.choose_device("auto")
        self.ranks = Ranks.single(device)
        self.environment = results.environment(device.type)
        dtype, _ = machine.choose_compute_dtype("auto", device)
        self.model_config = for_file(config.model)
        self.groups = quantization_groups(config.model)
        self.model = GPT(config.model, compute_dtype=dtype, seed=None).to(device)
        self.compress = dataclasses.replace(config.compress, fp16_keep=(), calibration_tokens=1)
        self.weights = safetensors.torch.load_file(finished.paths.weights)
        spoken = Tokenizer(finished.paths.tokenizer)
        self.dataset = prepare(config.data, spoken.vocab_size, device.type == "cuda")
        self.seq_len = config.train.seq_len
        window = config.score.window
        self.scoring = ScoreConfig(window=window, stride=window, ttt="off", ttt_chunk_tokens=window)
        tokens = self.dataset.val_tokens(window)[: windows * window + 1]
        self.validation = Validation.counted(tokens, spoken.token_bytes())
        self.position = finished.schedule().steps * (config.train.batch_tokens + config.train.micro_batches)

    def hessians(self, tokens: int) -> dict[str, torch.Tensor]:
        batches, _ = next_batches(self.dataset.train_stream(), self.position, tokens, self.seq_len, self.ranks)
        upstream.load(self.model, self.weights)
        return gram_matrices(self.model, batches, self.ranks)

    def bpb(self, weights: Mapping[str, torch.Tensor]) -> float:
        upstream.load(self.model, weights)
        return score_tokens(self.model, self.validation, self.scoring, self.ranks).bpb


def opened(command: str, text: str | None, arguments: list[str]) -> tuple[Run, dict[str, torch.Tensor], float]:
    """The run that the arguments of a command name, its Hessians, and its bits per byte before quantizing, printed."""
    parser = Parser(prog=f"python -m benchmarks {command}", description=text)
    parser.add_argument("run_dir", type=a_path, help="what `python -m golf_fast.train` left behind")
    parser.add_argument("--tokens", type=int, default=16384, help="training tokens for the calibration")
    parser.add_argument("--windows", type=int, default=256, help="validation windows that are scored")
    options = parser.parse_args(arguments)
    run = Run(options.run_dir, options.windows)
    hessians, before = run.hessians(options.tokens), run.bpb(run.weights)
    scored = run.validation.targets
    print(f"{options.run_dir}: {before:.5f} bits per byte on {scored:,} validation tokens", flush=True)
    return run, hessians, before
