"""The stages of one run, in the order the data walks through them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import safetensors.torch
import torch

from golf_fast import code_size, command_line, machine, recipes
from golf_fast.compress import Quantizer, costs, dequantize, prune, read_artifact, write_artifact
from golf_fast.compress.artifact.codecs import require_installed
from golf_fast.compress.size_estimate import expected_bytes
from golf_fast.config import CompressConfig, RunConfig, ScoreConfig, compiles
from golf_fast.data import Baseline, Batches, Dataset, byte_compressors, prepare
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.files import replacing
from golf_fast.model import GPT, upstream
from golf_fast.ops import backends
from golf_fast.pipeline.calibration import bits_per_byte, gram_matrices, next_batches
from golf_fast.report import RunLog, summary, write_html
from golf_fast.runs import Result, new_run_directory
from golf_fast.score import Ledger, Score, check_input, score_tokens
from golf_fast.train import Trained, Trainer, train
from golf_fast.train.schedule import Schedule, make_schedule

COMPRESSORS_MAX_BYTES = 64 << 20
"""Byte compressors are run beside us on texts up to this size; above it they take longer than the run."""

BEFORE, AFTER, ADAPTING = "score before compression", "score after compression", "score while adapting"
"""Names of the three scoring stages."""


def main() -> None:
    parsed = command_line.parse(
        sys.argv[1:],
        os.environ,
        prog="python -m golf_fast.train",
        default_recipe=lambda: recipes.choose(torch.cuda.is_available()),
    )
    device, device_reason = machine.choose_device(parsed.config.device)
    ranks = Ranks.from_environment(device.type, parsed.config.train.micro_batches)
    directory = new_run_directory(parsed.config, ranks)
    run_dir, began = directory.path, False
    try:
        with RunLog(run_dir, ranks.main) as log:
            for line in parsed.lines:
                log.line(line)
            log.line(f"run directory: {run_dir}")
            log.line(f"device: {ranks.device} ({device_reason}), {ranks.world_size} rank(s)")
            if ranks.main:
                with replacing(run_dir / "config.json", "w") as file:
                    json.dump(parsed.as_dict(), file, indent=2)
            run = Run(parsed.config, run_dir, ranks, log)
            run.prepare()
            began = True
            run.go()
    except (InputError, KeyboardInterrupt):
        # What ended before the training is no run: the same --run-id must do the next time.
        if ranks.main and not began:
            directory.discard()
        raise
    if ranks.main:
        write_html(run_dir)
    ranks.close()


class Run:
    """The stages of one run, in the order the data walks through them, and what is known of it so far."""

    def __init__(self, config: RunConfig, run_dir: Path, ranks: Ranks, log: RunLog) -> None:
        self.config = config
        self.run_dir = run_dir
        self.ranks = ranks
        self.log = log
        self.artifact = run_dir / "artifact.golf"
        self.stages: list[tuple[str, float, int | None, float | None]] = []
        """Name, seconds, bytes of the model and bits per byte after it."""
        self.trained: Trained | None = None
        self.train_seconds = 0.0
        """Training, and calibrating and quantizing where that reads training tokens."""
        self.next_token = 0
        """Position in the training stream after the last token that was read."""
        self.steps: list[costs.Step] = []
        """Of the compression."""
        self.scores: dict[str, Score] = {}
        """By stage; the last is the result."""
        self.baselines: list[Baseline] = []
        self.dtype, reason = machine.choose_compute_dtype(config.train.compute_dtype, ranks.device)
        log.line(f"compute dtype: {machine.dtype_name(self.dtype)} ({reason})")
        kind = ranks.device.type
        for stage, setting in (("training", config.train.compile), ("scoring", config.score.compile)):
            log.line(f"torch.compile in {stage}: {'yes' if compiles(setting, kind) else 'no'} ({setting}, on {kind})")
        self.backends = _resolve_backends(ranks.device)
        for op, backend in self.backends.items():
            log.line(f"{op}: {backend.name} ({backend.reason})")

    def prepare(self) -> None:
        """What can be wrong with the input shows here, before any training is paid for.

        Raises:
            InputError: the data, the schedule to replay, a protocol that the rules forbid, a missing package.
        """
        make_schedule(self.config.train)
        require_installed(self.config.compress.codec)
        with self._stage("data"):
            self.dataset = self._prepare()
            self.tokens = self.dataset.val_tokens(self.config.score.window)
            self.token_bytes = self.dataset.tokenizer().token_bytes()
            check_input(self.tokens, self.token_bytes, self.config.score)
        self.log.line(f"data: {self.dataset.why}")
        self.log.line(f"validation: {len(self.tokens) - 1:,} tokens")

    def go(self) -> None:
        """Train, compress and score what `prepare` found, and leave the results."""
        try:
            self._train_compress_score()
        except BaseException:
            if self.ranks.main:
                self._result(finished=False).write(self.run_dir / "result.json")
            raise
        if self.ranks.main:
            self._compare()
            result = self._result(finished=True)
            result.write(self.run_dir / "result.json")
            self._show(result)

    def _train_compress_score(self) -> None:
        with self._stage("train"):
            trained = self.trained = self._train()
        weights = upstream.split(trained.weights, self.config.model)
        with self._stage("compress") as note:
            compressed = self._compress(weights)
            self.ranks.barrier()
            note["bytes"] = self.artifact.stat().st_size
        if self.ranks.main:
            with self._stage("what compression cost"):
                self._account(*compressed)
        fixed = dataclasses.replace(self.config.score, ttt="off")
        self._score(BEFORE, weights, fixed)
        restored = dequantize(read_artifact(self.artifact).tensors, device=self.ranks.device)
        ledger = Ledger(self.run_dir / "ledger.jsonl" if self.ranks.main else None)
        if self.config.score.ttt == "off":
            final = self._score(AFTER, restored, fixed, ledger)
        else:
            self._score(AFTER, restored, fixed)
            final = self._score(ADAPTING, restored, self.config.score, ledger)
        if self.ranks.main:
            with replacing(self.run_dir / "token_losses") as file:
                file.write(final.losses.tobytes())

    def _prepare(self) -> Dataset:
        for turn in ("main", "others"):  # rank 0 builds what is not there yet, then the others find it
            if self.ranks.main == (turn == "main"):
                dataset = prepare(
                    self.config.data,
                    self.config.model.vocab_size,
                    self.ranks.device.type == "cuda",
                    self.log.progress,
                )
            self.ranks.barrier()
        if self.ranks.main:
            with replacing(self.run_dir / "tokenizer.model") as file:
                file.write(dataset.tokenizer_path.read_bytes())
        return dataset

    def _train(self) -> Trained:
        config = self.config
        model = self._model(compute_tables=config.train.embedding_dtype == "compute")
        count = sum(parameter.numel() for parameter in model.parameters())
        self.log.line(f"model: {count:,} parameters, {config.model.layers} layers of width {config.model.dim}")
        compiled = compiles(config.train.compile, self.ranks.device.type)
        loss = torch.compile(model, dynamic=False) if compiled else model
        batches = Batches(
            self.dataset.train_stream(),
            self.ranks.rank,
            self.ranks.world_size,
            config.train.batch_tokens,
            config.train.micro_batches,
            config.train.seq_len,
            pin=self.ranks.device.type == "cuda",
        )

        def validate() -> tuple[float, float]:
            whole_windows = dataclasses.replace(
                config.score,
                ttt="off",
                compile="off",  # it would compile in the middle of training, for a few batches
                stride=config.score.window,
                batch_windows=max(1, config.train.val_batch_tokens // config.score.window),
            )
            score = score_tokens(model, self.tokens, self.token_bytes, whole_windows, self.ranks)
            return score.nats / score.tokens, score.bpb

        def predict(weights: Mapping[str, torch.Tensor]) -> int:
            return expected_bytes(upstream.split(weights, config.model), config.compress)

        limit = config.train.max_seconds
        kept = min(config.compress.calibration_seconds, limit / 4) if config.compress.calibrated else 0.0
        if config.compress.calibrated and not kept and limit > 0 and config.train.replay_schedule is None:
            self.log.line(
                "training: no time is kept for the quantization, which will most likely do without training tokens; "
                "--compress.calibration-seconds keeps some"
            )
        if kept:
            self.log.line(f"training: {limit - kept:g} s, which leaves {kept:g} of {limit:g} s for the quantization")
        until = dataclasses.replace(config.train, max_seconds=limit - kept)
        trained = train(Trainer(model, loss, batches, until, self.ranks), self.log, validate, predict=predict)
        self.train_seconds, self.next_token = trained.seconds, batches.state()["position"]
        if self.ranks.main:
            trained.schedule.write(self.run_dir)
            weights = {name: t.contiguous() for name, t in upstream.split(trained.weights, config.model).items()}
            with replacing(self.run_dir / "checkpoint" / "weights.safetensors") as file:
                file.write(safetensors.torch.save(weights))
        self.log.line(f"trained: {trained.steps} steps in {trained.seconds:.1f} s, average: {trained.average}")
        return trained

    def _compress(
        self, weights: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Mapping[str, torch.Tensor], CompressConfig]:
        """Quantize and write the artifact; where that looks at training tokens, its time is training time.

        Returns:
            The weights, the pruned weights, the Hessians and the settings that were used in the end.
        """
        on_cpu = {name: tensor.cpu() for name, tensor in weights.items()}
        pruned, model_config = prune(on_cpu, self.config.compress), dataclasses.asdict(self.config.model)
        next_token = self.next_token
        quantizer = Quantizer(pruned, model_config, code_size.code_bytes(), self.ranks, self.log.line)
        done = quantizer.in_time(
            self.config.compress, lambda check: self._calibrate(pruned, check), self._seconds_to_quantize()
        )
        if done.seconds:
            self.train_seconds += done.seconds
            self.log.line(
                f"calibrated and quantized in {done.seconds:.1f} s, {self.train_seconds:.1f} s with the training"
            )
        if done.gave_up:
            self.next_token = next_token  # nothing came of the tokens, as in a replay, which does not look at them
            self._schedule.gave_up_calibration = True
            if self.ranks.main:
                self._schedule.write(self.run_dir)
        if self.ranks.main:
            size = write_artifact(self.artifact, done.tensors, model_config, **done.config.coding())
            self.log.line(f"artifact: {size:,} bytes, {done.config.codec}")
        return on_cpu, pruned, done.hessians, done.config

    def _seconds_to_quantize(self) -> float:
        """What the training left of its time. A replay does what the first run did, however long it takes."""
        if self._schedule.gave_up_calibration:
            return -1.0
        limit = self.config.train.max_seconds
        limited = limit > 0 and self.config.train.replay_schedule is None
        return limit - self.train_seconds if limited else math.inf

    @property
    def _schedule(self) -> Schedule:
        assert self.trained is not None
        return self.trained.schedule

    def _calibrate(self, weights: Mapping[str, torch.Tensor], check: Callable[[], object]) -> dict[str, torch.Tensor]:
        """What the inputs of each matrix look like under `weights`."""
        stream, config = self.dataset.train_stream(), self.config
        batches, self.next_token = next_batches(
            stream, self.next_token, config.compress.calibration_tokens, config.train.seq_len, self.ranks
        )
        seen = " that were trained on before" if self.next_token > stream.tokens else ", the next after the last"
        self.log.line(f"calibrating on {config.compress.calibration_tokens:,} training tokens{seen}")
        upstream.load(self._scored_model, weights)
        return gram_matrices(self._scored_model, batches, self.ranks, check)

    def _account(
        self,
        weights: Mapping[str, torch.Tensor],
        pruned: Mapping[str, torch.Tensor],
        hessians: Mapping[str, torch.Tensor],
        config: CompressConfig,
    ) -> None:
        """Measure what each step and each tensor cost, on rank 0; the artifact is written already."""
        evaluate = None
        if config.report_tokens:
            batches, _ = next_batches(
                self.dataset.train_stream(),
                self.next_token,
                config.report_tokens,
                self.config.train.seq_len,
                Ranks.single(self.ranks.device),
            )

            def evaluate(state_dict: Mapping[str, torch.Tensor]) -> float:
                upstream.load(self._scored_model, state_dict)
                return bits_per_byte(self._scored_model, batches, self.token_bytes, self.ranks.device)

        artifact = read_artifact(self.artifact)
        small = sum(tensor.nbytes for tensor in weights.values()) < COMPRESSORS_MAX_BYTES
        self.steps = costs.steps(weights, pruned, artifact, config, evaluate, compare_zstd=small)
        for step in self.steps:
            self.log.metric(kind="compression", **dataclasses.asdict(step))
        for cost in costs.tensor_costs(weights, artifact, hessians, evaluate):
            self.log.metric(kind="tensor", **dataclasses.asdict(cost))

    def _score(
        self, name: str, weights: Mapping[str, torch.Tensor], config: ScoreConfig, ledger: Ledger | None = None
    ) -> Score:
        """Score `weights` (under public names) and keep the result under `name`."""
        with self._stage(name) as note:
            upstream.load(self._scored_model, weights)
            score = score_tokens(
                self._scored_model,
                self.tokens,
                self.token_bytes,
                config,
                self.ranks,
                ledger,
                lambda done, total: self.log.progress(name, done, total),
            )
            note["bpb"] = score.bpb
            note["bytes"] = (
                sum(tensor.nbytes for tensor in weights.values()) if name == BEFORE else self.artifact.stat().st_size
            )
        self.scores[name] = score
        self.log.line(f"{name}: val_loss:{score.nats / score.tokens:.4f} val_bpb:{score.bpb:.4f}")
        return score

    @cached_property
    def _scored_model(self) -> GPT:
        """The model that every scoring stage loads its weights into."""
        return self._model(compute_tables=False)

    def _model(self, *, compute_tables: bool) -> GPT:
        model = GPT(
            self.config.model,
            compute_dtype=self.dtype,
            embedding_dtype=self.dtype if compute_tables else torch.float32,
            seed=self.config.seed,
        )
        return model.to(self.ranks.device)

    def _compare(self) -> None:
        """What byte compressors make of the same validation text."""
        train_text = self.dataset.train_text(COMPRESSORS_MAX_BYTES)
        if train_text is None or self.scores[AFTER].bytes > COMPRESSORS_MAX_BYTES:
            self.log.line(f"byte compressors: left out, the text is larger than {COMPRESSORS_MAX_BYTES:,} bytes")
            return
        with self._stage("byte compressors"):
            self.baselines = byte_compressors(train_text, self.dataset.val_text(self.tokens))

    def _result(self, *, finished: bool) -> Result:
        """What is known of the run now; None for what was not measured."""
        trained, before, after = self.trained, self.scores.get(BEFORE), self.scores.get(AFTER)
        final = self.scores.get(ADAPTING) if self.config.score.ttt != "off" else after
        with torch.device("meta"):
            params = sum(parameter.numel() for parameter in GPT(self.config.model).parameters())
        return Result(
            run_id=self.run_dir.name,
            recipe=self.config.recipe,
            seed=self.config.seed,
            params=params,
            steps=trained.steps if trained else 0,
            train_seconds=self.train_seconds,
            tokens_per_second=trained.tokens / trained.seconds if trained else None,
            val_loss=final.nats / final.tokens if final else None,
            val_bpb=final.bpb if final else None,
            val_tokens=final.tokens if final else None,
            val_bytes=final.bytes if final else None,
            bpb_before_compression=before.bpb if before else None,
            bpb_without_ttt=after.bpb if after else None,
            artifact_bytes=self.artifact.stat().st_size if self.artifact.exists() else None,
            code_bytes=code_size.code_bytes(),
            code_hash=code_size.code_hash(),
            track=final.track if final else "A",
            violations=(final.violations if final else self.config.score.violations) + self._late(),
            eval_seconds=final.seconds if final else None,
            device=machine.device_name(self.ranks.device),
            world_size=self.ranks.world_size,
            versions=machine.versions(),
            data_fingerprint=self.dataset.fingerprint,
            backends={op: {"name": b.name, "reason": b.reason} for op, b in self.backends.items()},
            compute_dtype=machine.dtype_name(self.dtype),
            recompiles=trained.recompiles if trained else 0,
            peak_memory_bytes=machine.peak_memory_bytes(self.ranks.device),
            baselines={baseline.name: baseline.bits_per_byte for baseline in self.baselines},
            finished=finished,
        )

    def _late(self) -> list[str]:
        """V9 if calibrating and quantizing ended after the time limit of the training."""
        limit = self.config.train.max_seconds
        gave_up = self.trained is not None and self._schedule.gave_up_calibration
        late = self.config.compress.calibrated and not gave_up and 0 < limit < self.train_seconds
        return ["V9"] if late else []

    def _show(self, result: Result) -> None:
        """The tables at the end."""
        self.log.line("\n" + summary.compression_table(self.steps))
        self.log.line("\n" + summary.stages_table(self.stages))
        if result.baselines:
            self.log.line("\n" + summary.baselines_table(result))
        self.log.line("\n" + summary.verdict(result))
        self.log.line(f"results: {self.run_dir / 'result.json'}, {self.run_dir / 'report.html'}")

    @contextmanager
    def _stage(self, name: str) -> Iterator[dict[str, float]]:
        """Time a stage and keep it for the table at the end; the block may note `bytes` and `bpb`."""
        began = time.perf_counter()
        note: dict[str, float] = {}
        yield note
        seconds = time.perf_counter() - began
        size = int(note["bytes"]) if "bytes" in note else None
        self.stages.append((name, seconds, size, note.get("bpb")))
        self.log.metric(kind="stage", name=name, seconds=seconds, bytes=size, bpb=note.get("bpb"))


def _resolve_backends(device: torch.device) -> dict[str, backends.Backend]:
    """The implementation of each op.

    Raises:
        InputError: GOLF_FAST_BACKENDS asks for the impossible, or a GPU would run a slow reference unasked.
    """
    try:
        resolved = dict(backends.describe(device))
    except ValueError as error:
        raise InputError(str(error)) from error
    for op, backend in resolved.items():
        if device.type == "cuda" and backend.name == "reference" and not backend.asked_for:
            raise InputError(
                f"{op} has only its slow reference on this GPU ({backend.reason}); mend that, or set "
                f"{backends.VARIABLE}={op}=reference to run it all the same"
            )
    return resolved
