"""Measures what compression cost a run, in bytes and in bits per byte, step by step and tensor by tensor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from golf_fast.compress import costs, read_artifact
from golf_fast.distributed import Ranks
from golf_fast.model import upstream
from golf_fast.model.parameters import quantization_groups
from golf_fast.pipeline.baselines import MAX_BYTES
from golf_fast.pipeline.calibration import bits_per_byte, next_batches
from golf_fast.pipeline.compression import Compressed
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.inputs import Inputs


@dataclass(frozen=True)
class Costs:
    """What compression cost.

    Attributes:
        steps: size and score of the model after each step.
        parts: bytes of the artifact for each group of tensors; with "header" they add up to its size.
    """

    steps: list[costs.Step]
    parts: dict[str, int]


def measure_costs(context: Context, inputs: Inputs, compressed: Compressed) -> Costs:
    """Measure what each step and each tensor cost, on rank 0 and off the clock, after the artifact is written."""
    config, ranks, log = compressed.config, context.ranks, context.log
    evaluate = None
    if config.report_tokens:
        stream, seq_len = inputs.dataset.train_stream(), context.config.train.seq_len
        single = Ranks.single(ranks.device)
        separate = context.config.model.separate_documents
        batches, _ = next_batches(stream, compressed.next_token, config.report_tokens, seq_len, single, separate)

        def evaluate(state_dict: Mapping[str, torch.Tensor]) -> float:
            upstream.load(context.scored_model, state_dict)
            return bits_per_byte(context.scored_model, batches, inputs.token_bytes, ranks.device)

    artifact, weights = read_artifact(context.paths.artifact), compressed.weights
    small = sum(tensor.nbytes for tensor in weights.values()) < MAX_BYTES
    steps = costs.steps(weights, compressed.pruned, artifact, config, evaluate, compare_zstd=small)
    for step in steps:
        log.metric(kind="compression", **dataclasses.asdict(step))
    for cost in costs.tensor_costs(weights, artifact, compressed.hessians, evaluate):
        log.metric(kind="tensor", **dataclasses.asdict(cost))
    return Costs(steps, costs.bytes_by_group(artifact, quantization_groups(context.config.model)))
