"""Every op with passes in C++ against its definition in float64, on the registry's samples: output and gradients."""

from __future__ import annotations

import pytest
import torch
from helpers.compare import require_same, run, upstream_gradients
from helpers.numerics import rms_error

from golf_fast import ops
from golf_fast.ops import backends, extension, passes, registry

if passes.obstacle("cpu"):
    pytest.skip(str(passes.obstacle("cpu")), allow_module_level=True)

CPU = torch.device("cpu")
WITH_PASSES = [op for op in backends.registered() if "native" in backends.names(op) and op in ops.__all__]
CASES = {op: cases for op, cases in registry.load().items() if op in WITH_PASSES}
MANY = 2000
"""Elements from which on the error of a tensor is no luck."""
DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture
def use_native(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(backends.VARIABLE, "native")
    backends.forget()
    yield
    backends.forget()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, use_native) -> list[str]:
    """The names of the passes that run."""
    names: list[str] = []
    before = passes.run
    monkeypatch.setattr(passes, "run", lambda name, *rest: (names.append(name), before(name, *rest))[1])
    return names


@pytest.mark.parametrize("path", passes.paths())
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", CASES)
def test_each_path_against_float64(op: str, dtype: torch.dtype, path: str, called: list[str]) -> None:
    with passes.using(path):
        for sample in CASES[op].samples(CPU, dtype):
            require_same(CASES[op], sample)
    assert called, "the op ran without a pass"


WITHOUT_PASSES = {
    "window_attention": "window_attention=blocked",
    "qkv_attention": "qkv_attention=separate,qk_norm_rope=reference,window_attention=blocked",
}
"""What else runs on a CPU where that is not the reference: it rounds the shares of attention, as the passes do."""


@pytest.mark.parametrize("op", CASES)
def test_bfloat16_is_no_further_off_than_what_runs_without_passes(op: str, use_native) -> None:
    cases, compared = CASES[op], 0
    for sample in cases.samples(CPU, torch.bfloat16):
        ours, our_gradients = run(cases.function, sample)
        chosen = upstream_gradients(ours)
        with backends.requested(WITHOUT_PASSES.get(op, "reference")):
            low, low_gradients = run(cases.function, sample, chosen)
        exact, exact_gradients = run(cases.reference, sample, chosen, double=True)
        for i, (a, b, c) in enumerate(
            zip(ours + our_gradients, low + low_gradients, exact + exact_gradients, strict=True)
        ):
            if c.numel() >= MANY:
                compared += 1
                assert rms_error(a, c) <= cases.rms_factor * rms_error(b, c), f"{sample.label}: tensor {i}"
    assert compared


@pytest.mark.parametrize("op", CASES)
def test_compiled_without_a_graph_break(op: str, called: list[str]) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(CASES[op].function, fullgraph=True, backend="aot_eager", dynamic=False)
    require_same(CASES[op], CASES[op].samples(CPU, torch.bfloat16)[-1], compiled)
    assert called


@pytest.mark.parametrize("op", CASES)
def test_the_number_of_threads_changes_no_bit(op: str, use_native) -> None:
    """Products by PyTorch may; what is compared here is small enough for one thread of it."""
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            sample = CASES[op].samples(CPU, torch.float32)[-1]
            outputs, gradients = run(CASES[op].function, sample)
            found.append([*outputs, *gradients])
    finally:
        torch.set_num_threads(before)
    for again in found[1:]:
        torch.testing.assert_close(again, found[0], rtol=0, atol=0)


@pytest.mark.parametrize("op", CASES)
def test_other_dtypes_run_the_reference(op: str, called: list[str]) -> None:
    for sample in CASES[op].samples(CPU, torch.float64):
        outputs, gradients = run(CASES[op].function, sample)
        expected, expected_gradients = run(CASES[op].reference, sample)
        torch.testing.assert_close(outputs + gradients, expected + expected_gradients)
    assert not called


def test_they_run_where_nothing_else_is_asked_for() -> None:
    """So what the registry's tests call on a CPU, opcheck of the operators among it, calls them."""
    backends.forget()
    assert {backends.resolve(op, "cpu").name for op in CASES} == {"native"}


def test_work_is_shared_out_where_torch_has_threads() -> None:
    if "OpenMP" in torch.__config__.parallel_info():
        assert extension.C.activations_has_threads()


def test_a_stale_extension_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_missing", "golf_fast._C is older than these sources; build it again")
    obstacle = passes.candidate("what it does").obstacle("cpu")
    assert obstacle is not None
    assert "build it again" in obstacle
    assert passes.paths() == []


def test_passes_are_for_a_cpu() -> None:
    assert passes.obstacle("cuda") == "it has no passes for cuda"


@pytest.mark.parametrize("op", CASES)
def test_no_pass_runs_where_the_reference_is_asked_for(op: str, called: list[str]) -> None:
    with backends.requested("reference"):
        run(CASES[op].function, CASES[op].samples(CPU, torch.float32)[0])
    assert not called
