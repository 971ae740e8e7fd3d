"""The result of a run and its verdict on the rules, from the findings of its stages."""

from __future__ import annotations

from golf_fast import machine
from golf_fast.data import shard_tokens
from golf_fast.files import sha256
from golf_fast.model import parameters
from golf_fast.pipeline.context import Context
from golf_fast.pipeline.findings import AFTER, BEFORE, Findings
from golf_fast.rules import variant_of
from golf_fast.runs import Result
from golf_fast.score.verdict import Facts, Verdict, judge


def verdict(context: Context, found: Findings, *, finished: bool) -> Verdict:
    """The verdict on the rules, from the ledger and the facts of the run."""
    config, final, budget = context.config, found.final(context.config.score), found.budget
    dataset = found.inputs.dataset
    facts = Facts(
        finished=finished,
        planned=() if final else config.score.violations,
        window=config.score.window,
        split_targets=sum(shard_tokens(path) for path in dataset.val_shards) - 1,
        variant=variant_of(dataset.name),
        train_limit=budget.limit if found.trained else None,
        train_seconds=budget.trained if found.trained else None,
        quantize_seconds=budget.quantized,
        eval_limit=config.score.max_seconds,
        eval_seconds=final.seconds if final else None,
        device=machine.device_name(context.ranks.device),
        world_size=context.ranks.world_size,
        overlap=found.overlap,
    )
    return judge(found.events, facts)


def result(context: Context, found: Findings, *, finished: bool) -> Result:
    """The result as far as it is known; fields that were not measured are None."""
    paths, config, trained = context.paths, context.config, found.trained
    judged = verdict(context, found, finished=finished)
    before, after, final = found.scores.get(BEFORE), found.scores.get(AFTER), found.final(config.score)
    return Result(
        run_id=paths.folder.name,
        recipe=config.recipe,
        seed=config.seed,
        params=parameters.count(config.model),
        steps=trained.steps if trained else 0,
        train_seconds=found.budget.used,
        tokens_per_second=trained.tokens / trained.seconds if trained else None,
        val_loss=final.nats / final.tokens if final else None,
        val_bpb=final.bpb if final else None,
        val_tokens=final.tokens if final else None,
        val_bytes=final.bytes if final else None,
        bpb_before_compression=before.bpb if before else None,
        bpb_without_ttt=after.bpb if after else None,
        artifact_bytes=paths.artifact.stat().st_size if paths.artifact.exists() else None,
        code_bytes=context.code.size,
        code_hash=context.code.hash,
        track=judged.track,
        violations=judged.violations,
        not_judged=[*judged.not_judged, *found.reservations],
        score_order=judged.order,
        eval_seconds=final.seconds if final else None,
        device=machine.device_name(context.ranks.device),
        world_size=context.ranks.world_size,
        versions=machine.versions(),
        data_fingerprint=found.inputs.dataset.fingerprint,
        backends={op: {"name": b.name, "reason": b.reason} for op, b in context.backends.items()},
        compute_dtype=machine.dtype_name(context.dtype),
        recompiles=trained.recompiles if trained else 0,
        peak_memory_bytes=machine.peak_memory_bytes(context.ranks.device),
        artifact_parts=found.costs.parts if found.costs else {},
        finished=finished,
        resumed=found.resumed,
        repeated_seconds=found.repeated_seconds,
        file_hashes={path.name: sha256(path) for path in paths.evidence if path.exists()},
        validation_shards=found.inputs.shards,
        validation_bytes=found.inputs.side_cars,
    )
