"""Executes a run for each of several seeds, one after the other, and summarizes them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from golf_fast import machine
from golf_fast.command_line import Parsed
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError, StoppedError
from golf_fast.files import replacing
from golf_fast.pipeline.execute import execute_among
from golf_fast.report import table
from golf_fast.report.trackers import require_installed
from golf_fast.runs import FinishedRun
from golf_fast.watched_peers import WatchedPeers

FLAG = "--seeds"


@dataclass(frozen=True)
class Outcome:
    """The outcome of the run of a seed.

    Attributes:
        folder: its directory; None where it came to none.
        error: what ended it; "" where it came to its end.
    """

    seed: int
    folder: Path | None
    error: str = ""


def asked(arguments: Sequence[str]) -> tuple[list[int], list[str]] | None:
    """The seeds of a command line's --seeds, and its other arguments; None if it has no --seeds.

    Raises:
        InputError: there is no seed, or one is not a whole number or is repeated.
    """
    named = [k for k, argument in enumerate(arguments) if argument.partition("=")[0] == FLAG]
    if not named:
        return None
    place, rest = named[0], list(arguments)
    words = [word for word in rest[place].partition("=")[2].split(",") if word]
    del rest[place]
    while place < len(rest) and not rest[place].startswith("--"):
        words.append(rest.pop(place))
    try:
        seeds = [int(word) for word in words]
    except ValueError:
        raise InputError(f"{FLAG} is {' '.join(words)!r}: it must be whole numbers, such as 42 1337 2024") from None
    if not seeds or len(set(seeds)) < len(seeds) or len(named) > 1:
        raise InputError(f"{FLAG} is {' '.join(words)!r}: it must be given once, with at least one seed, each once")
    return seeds, rest


def execute_each(seeds: Sequence[int], parse: Callable[[int], Parsed]) -> None:
    """Execute a run for each seed in its own run directory, and write a summary to the folder of the runs.

    If a run fails, the next one still starts; if the ranks of a run lose each other, all runs end.

    Args:
        seeds: the seeds, in order.
        parse: returns the configuration for a seed; the seed is appended to its run id, if it has one.

    Raises:
        InputError: the configuration is wrong, or, after all runs, at least one has failed.
    """
    parsed = [_named(parse(seed), seed) for seed in seeds]
    config = parsed[0].config
    require_installed(config.track)
    device, reason = machine.choose_device(config.device)
    found: list[Outcome] = []
    began = time.time()
    with Ranks.from_environment(device.type, config.train.micro_batches, WatchedPeers) as ranks:
        try:
            for seed, each in zip(seeds, parsed, strict=True):
                try:
                    found.append(Outcome(seed, execute_among(each, ranks, reason)))
                except StoppedError:
                    raise
                except (InputError, RuntimeError) as error:  # such as too little memory
                    found.append(Outcome(seed, None, str(error) or type(error).__name__))
                    if ranks.main:
                        print(f"seed {seed}: {error}", flush=True)
        finally:
            if ranks.main and found:
                stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(began))
                _summarize(found, config.runs_dir / f"seeds-{stamp}.json")
    failed = [outcome for outcome in found if outcome.error]
    if failed:
        seeds_said = ", ".join(str(outcome.seed) for outcome in failed)
        raise InputError(f"seed {seeds_said}: {failed[0].error}; the other {len(found) - len(failed)} runs are whole")


def _named(parsed: Parsed, seed: int) -> Parsed:
    config = parsed.config
    if config.run_id:
        config = dataclasses.replace(config, run_id=f"{config.run_id}-seed{seed}")
    return dataclasses.replace(parsed, config=config)


def _summarize(found: Sequence[Outcome], path: Path) -> None:
    """Print the table of the runs, and write the same as JSON."""
    rows, plain, scores = list[list[str | int | float | None]](), list[dict[str, object]](), list[float]()
    for outcome in found:
        if outcome.folder is None:
            rows.append([outcome.seed, "", "", "", "", outcome.error])
            plain.append({"seed": outcome.seed, "error": outcome.error})
            continue
        result = FinishedRun(outcome.folder).result()
        scores.append(result.val_bpb or float("nan"))
        rows.append([outcome.seed, scores[-1], result.val_loss, result.total_bytes, result.steps, str(outcome.folder)])
        plain.append(
            {
                "seed": outcome.seed,
                "run": str(outcome.folder),
                "val_bpb": result.val_bpb,
                "val_loss": result.val_loss,
                "total_bytes": result.total_bytes,
                "steps": result.steps,
                "legal": result.legal,
            }
        )
    print("\n" + table(["seed", "bits per byte", "nats a token", "bytes", "steps", "run"], rows))
    mean = fmean(scores) if scores else None
    spread = stdev(scores) if len(scores) > 1 else None
    if mean is not None:
        said = f"mean of {len(scores)}: {mean:.5f}" + ("" if spread is None else f" ± {spread:.5f}")
        print(f"{said} bits per byte")
    with replacing(path, "w") as file:
        json.dump({"runs": plain, "mean_bpb": mean, "std_bpb": spread}, file, indent=2)
        file.write("\n")
    print(f"summary: {path}", flush=True)
