"""A run that also writes its reports: tables, pages, plots, baselines, documents and a profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import safetensors.torch
import torch

from golf_fast.compress.size_estimate import expected_bytes
from golf_fast.data.overlap import find_overlap
from golf_fast.files import replacing
from golf_fast.model import upstream
from golf_fast.model.parameters import quantization_groups
from golf_fast.pipeline import baselines, outcome
from golf_fast.pipeline.compression import Compressed
from golf_fast.pipeline.compression_costs import measure_costs
from golf_fast.pipeline.disk_space import require_room
from golf_fast.pipeline.documents import leave_documents
from golf_fast.pipeline.findings import AFTER
from golf_fast.pipeline.profiling import Profiler
from golf_fast.pipeline.run import Run
from golf_fast.pipeline.training import TrainingStage
from golf_fast.report import summary
from golf_fast.runs import FinishedRun, Result
from golf_fast.runs.schedule import RecordedSchedule
from golf_fast.score import Score
from golf_fast.train.clock import Clock


class ReportedRun(Run):
    """A run whose main rank writes, besides the score, what people look at."""

    profiler: Profiler | None = None

    def prepare(self) -> None:
        super().prepare()
        context, inputs = self.context, self.found.inputs
        if span := context.config.profiled:
            self.profiler = Profiler(context, *span)
        if not context.ranks.main:
            return
        require_room(context.paths.folder, context.config, inputs.validation.targets)
        self.found.overlap = find_overlap(inputs.dataset)
        if self.found.overlap.partial:
            context.log.line(f"overlap of training and validation: {self.found.overlap.partial}")

    def followed(self) -> RecordedSchedule | None:
        folder = self.context.config.train.replay_schedule
        return FinishedRun(folder).schedule() if folder else None

    def go(self) -> None:
        """Train, compress and score, and write the result; if the run is interrupted, the result as far as it is
        known."""
        context, found = self.context, self.found
        try:
            super().go()
        except BaseException:
            if context.ranks.main:
                with context.secondary():  # the error that ended the run must be the last message
                    outcome.result(context, found, finished=False).write(context.paths.result)
            raise
        if not context.ranks.main:
            return
        # The score is written before the baselines, which may take long or fail.
        result = outcome.result(context, found, finished=True)
        result.write(context.paths.result)
        with context.secondary():
            compared = baselines.compare(context, found.inputs, found.scores[AFTER].bytes)
            result = dataclasses.replace(result, baselines={each.name: each.bits_per_byte for each in compared})
        result.write(context.paths.result)
        self._show(result)

    def forecast(self) -> Callable[[Mapping[str, torch.Tensor]], int]:
        config = self.context.config
        groups = quantization_groups(config.model)

        def predict(weights: Mapping[str, torch.Tensor]) -> int:
            return expected_bytes(upstream.split(weights, config.model), config.compress, groups)

        return predict

    def between_steps(self, step: int, clock: Clock) -> None:
        if self.profiler:
            self.profiler.between_steps(step, clock)

    def after_training(self, training: TrainingStage) -> None:
        if self.profiler:
            self.profiler.end(training.trained.steps)  # a training that ended before the last step to trace
        if self.context.ranks.main:
            with self.context.secondary(), replacing(self.context.paths.weights) as file:
                held = {name: tensor.contiguous() for name, tensor in training.weights.items()}
                file.write(safetensors.torch.save(held))

    def after_compression(self, compressed: Compressed) -> None:
        if self.context.ranks.main:
            with self.context.stage("what compression cost"):
                self.found.costs = measure_costs(self.context, self.found.inputs, compressed)

    def after_scoring(self, final: Score) -> None:
        if self.context.ranks.main:
            leave_documents(self.context, self.found.inputs, self.found.scores[AFTER], final)

    def _show(self, result: Result) -> None:
        """Print the final tables."""
        log, found, paths = self.context.log, self.found, self.context.paths
        log.line("\n" + summary.compression_table(found.costs.steps if found.costs else []))
        log.line("\n" + summary.stages_table(self.context.stages))
        if result.baselines:
            log.line("\n" + summary.baselines_table(result))
        log.line("\n" + summary.verdict(result))
        log.line(f"results: {paths.result}, {paths.report}")
