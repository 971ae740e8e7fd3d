"""Results of runs that nobody made."""

from golf_fast.runs import Result


def result(seed: int, bpb: float, plain: float, params: int = 100, size: int = 1000, seconds: float = 10.0) -> Result:
    """A run that finished with `bpb`, and with `plain` before it adapted."""
    return Result(
        run_id="x",
        recipe="tiny",
        seed=seed,
        params=params,
        steps=5,
        train_seconds=seconds,
        tokens_per_second=1.0,
        val_loss=1.0,
        val_bpb=bpb,
        val_tokens=10,
        val_bytes=20,
        bpb_before_compression=plain,
        bpb_without_ttt=plain,
        artifact_bytes=size,
        code_bytes=1,
        track="A",
        violations=[],
        eval_seconds=1.0,
        device="cpu",
        world_size=1,
        versions={},
        data_fingerprint="",
        backends={},
        compute_dtype="float32",
        recompiles=0,
        peak_memory_bytes=1,
        finished=True,
    )
