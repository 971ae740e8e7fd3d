"""The compression stage of a run: averaged weights to the artifact, within the time that the budget leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from golf_fast.checks import for_file
from golf_fast.compress import Quantizer, prune, write_artifact
from golf_fast.config import CompressConfig
from golf_fast.model import upstream
from golf_fast.model.parameters import quantization_groups
from golf_fast.pipeline.budget import Budget
from golf_fast.pipeline.calibration import gram_matrices, next_batches
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.inputs import Inputs
from golf_fast.pipeline.training import TrainingStage, write_schedule


@dataclass(frozen=True)
class Compressed:
    """The results of the compression stage besides the artifact; tensors are on the CPU, under public names.

    Attributes:
        weights: the trained weights.
        pruned: the trained weights after pruning.
        hessians: Hessians of the matrices; empty if the result does not depend on training tokens.
        config: the settings that were used in the end.
        next_token: position in the training stream after the last token that the result depends on.
    """

    weights: dict[str, torch.Tensor]
    pruned: dict[str, torch.Tensor]
    hessians: Mapping[str, torch.Tensor]
    config: CompressConfig
    next_token: int


def compress(context: Context, inputs: Inputs, budget: Budget, training: TrainingStage) -> Compressed:
    """Quantize and write the artifact; if that reads training tokens, its time counts as training time.

    Raises:
        InputError: a tensor cannot be quantized, or the artifact cannot be written.
    """
    config, ranks, log = context.config, context.ranks, context.log
    weights = {name: tensor.cpu() for name, tensor in training.weights.items()}
    pruned, model_config = prune(weights, config.compress), for_file(config.model)
    next_token = training.next_token

    def calibrate(check: Callable[[], object]) -> dict[str, torch.Tensor]:
        """Gram matrices of the inputs of each matrix, under the weights that will be quantized."""
        nonlocal next_token
        stream, wanted = inputs.dataset.train_stream(), config.compress.calibration_tokens
        separate = config.model.separate_documents
        batches, next_token = next_batches(stream, next_token, wanted, config.train.seq_len, ranks, separate)
        seen = " that were trained on before" if next_token > stream.tokens else ", the next after the last"
        log.line(f"calibrating on {wanted:,} training tokens{seen}")
        upstream.load(context.scored_model, pruned)
        return gram_matrices(context.scored_model, batches, ranks, check)

    groups = quantization_groups(config.model)
    quantizer = Quantizer(pruned, model_config, context.code.size, ranks, log.line, groups)
    done = quantizer.in_time(config.compress, calibrate, budget.for_quantizing)
    budget.quantized, budget.gave_up = done.seconds + budget.repeated if done.seconds else 0.0, done.gave_up
    if done.seconds:
        log.line(f"calibrated and quantized in {done.seconds:.1f} s, {budget.used:.1f} s with the training")
    if done.gave_up:
        next_token = training.next_token  # the result does not depend on the tokens that were read
    if ranks.main:
        size = write_artifact(context.paths.artifact, done.tensors, model_config, **done.config.coding())
        log.line(f"artifact: {size:,} bytes, {done.config.codec}")
        if done.seconds or done.gave_up:
            write_schedule(context, budget, training.trained.schedule)
    ranks.barrier()
    return Compressed(weights, pruned, done.hessians, done.config, next_token)
