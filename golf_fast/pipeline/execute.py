"""Executes a run in a run directory, from the beginning or from where it was interrupted."""

from __future__ import annotations

import json
import platform
import time
from contextlib import ExitStack
from pathlib import Path

from golf_fast import code_size, machine
from golf_fast.command_line import Parsed
from golf_fast.config import RunConfig
from golf_fast.data import require_source
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError, StoppedError
from golf_fast.files import read_bytes, replacing
from golf_fast.pipeline.resumable import ResumableRun
from golf_fast.pipeline.resume import InterruptedRun, end_partial_line, exclusive, restarted
from golf_fast.report import RunLog, write_html, write_pictures
from golf_fast.report.html import flat
from golf_fast.report.trackers import require_installed
from golf_fast.runs import FinishedRun, RunDirectory, RunPaths, new_run_directory, run_folder
from golf_fast.watched_peers import WatchedPeers


def execute(parsed: Parsed, interrupted: InterruptedRun | None = None) -> None:
    """Execute a run from text to a score, in its run directory.

    Args:
        interrupted: the run to resume, whose configuration is `parsed`. None: start a new run, or resume the run that
            these ranks had begun where torchrun has restarted them.

    Raises:
        InputError: a setting or an input cannot be used.
    """
    require_installed(parsed.config.track)
    device, reason = machine.choose_device(parsed.config.device)
    with Ranks.from_environment(device.type, parsed.config.train.micro_batches, WatchedPeers) as ranks:
        execute_among(parsed, ranks, reason, interrupted)


def execute_among(parsed: Parsed, ranks: Ranks, device_reason: str, interrupted: InterruptedRun | None = None) -> Path:
    """As `execute`, on ranks that are already connected and stay so; returns the run directory."""
    config = parsed.config
    interrupted = interrupted or restarted(config, ranks)
    directory = None
    if interrupted is None:
        paths, directory = _new_directory(parsed, ranks)
    else:
        paths = RunPaths(interrupted.folder)
    with ExitStack() as stack:
        if ranks.main and interrupted is not None:
            stack.enter_context(exclusive(paths))
            end_partial_line(paths.log)
            end_partial_line(paths.metrics)
        began = interrupted is not None
        try:
            require_source(config.data, ranks.device.type == "cuda")
            with RunLog(paths.folder, ranks.main) as log:
                for line in parsed.lines:
                    log.line(line)
                log.line(f"run directory: {paths.folder}")
                log.line(f"device: {ranks.device} ({device_reason}), {ranks.world_size} rank(s)")
                if ranks.main and interrupted is None:
                    where = {"device": machine.device_name(ranks.device), "world_size": ranks.world_size}
                    with replacing(paths.config, "w") as file:
                        json.dump(parsed.as_dict() | {"machine": where}, file, indent=2)
                    stack.enter_context(exclusive(paths))
                _require_shared(paths, ranks)
                run = ResumableRun(config, paths, ranks, log, _shipped(config, paths, ranks))
                run.prepare(goes_on=interrupted is not None, step=interrupted.step if interrupted else None)
                began = True
                log.track(config.track, paths.folder, flat(config.as_dict()))
                _go(run, log)
        except BaseException:
            # A run that failed before training leaves no directory, so that its --run-id can be used again.
            if directory is not None and not began:
                directory.discard()
            raise
    return paths.folder


def _require_shared(paths: RunPaths, ranks: Ranks) -> None:
    """Check that every rank sees the files that rank 0 writes into the run directory.

    Raises:
        InputError: a rank on another machine does not.
    """
    ranks.barrier()
    blind = ranks.gather_bytes(b"" if paths.config.exists() else platform.node().encode())
    hosts = sorted({host.decode(errors="replace") for host in blind if host})
    if hosts:
        raise InputError(
            f"{paths.folder}: rank 0 made it, and {', '.join(hosts)} does not see it; the machines of a run need a "
            "--runs-dir on a file system that they share"
        )


def _new_directory(parsed: Parsed, ranks: Ranks) -> tuple[RunPaths, RunDirectory | None]:
    """Create the directory of a new run on rank 0, and tell all ranks its path."""
    stamp = ranks.broadcast_float(time.time())
    directory = new_run_directory(parsed.config, stamp) if ranks.main else None
    number = int(ranks.broadcast_float(directory.number if directory else 0))
    return RunPaths(run_folder(parsed.config, stamp, number)), directory


def _shipped(config: RunConfig, paths: RunPaths, ranks: Ranks) -> code_size.Code:
    """The code that the run would ship: rank 0 writes it to the run directory, and all ranks read it from there."""
    if ranks.main:
        with replacing(paths.code) as file:
            file.write(code_size.code(config).content)
    ranks.barrier()
    return code_size.Code(read_bytes(paths.code, "the code that the run ships is needed"))


def _go(run: ResumableRun, log: RunLog) -> None:
    context = run.context
    try:
        run.go()
        if context.ranks.main:
            with context.secondary():
                log.result(FinishedRun(context.paths.folder).as_written(context.paths.result))
                write_html(context.paths.folder)
            with context.secondary():
                write_pictures(context.paths.folder)
    except (KeyboardInterrupt, StoppedError):
        log.line(f"cut short; to go on: python -m golf_fast.train --resume {context.paths.folder}")
        raise
    run.products.drop()
