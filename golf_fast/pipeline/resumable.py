"""A run that stores the product of each finished stage, so that it can be resumed when it is interrupted."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from golf_fast import json_files
from golf_fast.checks import for_file
from golf_fast.compress import costs, prune
from golf_fast.config import CompressConfig, ScoreConfig
from golf_fast.console import deferred
from golf_fast.errors import InputError
from golf_fast.from_plain import from_plain
from golf_fast.pipeline.compression import Compressed
from golf_fast.pipeline.compression_costs import Costs
from golf_fast.pipeline.context import Stage
from golf_fast.pipeline.disk_space import needed
from golf_fast.pipeline.products import COMPRESSED, COSTS, PRODUCT_OF, TRAINED, StageProducts
from golf_fast.pipeline.reported import ReportedRun
from golf_fast.pipeline.training import TrainingStage
from golf_fast.report import RunLog
from golf_fast.resume_records import Record
from golf_fast.score import Score
from golf_fast.score.ledger import read as read_ledger
from golf_fast.train import Trained
from golf_fast.train.checkpoint import Checkpoint, Checkpoints
from golf_fast.train.schedule import Rates

_LEAST_SECONDS = 1e-3
"""Time limit in seconds that stands for one that is used up, as 0 would mean no limit."""


class ResumableRun(ReportedRun):
    """A run that stores the product of each stage, and reads it back if an earlier process made it.

    Attributes:
        products: the stored products.
        start: the checkpoint that training resumes from; None: it starts at step 0.
    """

    products: StageProducts
    start: Checkpoint | None = None

    def prepare(self, *, goes_on: bool = False, step: int | None = None) -> None:
        """Prepare as every run does, then find where to resume.

        Args:
            goes_on: whether an earlier process began the run.
            step: step of the checkpoint to resume from, discarding everything made after it; None: the newest state.

        Raises:
            InputError: as for every run, or the run cannot be resumed here.
        """
        super().prepare()
        context, inputs = self.context, self.found.inputs
        assert isinstance(context.log, RunLog)
        self.products = StageProducts(context.paths, context.ranks, context.log)
        if not goes_on:
            self.products.begin(context, inputs)
            return
        self.products.go_on(context, inputs)
        if step is not None and context.ranks.main:
            self.products.back_to(step)
        trained = self.products.find(TRAINED)
        if trained is None:
            self.start = self.products.checkpoint()
        if context.ranks.main:
            self._say_where(trained is not None, step is not None)

    def train(self) -> TrainingStage:
        context, config = self.context, self.context.config
        record = self.products.find(TRAINED)
        if record is not None:
            return self._trained(record)
        room = sum(needed(config, self.found.inputs.validation.targets).values())
        with deferred() as deferral:
            self.checkpoints = Checkpoints(
                context.paths.resume, config.train, context.ranks, context.log, deferral, self.start, room
            )
            with self.products.stage("train"):
                training = super().train()
                self.checkpoints.close()
                self._keep_training(training)
            if deferral.number:
                deferral.end()
        return training

    def compress(self, training: TrainingStage) -> Compressed:
        artifact, budget = self.context.paths.artifact, self.found.budget
        record = self.products.find(COMPRESSED, artifact)
        if record is not None:
            return self._compressed(record, training)
        budget.repeated = self._spent("compress")
        with self.products.stage("compress"):
            done = super().compress(training)
        # Matrices with the same input share one Hessian, which is stored once.
        first = {id(tensor): name for name, tensor in reversed(list(done.hessians.items()))}
        fields = {
            "config": for_file(done.config),
            "next_token": done.next_token,
            "quantized": budget.quantized,
            "gave_up": budget.gave_up,
            "shared": {name: first[id(tensor)] for name, tensor in done.hessians.items()},
        }
        hessians = {name: done.hessians[name].cpu().contiguous() for name in first.values()}
        self._keep(COMPRESSED, fields, hessians, artifact)
        return done

    def after_compression(self, compressed: Compressed) -> None:
        record = self.products.find(COSTS)
        if record is None:
            with self.products.stage("what compression cost"):
                super().after_compression(compressed)
            if self.found.costs is not None:
                self._keep(COSTS, dataclasses.asdict(self.found.costs))
        else:
            self._again(record)
            steps = [costs.Step(**step) for step in record.fields["steps"]]
            self.found.costs = Costs(steps, record.fields["parts"])

    def score(
        self, name: str, weights: Mapping[str, torch.Tensor], config: ScoreConfig, *, final: bool = False
    ) -> Score:
        path = self.context.paths.ledger if final else None
        record = self.products.find(PRODUCT_OF[name], path)
        if record is not None:
            return self._scored(name, record, final)
        spent, earlier = 0.0, None
        if final:
            spent, earlier = self._spent(name), self._set_aside()
        if config.max_seconds and spent:
            config = dataclasses.replace(config, max_seconds=max(config.max_seconds - spent, _LEAST_SECONDS))
        with self.products.stage(name):
            score = super().score(name, weights, config, final=final)
        score = self.found.scores[name] = dataclasses.replace(score, seconds=score.seconds + spent)
        fields = {key: value for key, value in vars(score).items() if key != "losses"}
        if earlier is not None:
            fields["reservation"] = self._compare(name, earlier)
        self._keep(PRODUCT_OF[name], fields, {"losses": torch.from_numpy(score.losses.copy())}, path)
        return score

    def _keep(
        self,
        name: str,
        fields: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor] | None = None,
        file: Path | None = None,
    ) -> None:
        """Store the product of the stage that has just finished, with its row of the table of stages."""
        self.products.keep(name, {**fields, "stage": list(self.context.stages[-1])}, tensors, file)

    def _spent(self, stage: str) -> float:
        """Seconds that interrupted attempts at a stage took; they are added to the repeated seconds."""
        seconds = self.products.spent(stage)
        if seconds:
            self.context.log.metric(kind="repeated", name=stage, seconds=seconds)
        return seconds

    def _keep_training(self, training: TrainingStage) -> None:
        trained = training.trained
        fields = {
            **vars(trained),
            "weights": None,
            "schedule": [dataclasses.asdict(rates) for rates in trained.schedule.recorded],
            "next_token": training.next_token,
        }
        self._keep(TRAINED, fields, {name: tensor.cpu().contiguous() for name, tensor in training.weights.items()})

    def _again(self, record: Record) -> None:
        stage = Stage(*record.fields["stage"])
        self.context.stages.append(stage)
        self.context.log.line(f"{stage.name}: done before the run was cut short, in {stage.seconds:.1f} s")

    def _trained(self, record: Record) -> TrainingStage:
        self._again(record)
        fields, found = dict(record.fields), self.found
        self.schedule.recorded[:] = [Rates(**each) for each in fields["schedule"]]
        named = {field.name for field in dataclasses.fields(Trained)}
        known = {name: value for name, value in fields.items() if name in named}
        found.trained = Trained(**{**known, "weights": {}, "schedule": self.schedule})
        found.budget.trained = found.trained.seconds
        weights = {name: tensor.to(self.context.ranks.device) for name, tensor in record.tensors().items()}
        return TrainingStage(found.trained, weights, fields["next_token"])

    def _compressed(self, record: Record, training: TrainingStage) -> Compressed:
        self._again(record)
        fields, budget, ranks = record.fields, self.found.budget, self.context.ranks
        budget.quantized, budget.gave_up = fields["quantized"], fields["gave_up"]
        weights = {name: tensor.cpu() for name, tensor in training.weights.items()}
        # Only the main rank measures the costs of compression.
        once = {name: tensor.to(ranks.device) for name, tensor in record.tensors().items()} if ranks.main else {}
        hessians = {name: once[first] for name, first in fields["shared"].items()} if ranks.main else {}
        config = from_plain(CompressConfig, fields["config"], record.path, lenient=True)
        pruned = prune(weights, self.context.config.compress)
        return Compressed(weights, pruned, hessians, config, fields["next_token"])

    def _scored(self, name: str, record: Record, final: bool) -> Score:
        self._again(record)
        losses = record.tensor("losses").numpy()
        named = {field.name for field in dataclasses.fields(Score)}
        score = Score(**{key: value for key, value in record.fields.items() if key in named}, losses=losses)
        self.found.scores[name] = score
        if final and self.context.ranks.main:
            self.found.events = read_ledger(self.context.paths.ledger)
            if record.fields.get("reservation"):
                self.found.reservations.append(record.fields["reservation"])
        self.context.log.line(f"{name}: val_loss:{score.nats / score.tokens:.4f} val_bpb:{score.bpb:.4f}")
        return score

    def _set_aside(self) -> Path | None:
        """Set the ledger of an interrupted scoring pass aside, if there is one, for comparison with the repetition."""
        ledger = self.context.paths.ledger
        if not self.context.ranks.main or not ledger.exists():
            return None
        earlier = self.context.paths.resume / f"ledger-{self.found.resumed}.jsonl"
        try:
            ledger.replace(earlier)
        except OSError as error:
            raise InputError(f"{ledger}: cannot be put at {earlier} ({error.strerror}); make it writable") from error
        return earlier

    def _compare(self, name: str, earlier: Path) -> str:
        """Compare the ledger of a pass with that of its interrupted attempt; the text of a difference, or ""."""
        before = [event for _, event in json_files.lines(earlier, "the ledger of a run is needed", whole=False)]
        now = read_ledger(self.context.paths.ledger)
        same = next((k for k, event in enumerate(before) if k >= len(now) or event != now[k]), len(before))
        if same == len(before):
            self.context.log.line(f"{name}: all {same} records of the pass that was cut short came again")
            return ""
        said = (
            f"evaluation: a pass was cut short and scored again from the start; of the {len(before)} records that it "
            f"left, the first {same} came again"
        )
        self.context.log.line(said)
        self.found.reservations.append(said)
        return said

    def _say_where(self, trained: bool, back: bool) -> None:
        """Record and log where the run was interrupted and where it resumes."""
        start, found, log = self.start, self.found, self.context.log
        cut = self.products.cut(start, back=back)
        self.products.note_cut(cut)
        found.resumed, found.repeated_seconds = self.products.interruptions
        if found.repeated_seconds:
            times = "once" if found.resumed == 1 else f"{found.resumed} times"
            found.reservations.append(
                f"time: the run was cut short {times}, and {found.repeated_seconds:.1f} s of work were done again; "
                "those of the training do not count as training"
            )
        where = "after the training" if trained else "at the start of the training"
        if start is not None:
            where = f"at step {start.step}, after {start.seconds:.1f} s of training"
        within = f" in the stage {cut.stage!r}" if cut.stage else ""
        stood = max(0.0, time.time() - cut.ended)
        log.line(
            f"resumed {where}; it was cut short{within}: {cut.lost:.1f} s of work are done again, and it stood still "
            f"for {stood:.0f} s"
        )
        step = None if trained else start.step if start else 0
        carried = start.seconds if start is not None and not trained else 0.0
        log.metric(
            kind="resumed", stage=cut.stage, step=step, done=self.products.done(), lost=cut.lost, trained=carried
        )
