"""A run as a person makes it: in a directory of its own, with all that is shown and compared beside the score."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

import safetensors.torch
import torch

from golf_fast import code_size, machine
from golf_fast.command_line import Parsed
from golf_fast.compress.size_estimate import expected_bytes
from golf_fast.data.overlap import find_overlap
from golf_fast.distributed import Ranks
from golf_fast.files import replacing
from golf_fast.model import upstream
from golf_fast.model.parameters import quantization_groups
from golf_fast.pipeline import baselines, outcome
from golf_fast.pipeline.account import account
from golf_fast.pipeline.compression import Compressed
from golf_fast.pipeline.documents import leave_documents
from golf_fast.pipeline.outcome import AFTER
from golf_fast.pipeline.run import Run
from golf_fast.pipeline.space import require_room
from golf_fast.pipeline.training import TrainingStage
from golf_fast.report import RunLog, summary, write_html, write_pictures
from golf_fast.runs import Result, RunPaths, new_run_directory, run_folder
from golf_fast.score import Score


def execute(parsed: Parsed) -> None:
    """Make a run from text to a score, in a directory of its own.

    Raises:
        InputError: something that was asked for or given cannot be used.
    """
    config = parsed.config
    device, device_reason = machine.choose_device(config.device)
    ranks = Ranks.from_environment(device.type, config.train.micro_batches)
    stamp = ranks.broadcast_float(time.time())
    directory = new_run_directory(config, stamp) if ranks.main else None
    number = int(ranks.broadcast_float(directory.number if directory else 0))
    paths, began = RunPaths(run_folder(config, stamp, number)), False
    try:
        with RunLog(paths.folder, ranks.main) as log:
            for line in parsed.lines:
                log.line(line)
            log.line(f"run directory: {paths.folder}")
            log.line(f"device: {ranks.device} ({device_reason}), {ranks.world_size} rank(s)")
            if ranks.main:
                with replacing(paths.config, "w") as file:
                    json.dump(parsed.as_dict(), file, indent=2)
            run = ReportedRun(config, paths, ranks, log, code_size.code())
            run.prepare()
            began = True
            run.go()
            if ranks.main:
                with run.context.secondary():
                    write_html(paths.folder)
                with run.context.secondary():
                    write_pictures(paths.folder)
    except BaseException:
        # What ended before the training is no run: the same --run-id must do the next time.
        if directory is not None and not began:
            directory.discard()
        raise
    ranks.close()


class ReportedRun(Run):
    """A run that leaves, beside its score, what people look at; its main rank does."""

    def prepare(self) -> None:
        super().prepare()
        context, inputs = self.context, self.found.inputs
        if not context.ranks.main:
            return
        require_room(context.paths.folder, context.config, inputs.validation.targets)
        self.found.overlap = find_overlap(inputs.dataset)
        if self.found.overlap.partial:
            context.log.line(f"overlap of training and validation: {self.found.overlap.partial}")

    def go(self) -> None:
        super().go()
        context, found = self.context, self.found
        if not context.ranks.main:
            return
        with context.secondary():
            found.baselines = baselines.compare(context, found.inputs, found.scores[AFTER].bytes)
        result = outcome.result(context, found, finished=True)
        result.write(context.paths.result)
        self._show(result)

    def forecast(self) -> Callable[[Mapping[str, torch.Tensor]], int]:
        config = self.context.config
        groups = quantization_groups(config.model)

        def predict(weights: Mapping[str, torch.Tensor]) -> int:
            return expected_bytes(upstream.split(weights, config.model), config.compress, groups)

        return predict

    def after_training(self, training: TrainingStage) -> None:
        if self.context.ranks.main:
            with self.context.secondary(), replacing(self.context.paths.weights) as file:
                held = {name: tensor.contiguous() for name, tensor in training.weights.items()}
                file.write(safetensors.torch.save(held))

    def after_compression(self, compressed: Compressed) -> None:
        if self.context.ranks.main:
            with self.context.stage("what compression cost"):
                self.found.costs = account(self.context, self.found.inputs, compressed)

    def after_scoring(self, final: Score) -> None:
        if self.context.ranks.main:
            leave_documents(self.context, self.found.inputs, self.found.scores[AFTER], final)

    def _show(self, result: Result) -> None:
        """Print the tables at the end."""
        log, found, paths = self.context.log, self.found, self.context.paths
        log.line("\n" + summary.compression_table(found.costs.steps if found.costs else []))
        log.line("\n" + summary.stages_table(self.context.stages))
        if result.baselines:
            log.line("\n" + summary.baselines_table(result))
        log.line("\n" + summary.verdict(result))
        log.line(f"results: {paths.result}, {paths.report}")
