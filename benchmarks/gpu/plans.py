"""What to do with minutes on a GPU, in order of worth; no stage has been timed on one, so the limits are estimates."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = "tests/ops"
WORKERS = 8
"""Each of them holds up to 6 GiB on the device."""
FEW_THREADS = {"TORCHINDUCTOR_COMPILE_THREADS": "2"}
"""For stages with several processes, each of which has a pool of the compiler's."""
RUN = time.strftime("gpu-%Y%m%d-%H%M%S")
"""The run directory of a plan that trains."""

Paths = Mapping[str, Path]
PATHS = {
    "upstream": "a record script's train_gpt.py, which is EXECUTED: name one that you have read and trust",
    "shards": "a folder of shards for a vocabulary of 1,024, a few million tokens or more",
    "tokenizer": "the tokenizer that the shards were made with",
}
"""Option -> what a plan needs besides the checkout; `{upstream}` in a command is the path that was given."""


@dataclass(frozen=True)
class Stage:
    """A program that is run to its end or to its limit.

    Attributes:
        name: name for people.
        limit: limit of its wall time, in seconds.
        command: arguments of `python`.
        rehearsal: arguments of `python` that run as much of the stage as a machine without a GPU can.
        environment: environment variables that are set besides those of this program.
        leaves: files in the checkout that are copied to the measurements after the stage, if they exist.
    """

    name: str
    limit: int
    command: tuple[str, ...]
    rehearsal: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    leaves: tuple[str, ...] = ()


def _benchmark(name: str, limit: int, *command: str, rehearsal: tuple[str, ...]) -> Stage:
    module = ("-m", "benchmarks")
    return Stage(name, limit, (*module, *command), (*module, *rehearsal))


def _tests(name: str, limit: int, *files: str, k: str, at_once: bool = True) -> Stage:
    paths = [f"{TESTS}/test_{file}.py" for file in files]
    spread = ["-n", str(WORKERS), "--dist", "worksteal"] if at_once and importlib.util.find_spec("xdist") else []
    # A line for each test: a stage that is cut off has said which have failed.
    common = (
        "-m",
        "pytest",
        "-v",
        "--tb=short",
        "--maxfail=40",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "-k",
        k,
        *paths,
    )
    few = tuple(FEW_THREADS.items()) if at_once else ()
    return Stage(name, limit, (*common, *spread), (*common, "-q", "--collect-only"), few)


def _tune(name: str, limit: int, *kernels: str) -> Stage:
    flags = [flag for kernel in kernels for flag in ("--kernel", kernel)]
    return _benchmark(name, limit, "tune", *flags, rehearsal=("tune", "--compile", "--kernel", kernels[0]))


def _op(name: str, limit: int, op: str, peer: str) -> Stage:
    flags = ("--op", op, "--peer", peer)
    return _benchmark(name, limit, "--device", "cuda", *flags, rehearsal=(*flags, "--device", "cpu", "--list"))


COMPILE = _benchmark(
    "compile", 60, "compile", "--tune", rehearsal=("compile", "--arch", "90", "--op", "softcap_cross_entropy")
)


def _step(name: str, limit: int, recipe: str, *flags: str, on_a_cpu: str = "tiny") -> Stage:
    # Where something is wrong its times are still worth having: the rows say so.
    rehearsal = ("step", "--recipe", on_a_cpu, "--tokens", "512", "--device", "cpu", "--rounds", "1", *flags)
    return _benchmark(
        name, limit, "step", "--recipe", recipe, "--rounds", "11", "--anyway", *flags,
        rehearsal=tuple(flag for flag in rehearsal if flag not in ("--upstream", "{upstream}")),
    )  # fmt: skip


