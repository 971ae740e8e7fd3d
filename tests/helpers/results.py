"""Results of runs that nobody made."""

from dataclasses import replace

from helpers.left_behind import RESULT

from golf_fast.runs import Result


def result(seed: int, bpb: float, plain: float, params: int = 100, size: int = 1000, seconds: float = 10.0) -> Result:
    """A run that finished with `bpb`, and with `plain` before it adapted."""
    return replace(
        RESULT,
        seed=seed,
        params=params,
        train_seconds=seconds,
        tokens_per_second=1e6 / seconds,
        val_bpb=bpb,
        bpb_before_compression=plain,
        bpb_without_ttt=plain,
        artifact_bytes=size,
    )
