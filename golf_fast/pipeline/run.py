"""The stages of one run, in the order the data walks through them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping

import torch

from golf_fast import machine
from golf_fast.command_line import Parsed
from golf_fast.compress import dequantize, read_artifact
from golf_fast.compress.artifact.codecs import require_installed
from golf_fast.config import RunConfig, ScoreConfig
from golf_fast.distributed import Ranks
from golf_fast.files import replacing
from golf_fast.model import upstream
from golf_fast.pipeline import baselines, outcome
from golf_fast.pipeline.budget import Budget
from golf_fast.pipeline.compression import account, compress
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.inputs import prepare_inputs
from golf_fast.pipeline.outcome import ADAPTING, AFTER, BEFORE, Findings
from golf_fast.pipeline.space import require_room
from golf_fast.pipeline.training import train_model
from golf_fast.report import RunLog, write_html
from golf_fast.runs import FinishedRun, RunPaths, new_run_directory, run_folder
from golf_fast.score import Ledger, Score, score_tokens
from golf_fast.train.schedule import make_schedule


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
            run = Run(config, paths, ranks, log)
            run.prepare()
            began = True
            run.go()
            if ranks.main:
                with run.context.secondary():
                    write_html(paths.folder)
    except BaseException:
        # What ended before the training is no run: the same --run-id must do the next time.
        if directory is not None and not began:
            directory.discard()
        raise
    ranks.close()


class Run:
    """One run: its stages, and what they found."""

    found: Findings

    def __init__(self, config: RunConfig, paths: RunPaths, ranks: Ranks, log: RunLog) -> None:
        self.context = Context(config, paths, ranks, log)

    def prepare(self) -> None:
        """What can be wrong with the input shows here, before any training is paid for.

        Raises:
            InputError: the data, the schedule to replay, a protocol that the rules forbid, a missing package.
        """
        context, config = self.context, self.context.config
        followed = config.train.replay_schedule
        record = FinishedRun(followed).schedule() if followed else None
        budget = Budget.of(config, record)
        self.schedule = make_schedule(dataclasses.replace(config.train, max_seconds=budget.for_training), record)
        require_installed(config.compress.codec)
        with context.stage("data"):
            self.found = Findings(prepare_inputs(context), budget)
        if context.ranks.main:
            require_room(context.paths.folder, config, self.found.inputs.validation.targets)
        context.log.line(f"data: {self.found.inputs.dataset.why}")
        context.log.line(f"validation: {self.found.inputs.validation.targets:,} tokens")

    def go(self) -> None:
        """Train, compress and score what `prepare` found, and leave the results."""
        context, found = self.context, self.found
        try:
            self._train_compress_score()
        except BaseException:
            if context.ranks.main:
                with context.secondary():  # what ended the run is what has to be said in the end
                    outcome.result(context, found, finished=False).write(context.paths.result)
            raise
        if context.ranks.main:
            # The score is known: it is on disk before anything that only stands beside it is worked out.
            outcome.result(context, found, finished=True).write(context.paths.result)
            with context.secondary():
                found.baselines = baselines.compare(context, found.inputs, found.scores[AFTER].bytes)
            result = outcome.result(context, found, finished=True)
            result.write(context.paths.result)
            outcome.show(context, found, result)

    def _train_compress_score(self) -> None:
        context, paths, found = self.context, self.context.paths, self.found
        with context.stage("train"):
            training = train_model(context, found.inputs, found.budget, self.schedule)
            found.trained = training.trained
        with context.stage("compress") as note:
            compressed = compress(context, found.inputs, found.budget, training)
            note["bytes"] = paths.artifact.stat().st_size
        if context.ranks.main:
            with context.stage("what compression cost"):
                found.costs = account(context, found.inputs, compressed)
        fixed = dataclasses.replace(context.config.score, ttt="off")
        self._score(BEFORE, training.weights, fixed)
        restored = dequantize(read_artifact(paths.artifact).tensors, device=context.ranks.device)
        ledger = Ledger(paths.ledger if context.ranks.main else None)
        found.events = ledger.events
        if context.config.score.ttt == "off":
            final = self._score(AFTER, restored, fixed, ledger)
        else:
            self._score(AFTER, restored, fixed)
            final = self._score(ADAPTING, restored, context.config.score, ledger)
        if context.ranks.main:
            if final is not found.scores[AFTER]:
                for stretch in outcome.gains(found.scores[AFTER].losses, final.losses):
                    context.log.metric(kind="gain", **stretch)
            with context.secondary(), replacing(paths.token_losses) as file:
                file.write(final.losses.tobytes())

    def _score(
        self, name: str, weights: Mapping[str, torch.Tensor], config: ScoreConfig, ledger: Ledger | None = None
    ) -> Score:
        """Score `weights` (under public names) and keep the result under `name`."""
        context, inputs = self.context, self.found.inputs
        with context.stage(name) as note:
            upstream.load(context.scored_model, weights)
            score = score_tokens(
                context.scored_model,
                inputs.validation,
                config,
                context.ranks,
                ledger,
                lambda done, total: context.log.progress(name, done, total),
                training=inputs.slice_of_training(config.held_out.tokens) if config.ttt == "held_out" else None,
                log=context.log.line,
            )
            note["bpb"] = score.bpb
            trained = sum(tensor.nbytes for tensor in weights.values())
            note["bytes"] = trained if name == BEFORE else context.paths.artifact.stat().st_size
        self.found.scores[name] = score
        context.log.line(f"{name}: val_loss:{score.nats / score.tokens:.4f} val_bpb:{score.bpb:.4f}")
        return score