EXTENSION = Stage(
    "the extension", 100, ("setup.py", "build_ext", "--inplace"), ("setup.py", "--version"),
    (("GOLF_FAST_CUDA_ARCHS", "90a"),),
)  # fmt: skip
# Without a GPU: through the shapes of a rank, its exchanges and its plan of time.
TRAIN = Stage(
    "train", 570,
    (
        "-m", "golf_fast.train", "seed", "--run-id", RUN, "--train.max-seconds", "240", "--score.stride", "256",
        "--data.shards", "{shards}", "--data.tokenizer", "{tokenizer}",
    ),
    ("-m", "golf_fast.train", "seed", "--train.dry-run", "--train.dry-run-ranks", "1"),
    leaves=tuple(f"runs/{RUN}/{name}" for name in ("result.json", "log.txt", "artifact.golf")),
)  # fmt: skip

PLANS = {
    "first": (
        COMPILE,
        _tests(
            "kernels", 90, "window_attention_gpu", "relu2_mlp", "linear_residual", "residual_mix",
            "softcap_cross_entropy", "qk_norm_rope_gpu", k="not compiled and not x32- and not x128-",
        ),
        _step("step", 230, "seed", "--kernels", "40"),
        _op("cudnn beside attention", 45, "window_attention", "sdpa cudnn"),
        _tune("tune attention", 75, "attention-dq", "attention", "attention-dkv"),
        # The step of the seed has passed its gate by then; of the largest recipe what it trains on, not compiled.
        _tests("full size", 90, "full_size", k="not micro_step", at_once=False),
        _tests("other tests", 90, "kernels", "registry", "newton_schulz", "update", "repeated", k="not compiled"),
        _tests("other head dims", 60, "window_attention_gpu", k="x32- or x128-"),
    ),
    "second": (
        COMPILE,
        _step("step", 170, "seed", "--kernels", "40"),
        _tune("tune the rest", 90, "mlp-dpre", "mlp-up", "linear-residual", "residual-mix-backward"),
        _op("cublas beside the MLP", 40, "relu2_mlp", "cublas alone"),
        _benchmark(
            "the update", 40, "update", "--recipe", "seed",
            rehearsal=("update", "--recipe", "tiny", "--ranks", "1", "--rounds", "2", "--device", "cpu"),
        ),
        _op("attention alone", 40, "window_attention", "none"),
    ),
    "third": (
        COMPILE,
        _step("beside the record script", 200, "seed", "--only", "whole", "--upstream", "{upstream}"),
        EXTENSION,
        TRAIN,
        _step("step of top_1855", 260, "top_1855", "--kernels", "40", on_a_cpu="tiny_top"),
        _tests("full size of top_1855", 150, "full_size", k="top_1855", at_once=False),
        _op("heads that are gated", 40, "exclusive_gate", "none"),
        _tests(
            "compiled", 170, "kernels", "window_attention_gpu", "qk_norm_rope_gpu", "relu2_mlp", "linear_residual",
            "residual_mix", "softcap_cross_entropy", k="compiled",
        ),
        _tests("bitpack tests", 60, "bitpack", k="not compiled", at_once=False),
        _op("bitpack", 60, "bitpack", "none"),
        _tests("compute-sanitizer", 300, "compute_sanitizer", k="compute_sanitizer"),
    ),
}  # fmt: skip
"""First: is it right, how long, and where does it go? Second: again, after what the first has shown. Third: what an
hour is for."""


def missing(stage: Stage, paths: Paths) -> list[str]:
    """The options that a stage needs and nobody gave."""
    return [f"--{name}" for name in PATHS if name not in paths and f"{{{name}}}" in stage.command]


def _words(stage: Stage, rehearse: bool, paths: Paths | None) -> list[str]:
    given = {f"{{{name}}}": str(path) for name, path in (paths or {}).items()}
    return [given.get(word, word) for word in (stage.rehearsal if rehearse else stage.command)]


def shown(stage: Stage, rehearse: bool, paths: Paths | None = None) -> str:
    """The command as a person types it."""
    words = [f"{name}={value}" for name, value in stage.environment]
    words += ["python", *_words(stage, rehearse, paths)]
    return " ".join(f"'{word}'" if " " in word else word for word in words)


def python(stage: Stage, rehearse: bool, paths: Paths | None = None) -> list[str]:
    """The command as a program runs it."""
    return [sys.executable, *_words(stage, rehearse, paths)]
