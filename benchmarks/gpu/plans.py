"""What to do with minutes on a GPU, in order of worth; no stage has been timed on one, so the limits are estimates."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass

TESTS = "tests/ops"
WORKERS = 6
FEW_THREADS = {"TORCHINDUCTOR_COMPILE_THREADS": "2"}
"""For stages with several processes, each of which has a pool of the compiler's."""


@dataclass(frozen=True)
class Stage:
    """A program that is run to its end or to its limit.

    Attributes:
        name: for people.
        limit: seconds.
        command: arguments of `python`.
        rehearsal: arguments that run as much of it as a machine without a GPU can.
        environment: what it has besides this program's.
    """

    name: str
    limit: int
    command: tuple[str, ...]
    rehearsal: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


def _benchmark(name: str, limit: int, *command: str, rehearsal: tuple[str, ...]) -> Stage:
    module = ("-m", "benchmarks")
    return Stage(name, limit, (*module, *command), (*module, *rehearsal))


def _tests(name: str, limit: int, *files: str, k: str, at_once: bool = True) -> Stage:
    paths = [f"{TESTS}/test_{file}.py" for file in files]
    spread = ["-n", str(WORKERS), "--dist", "worksteal"] if at_once and importlib.util.find_spec("xdist") else []
    common = ("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-k", k, *paths)
    return Stage(name, limit, (*common, *spread), (*common, "--collect-only"), tuple(FEW_THREADS.items()))


def _tune(name: str, limit: int, *kernels: str) -> Stage:
    flags = [flag for kernel in kernels for flag in ("--kernel", kernel)]
    return _benchmark(name, limit, "tune", *flags, rehearsal=("tune", "--compile", "--kernel", kernels[0]))


def _op(name: str, limit: int, op: str, peer: str) -> Stage:
    flags = ("--op", op, "--peer", peer)
    return _benchmark(name, limit, "--device", "cuda", *flags, rehearsal=(*flags, "--device", "cpu", "--list"))


COMPILE = _benchmark(
    "compile", 60, "compile", "--tune", rehearsal=("compile", "--arch", "90", "--op", "softcap_cross_entropy")
)
STEP_ON_A_CPU = ("step", "--recipe", "tiny", "--tokens", "512", "--device", "cpu", "--rounds", "1")


def _step(limit: int) -> Stage:
    # Where something is wrong its times are still worth having: the rows say so.
    flags = ("--rounds", "11", "--kernels", "40", "--anyway")
    return _benchmark("step", limit, "step", "--recipe", "seed", *flags, rehearsal=(*STEP_ON_A_CPU, "--kernels", "4"))


PLANS = {
    "first": (
        COMPILE,
        _tests(
            "kernels", 90, "window_attention_gpu", "relu2_mlp", "linear_residual", "residual_mix",
            "softcap_cross_entropy", "qk_norm_rope_gpu", k="not compiled and not x32- and not x128-",
        ),
        _step(230),
        _op("cudnn beside attention", 45, "window_attention", "sdpa cudnn"),
        _tune("tune attention", 75, "attention-dq", "attention", "attention-dkv"),
        _tests("full size", 90, "full_size", k="full_size", at_once=False),
        _tests("other tests", 90, "kernels", "registry", "newton_schulz", "update", "repeated", k="not compiled"),
        _tests("other head dims", 60, "window_attention_gpu", k="x32- or x128-"),
    ),
    "second": (
        COMPILE,
        _step(170),
        _tune("tune the rest", 90, "mlp-dpre", "mlp-up", "linear-residual", "residual-mix-backward"),
        _op("cublas beside the MLP", 40, "relu2_mlp", "cublas alone"),
        _benchmark(
            "the update", 40, "update", "--recipe", "seed",
            rehearsal=("update", "--recipe", "tiny", "--ranks", "1", "--rounds", "2", "--device", "cpu"),
        ),
        _op("attention alone", 40, "window_attention", "none"),
    ),
}  # fmt: skip
"""First: is it right, how long, and where does it go? Second: again, after what the first has shown."""


def shown(stage: Stage, rehearse: bool) -> str:
    """The command as a person types it."""
    words = [f"{name}={value}" for name, value in stage.environment]
    words += ["python", *(stage.rehearsal if rehearse else stage.command)]
    return " ".join(f"'{word}'" if " " in word else word for word in words)


def python(stage: Stage, rehearse: bool) -> list[str]:
    """The command as a program runs it."""
    return [sys.executable, *(stage.rehearsal if rehearse else stage.command)]
