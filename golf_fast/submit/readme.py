"""The README of a record folder: results, model and hyperparameters, commands, hardware and versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from golf_fast.config import RunConfig
from golf_fast.submit.record import Candidate
from golf_fast.submit.schema import Submission


def text(candidates: Sequence[Candidate], made: Submission) -> str:
    """The content of the file, as Markdown."""
    return "\n".join([*_head(made), *_results(candidates, made), *_settings(candidates[0].config), *_again(made)])


def _head(made: Submission) -> Iterator[str]:
    spread = "" if made.val_bpb_std is None else f" ± {made.val_bpb_std:.5f}"
    yield f"# {made.name}"
    yield ""
    if not made.record:
        yield "**Not a record:** " + "; ".join(made.not_a_record_because) + "."
        yield ""
    yield (
        f"val_bpb {made.val_bpb:.5f}{spread}, mean of {len(made.seeds)} seed(s); {made.bytes_total:,} bytes, "
        f"{made.bytes_code:,} of code and {made.bytes_model:,} of the model."
    )
    yield ""
    yield made.blurb
    yield ""


def _results(candidates: Sequence[Candidate], made: Submission) -> Iterator[str]:
    yield "## Results"
    yield ""
    yield "| seed | val_bpb | val_loss | bytes in all | model | steps | training, s | evaluation, s | track | rules |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for candidate in candidates:
        result = made.seed_results[str(candidate.seed)]
        seconds = "" if result.eval_seconds is None else f"{result.eval_seconds:.1f}"
        rules = ", ".join(result.violations) or ("open" if _open(result.not_judged) else "legal")
        yield (
            f"| {candidate.seed} | {result.val_bpb:.5f} | {result.val_loss:.5f} | {result.bytes_total:,} | "
            f"{result.bytes_model:,} | {result.steps:,} | {result.train_seconds:.1f} | {seconds} | {result.track} | "
            f"{rules} |"
        )
    yield ""
    yield (
        f"The artifact is that of seed {made.artifact_seed}. Rules, sizes and scores are recomputed from what the runs "
        "left: the ledger of what was scored and learned, the losses of the tokens, and the files themselves."
    )
    left_open = dict.fromkeys(said for result in made.seed_results.values() for said in result.not_judged)
    yield from (f"\nNot judged: {said}." for said in left_open)
    yield ""


def _open(not_judged: Sequence[str]) -> bool:
    return any(said.startswith("V") for said in not_judged)


def _settings(config: RunConfig) -> Iterator[str]:
    default = RunConfig().as_dict()
    yield "## Model and hyperparameters"
    yield ""
    yield "Settings of the recipe; those in bold are not the defaults of golf_fast, which are those of #366."
    yield ""
    for stage in ("model", "train", "compress", "score"):
        yield f"### {stage}"
        yield ""
        yield "| setting | value |"
        yield "|---|---|"
        for name, value, usual in _walk(config.as_dict()[stage], default[stage]):
            shown = f"`{value}`" if value == usual else f"**`{value}`**"
            yield f"| {name} | {shown} |"
        yield ""


def _walk(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _walk(value, defaults[name], f"{prefix}{name}.")
        elif name != "replay_schedule":
            yield prefix + name, value, defaults[name]


def _again(made: Submission) -> Iterator[str]:
    yield "## Run it"
    yield ""
    yield "```sh"
    yield "pip install -r requirements.txt  # beside torch with triton, numpy and sentencepiece"
    yield "export DATA_PATH=FOLDER_OF_SHARDS TOKENIZER_PATH=TOKENIZER.model"
    seeds = " ".join(map(str, made.seeds))
    yield f"for seed in {seeds}; do SEED=$seed torchrun --standalone --nproc_per_node=8 train_gpt.py; done"
    yield "python train_gpt.py --eval-only       # scores the artifact.golf beside it"
    yield "python train_gpt.py --unpack FOLDER   # the plain sources"
    yield "```"
    yield ""
    yield "## Hardware and versions"
    yield ""
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    yield f"{made.hardware}; {versions}."
    yield ""
    yield "## Files"
    yield ""
    yield f"`train_gpt.py` has SHA-256 `{made.code_sha256}`, `artifact.golf` `{made.artifact_sha256}`."
    yield ""
