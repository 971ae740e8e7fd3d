"""What a built `train_gpt.py` runs: a run from tokens to a score, or the score of an artifact, with a plain log."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from golf_fast import environment, json_files, machine
from golf_fast.checks import MOST, for_file
from golf_fast.code_size import Code
from golf_fast.compress import dequantize, read_artifact
from golf_fast.config import RunConfig
from golf_fast.data import Dataset, Tokenizer
from golf_fast.data.shards import find_shards
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.files import read_bytes
from golf_fast.model import GPT, upstream
from golf_fast.model.backends import require_compute_dtype, resolve_backends
from golf_fast.pipeline.run import Run
from golf_fast.runs import RunPaths, new_run_directory, run_folder
from golf_fast.runs.plain import plain
from golf_fast.runs.schedule import RecordedSchedule
from golf_fast.score import score_tokens

RECIPE: dict[str, Any] = {}
"""The fields of the configuration that are not the defaults; put in where a file is built."""
FIXED = ""
"""The published environment names that would change the recipe; put in where a file is built, in lower case, which
packs better."""
_HELD_OUT: Literal["val"] = "val"
_LEAST = {"train.max_seconds": 0, "train.warmup_steps": 0, "train.val_every": 0, "seed": -MOST}
"""Least value of the numbers that the environment sets, where it is not 1."""


def main(file: str) -> None:
    """Run what the command line asks for, and end the program: 2 after wrong input, 130 after Ctrl-C.

    Args:
        file: the built file.
    """
    parser = argparse.ArgumentParser(os.path.basename(file))
    parser.add_argument("--unpack", metavar="FOLDER", help="write the plain sources there, and end")
    parser.add_argument(
        "--eval-only",
        nargs="?",
        type=Path,
        const=Path(file).resolve().with_name("artifact.golf"),
        metavar="ARTIFACT",
        help="score an artifact, by default the artifact.golf beside this file",
    )
    parser.add_argument("--replay", type=Path, metavar="JSON", help="follow the schedule.json of an earlier run")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was unpacked is removed
    try:
        if arguments.unpack is not None:
            vars(sys.modules["__main__"])["unpack"](arguments.unpack)
            return
        config = configured(RECIPE, os.environ, FIXED.upper().split())
        if arguments.eval_only:
            evaluate(config, arguments.eval_only)
        else:
            train(config, Path(file), arguments.replay)
    except (InputError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")


def configured(recipe: Mapping[str, Any], environ: Mapping[str, str], fixed: Iterable[str]) -> RunConfig:
    """The configuration of the recipe, and of the published environment names where they are set.

    Args:
        fixed: names that must not be set, as they would change the recipe.

    Raises:
        InputError: a value is not of its kind, or asks for what this file does not have.
    """
    if named := [name for name in fixed if name in environ]:
        raise InputError(f"environment {', '.join(named)} is set, but the recipe is fixed in this file; unset it")
    config: RunConfig = replaced(RunConfig(), recipe)
    given = dict[str, Any]()
    for name, setting in environment.settings(environ, config).items():
        inner, (*folders, last) = given, name.split(".")
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = setting.value
        if name != "model.vocab_size":
            require_in_range(setting.variable, name, setting.value)
    asked: RunConfig = replaced(config, given)
    if asked.score.ttt not in ("off", config.score.ttt):
        raise InputError(f"score.ttt is {asked.score.ttt}: this file was built for {config.score.ttt}")
    if asked.model != config.model:
        raise InputError(f"VOCAB_SIZE is {asked.model.vocab_size}: this file was built for {config.model.vocab_size}")
    return asked


def require_in_range(variable: str, name: str, value: object) -> None:
    """Refuse what no run can have: the configuration of a built file does not check itself.

    Args:
        variable: the name in the environment that sets it.
        name: dotted, of the field.

    Raises:
        InputError: a number is too small or too large, or a name of a run is a path.
    """
    least = _LEAST.get(name, 1)
    if isinstance(value, int | float) and not least <= value <= MOST:
        raise InputError(f"environment {variable} is {value}: it must be from {least} to {MOST}")
    if name == "run_id" and (value == ".." or value != os.path.basename(str(value))):
        raise InputError(f"environment {variable} is {value!r}: it must be a plain name, no path")


def replaced(config: Any, values: Mapping[str, Any]) -> Any:
    """A configuration with other values in some fields; lists become tuples and texts paths where these are due."""
    made = {}
    for name, value in values.items():
        held = getattr(config, name)
        if dataclasses.is_dataclass(held):
            value = replaced(held, value)
        elif isinstance(held, Path):
            value = Path(value)
        made[name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(config, **made)


class PlainLog:
    """Lines and metrics of a run, printed and added to its files by the main rank."""

    def __init__(self, paths: RunPaths | None, main: bool) -> None:
        self.paths = paths if main else None
        self.main = main

    def line(self, text: str) -> None:
        """Print a line, and keep it."""
        if self.main:
            print(text, flush=True)
            if self.paths:
                with self.paths.log.open("a") as file:
                    file.write(f"{text}\n")

    def metric(self, **fields: object) -> None:
        """Keep numbers."""
        if self.paths:
            with self.paths.metrics.open("a") as file:
                file.write(f"{json.dumps(plain(fields))}\n")

    def progress(self, stage: str, done: float, total: float, text: str = "") -> None:
        """Show nothing."""


class ShippedRun(Run):
    """A run that was handed the schedule to follow, if there is one."""

    record: RecordedSchedule | None = None

    def followed(self) -> RecordedSchedule | None:
        return self.record


@contextmanager
def saying(needed: str) -> Iterator[None]:
    """Errors inside also say what is needed: of those from elsewhere, a built file keeps the values only.

    Raises:
        InputError: in place of what is raised inside.
    """
    try:
        yield
    except (TypeError, ValueError, LookupError) as error:
        raise InputError(f"{error}: {needed}") from error


def find_data(config: RunConfig, *parts: Literal["train", "val"]) -> Dataset:
    """The validation shards of DATA_PATH and the tokenizer, before anything is made or paid for.

    Args:
        parts: other parts that must be there.

    Raises:
        InputError: they are not there, or not of the vocabulary of the model.
    """
    with saying("DATA_PATH must be a folder of *_train_*.bin and *_val_*.bin"):
        found = [find_shards(config.data.shards, part) for part in (*parts, _HELD_OUT)]
    with saying("TOKENIZER_PATH must be a SentencePiece model"):
        tokenizer = Tokenizer(config.data.tokenizer)
    if tokenizer.vocab_size != config.model.vocab_size:
        raise InputError(f"{tokenizer.path}: {tokenizer.vocab_size} pieces, the model has {config.model.vocab_size}")
    return Dataset(config.data.shards.name, [], found[-1], tokenizer.path, tokenizer.vocab_size, "", "")


def train(config: RunConfig, file: Path, replayed: Path | None) -> None:
    """Train, compress and score, in a directory of its own below the working directory.

    Args:
        file: what ships.
        replayed: the schedule to follow.
    """
    content = read_bytes(file, "the built file")
    record = None
    if replayed:
        with saying("the schedule.json of a run is needed"):
            held = json_files.read_object(replayed, "it cannot be read")
            names = {field.name for field in dataclasses.fields(RecordedSchedule)} - {"budget"}
            record = RecordedSchedule(**{name: held[name] for name in names if name in held})
    find_data(config, "train")
    device, reason = machine.choose_device(config.device)
    ranks = Ranks.from_environment(device.type, config.train.micro_batches)
    stamp = ranks.broadcast_float(time.time())
    with saying("the directory of a run must be new, or empty, and writable"):
        directory = new_run_directory(config, stamp) if ranks.main else None
    number = int(ranks.broadcast_float(directory.number if directory else 0))
    paths = RunPaths(run_folder(config, stamp, number))
    log = PlainLog(paths, ranks.main)
    log.line(f"run directory: {paths.folder}, device: {ranks.device} ({reason}), {ranks.world_size} rank(s)")
    if ranks.main:
        paths.config.write_text(json.dumps({"config": config.as_dict(), "origins": {}}))
    run = ShippedRun(config, paths, ranks, log, Code(content))
    run.record = record
    run.prepare()
    run.go()
    score = run.found.final(config.score)
    if ranks.main and score:
        size = paths.artifact.stat().st_size
        log.line(f"bytes: {size + len(content):,} in all, {len(content):,} of code, {size:,} of the model")
        log.line(f"final val_loss:{score.nats / score.tokens:.8f} val_bpb:{score.bpb:.8f}")
    ranks.close()


def evaluate(config: RunConfig, path: Path) -> None:
    """Score an artifact on the validation shards of DATA_PATH; training shards are not looked at.

    Args:
        path: the artifact.
    """
    device, _ = machine.choose_device(config.device)
    ranks = Ranks.from_environment(device.type)
    resolve_backends(ranks.device)
    log = PlainLog(None, ranks.main)
    dataset = find_data(config)
    with saying("the artifact of a run of this file is needed"):
        artifact = read_artifact(path)
    if artifact.model_config != json.loads(json.dumps(for_file(config.model))):  # noqa: TID251
        raise InputError(f"{path}: its model is {artifact.model_config}; this file is for {for_file(config.model)}")
    dtype, reason = machine.choose_compute_dtype(config.train.compute_dtype, ranks.device)
    require_compute_dtype(ranks.device, dtype)
    log.line(f"device: {ranks.device}, compute dtype: {machine.dtype_name(dtype)} ({reason})")
    model = GPT(config.model, compute_dtype=dtype, seed=None).to(ranks.device)
    upstream.load(model, dequantize(artifact.tensors, device=ranks.device))
    score = score_tokens(model, dataset.validation(config.score.window), config.score, ranks, log=log.line)
    log.line(f"validation: {score.tokens:,} tokens, {score.bytes:,} bytes, {score.seconds:.1f} s")
    log.line(f"final val_loss:{score.nats / score.tokens:.8f} val_bpb:{score.bpb:.8f}")
    ranks.close()
