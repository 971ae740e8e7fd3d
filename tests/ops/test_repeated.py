"""Every kernel writes the same bits in each of 200 runs at the shapes of the seed: the ops promise it."""

from __future__ import annotations

import dataclasses
import importlib.util
from itertools import count

import pytest
import torch
from helpers import repeated

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from golf_fast.ops import registry
from golf_fast.ops.launch import Launch, architecture
from golf_fast.ops.relu2_mlp import triton as relu2
from golf_fast.ops.softcap_cross_entropy import triton as softcap

TIMES = 200
MOST_BYTES = 2 << 30
BUILDS = {
    f"{op}: {build.label} sm_{build.arch}": build for op, cases in registry.load().items() for build in cases.builds()
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", BUILDS)
def test_the_same_bits_every_time(name: str) -> None:
    build, device = BUILDS[name], torch.device("cuda", torch.cuda.current_device())
    if build.arch != architecture(device):
        pytest.skip(f"it is for compute capability {build.arch / 10}")
    if (size := repeated.size(build.launch)) > MOST_BYTES:
        pytest.skip(f"its tensors take {size / 2**30:.0f} GiB, and they are kept three times")
    assert repeated.differing(*repeated.real(build.launch, device), TIMES) is None


def small() -> Launch:
    logits = torch.empty(7, 100, device="meta")
    targets, losses = torch.empty(7, dtype=torch.int64, device="meta"), torch.empty(7, device="meta")
    return softcap.row_launch(logits, targets, losses, 30.0, True, softcap.choose_row(100))


@pytest.mark.interpreter
def test_a_launch_with_descriptors_is_made_real() -> None:
    shapes = {"x": (70, 64), "w_up": (128, 64), "post": (70, 128)}
    x, w_up, post = (torch.empty(shape, device="meta") for shape in shapes.values())
    tiles = relu2.TILES["up", 90][-1]
    launch, tensors = repeated.real(relu2.up_launch(x, w_up, None, post, None, 0.0, tiles, 2), torch.device("cpu"))
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes
    assert repeated.differing(launch, tensors, 3) is None
    torch.testing.assert_close(tensors["post"], (tensors["x"] @ tensors["w_up"].T).relu().square())


@pytest.mark.interpreter
def test_a_launch_is_made_real_and_repeats_itself() -> None:
    launch, tensors = repeated.real(small(), torch.device("cpu"))
    assert set(tensors) == {"logits", "targets", "losses"}
    before = tensors["logits"].clone()
    assert repeated.differing(launch, tensors, 5) is None
    assert not torch.equal(tensors["logits"], before)  # it takes the place of its input, which was put back each time


@pytest.mark.interpreter
@pytest.mark.parametrize(
    ("at", "fault", "found"),
    [
        (3, lambda out: out[2].add_(1e-3), "run 4 wrote another losses"),
        (2, lambda out: out[0].fill_(float("nan")), "run 3 wrote another losses"),
    ],
    ids=["a race", "not written"],
)
def test_what_differs_in_one_run_is_seen(at: int, fault, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launch, tensors = repeated.real(small(), torch.device("cpu"))
    calls = count()

    @dataclasses.dataclass(frozen=True)
    class Faulty(Launch):
        def __call__(self) -> None:
            super().__call__()
            if next(calls) == at:
                fault(self.arguments["losses"])

    faulty = Faulty(**{field.name: getattr(launch, field.name) for field in dataclasses.fields(launch)})
    assert (repeated.differing(faulty, tensors, 6) or "").startswith(found)
