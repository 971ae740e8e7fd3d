"""Two gloo processes are started once; each writes what it got from every collective, and the tests read that."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import golf_fast.distributed as distributed
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError

WORLD_SIZE = 2


def _inputs(rank: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(rank)
    shapes: list[tuple[int, ...]] = [(3, 5), (), (7,), (40, 30), (2, 2), (1, 9)]
    dtypes = [torch.float32, torch.float32, torch.bfloat16, torch.float32, torch.float64, torch.float16]
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    tensors.append(torch.randn(6, 4, generator=generator).t())  # not contiguous
    return tensors


def _work(folder: Path) -> None:
    distributed._BUCKET_BYTES = 2000  # several buckets, and one tensor larger than a bucket
    ranks = Ranks.from_environment("cpu", micro_batches=8)
    rank = ranks.rank
    got: dict[str, Any] = {"place": (ranks.rank, ranks.world_size, ranks.device.type, ranks.main)}
    got["mean"] = _inputs(rank)
    ranks.all_mean_(got["mean"])
    got["sum"] = ranks.all_sum_(torch.tensor([rank + 1, 10 * rank]))
    got["sum_bf16"] = ranks.all_sum_(torch.tensor([1.0, 0.5], dtype=torch.bfloat16))
    shard = torch.full((2, 3), rank + 0.5, dtype=torch.bfloat16)
    got["gathered"] = ranks.all_gather_into(torch.full((4, 3), torch.nan, dtype=torch.bfloat16), shard)
    own = torch.full((4,), -1, dtype=torch.int16)
    own[2 * rank : 2 * rank + 2] = rank
    got["gathered_in_place"] = ranks.all_gather_into(own, own[2 * rank : 2 * rank + 2])
    got["float"] = ranks.broadcast_float(0.1 + rank)
    got["bytes"] = ranks.gather_bytes(b"\0ab\0" * rank)
    got["share"] = ranks.share(10, 15)
    ranks.barrier()
    ranks.close()
    got["closed"] = not dist.is_initialized()
    torch.save(got, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, run_ranks: Callable[..., None]) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(__file__, WORLD_SIZE, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD_SIZE)]


def test_bytes_of_any_length_reach_every_rank(results: list[dict[str, Any]]) -> None:
    assert [result["bytes"] for result in results] == [[b"", b"\0ab\0"]] * 2
    assert Ranks.single().gather_bytes(b"alone") == [b"alone"]


def test_each_rank_knows_its_place(results: list[dict[str, Any]]) -> None:
    assert [result["place"] for result in results] == [(0, 2, "cpu", True), (1, 2, "cpu", False)]
    assert [result["share"] for result in results] == [(10, 12), (12, 15)]
    assert all(result["closed"] for result in results)


def test_the_mean_is_that_of_the_ranks_and_has_the_same_bits_on_all(results: list[dict[str, Any]]) -> None:
    inputs = [_inputs(rank) for rank in range(WORLD_SIZE)]
    for index, (first, second) in enumerate(zip(results[0]["mean"], results[1]["mean"], strict=True)):
        assert torch.equal(first, second)
        expected = sum(tensors[index].double() for tensors in inputs) / WORLD_SIZE
        assert first.dtype == inputs[0][index].dtype
        assert first.shape == inputs[0][index].shape
        torch.testing.assert_close(first, expected.to(first.dtype))


def test_sums_gathers_and_broadcasts(results: list[dict[str, Any]]) -> None:
    for result in results:
        assert result["sum"].tolist() == [3, 10]
        assert result["sum_bf16"].tolist() == [2.0, 1.0]
        assert result["gathered"].tolist() == [[0.5] * 3] * 2 + [[1.5] * 3] * 2
        assert result["gathered_in_place"].tolist() == [0, 0, 1, 1]
        assert result["float"] == 0.1


def test_a_rank_that_fails_is_named_with_what_it_said(run_ranks: Callable[..., None], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\nprint(sys.argv[1:], flush=True)\nassert os.environ['RANK'] == '0', 'not the first'\n"
    )
    with pytest.raises(AssertionError, match=r"(?s)rank 1 ended with 1: \['an argument'\].*not the first"):
        run_ranks(script, WORLD_SIZE, "an argument")


def test_a_single_process_never_calls_torch_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("torch.distributed was called")

    for name in ("init_process_group", "all_reduce", "broadcast", "all_gather_into_tensor", "barrier"):
        monkeypatch.setattr(dist, name, refuse)
    monkeypatch.setattr(dist, "all_gather_single", refuse, raising=False)
    for name in distributed._LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks.from_environment("cpu")
    assert ranks == Ranks.single("cpu")
    tensor = torch.arange(3.0)
    ranks.all_mean_([tensor])
    ranks.barrier()
    assert ranks.all_sum_(tensor).tolist() == [0, 1, 2]
    assert ranks.all_gather_into(torch.empty(3), tensor).tolist() == [0, 1, 2]
    assert ranks.all_gather_into(tensor, tensor).tolist() == [0, 1, 2]
    assert ranks.broadcast_float(0.1) == 0.1
    assert ranks.share(3, 9) == (3, 9)
    ranks.close()


def test_shares_cover_a_range_without_gap_or_overlap() -> None:
    for world_size in (1, 2, 3, 8):
        for count in range(12):
            shares = [Ranks(rank, world_size, torch.device("cpu")).share(5, 5 + count) for rank in range(world_size)]
            assert [index for start, stop in shares for index in range(start, stop)] == list(range(5, 5 + count))
            assert max(stop - start for start, stop in shares) - min(stop - start for start, stop in shares) <= 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"RANK": None}, "RANK is not set"),
        ({"LOCAL_RANK": None}, "LOCAL_RANK is not set"),
        ({"MASTER_PORT": None}, "MASTER_PORT is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is 0"),
        ({"RANK": "2"}, "RANK is 2"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK is -1"),
        ({"WORLD_SIZE": "3"}, "WORLD_SIZE is 3: it must divide train.micro_batches = 8"),
    ],
)
def test_a_bad_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], named: str
) -> None:
    good = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in (good | changes).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=named):
        Ranks.from_environment("cpu", micro_batches=8)


def test_a_local_rank_without_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="LOCAL_RANK is 1: this machine has 1 GPUs"):
        Ranks.from_environment("cuda", micro_batches=8)


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
