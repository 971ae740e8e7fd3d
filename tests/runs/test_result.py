"""`result.json`: its names, its verdicts, and that it is read as it was written."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from golf_fast.errors import InputError
from golf_fast.rules import SIZE_LIMIT_BYTES
from golf_fast.runs.result import Result, read

RESULT = Result(
    run_id="tiny-1",
    recipe="tiny",
    seed=42,
    params=1000,
    steps=7,
    train_seconds=1.5,
    tokens_per_second=100.0,
    val_loss=3.5,
    val_bpb=2.25,
    val_tokens=64,
    val_bytes=100,
    bpb_before_compression=2.125,
    bpb_without_ttt=2.5,
    artifact_bytes=900,
    code_bytes=100,
    track="B",
    violations=[],
    eval_seconds=2.0,
    device="cpu",
    world_size=1,
    versions={"python": "3.11"},
    data_fingerprint="ab",
    backends={"relu2_mlp": {"name": "reference", "reason": "no GPU"}},
    compute_dtype="float32",
    recompiles=0,
    peak_memory_bytes=1,
    finished=True,
)
# Other programs read these names.
NAMES = [
    "run_id",
    "recipe",
    "seed",
    "params",
    "steps",
    "train_seconds",
    "tokens_per_second",
    "val_loss",
    "val_bpb",
    "val_tokens",
    "val_bytes",
    "bpb_before_compression",
    "bpb_without_ttt",
    "artifact_bytes",
    "code_bytes",
    "total_bytes",
    "fits",
    "legal",
    "track",
    "violations",
    "eval_seconds",
    "device",
    "world_size",
    "versions",
    "data_fingerprint",
    "backends",
    "compute_dtype",
    "recompiles",
    "peak_memory_bytes",
    "finished",
]


def write(path: Path, **changes: Any) -> Path:
    RESULT.write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_the_names(tmp_path: Path) -> None:
    RESULT.write(tmp_path / "result.json")
    held = json.loads((tmp_path / "result.json").read_text())
    assert set(NAMES) <= set(held)
    assert set(held) - set(NAMES) == {
        "code_hash",
        "artifact_parts",
        "baselines",
        "file_hashes",
        "validation_shards",
        "validation_bytes",
        "not_judged",
        "score_order",
        "resumed",
        "repeated_seconds",
    }
    assert set(held) == {field.name for field in fields(Result)}


def test_read_gives_what_was_written(tmp_path: Path) -> None:
    for number, result in enumerate((RESULT, replace(RESULT, artifact_bytes=None, val_bpb=None, violations=["V1"]))):
        path = tmp_path / "new folder" / f"{number}.json"
        result.write(path)
        assert read(path) == result


@pytest.mark.parametrize(
    ("artifact", "fits"), [(SIZE_LIMIT_BYTES - 100, True), (SIZE_LIMIT_BYTES - 99, False), (None, False)]
)
def test_one_byte_over_is_out(artifact: int | None, fits: bool) -> None:
    result = replace(RESULT, artifact_bytes=artifact)
    assert result.fits is fits
    assert result.total_bytes == (None if artifact is None else artifact + 100)


def test_a_violation_makes_it_illegal() -> None:
    assert RESULT.legal
    assert not replace(RESULT, violations=["V1"]).legal
    assert not replace(RESULT, not_judged=["V9, V11: training had no limit of time"]).legal
    assert replace(RESULT, not_judged=["time: this ran on a laptop"]).legal


def test_a_loss_that_is_not_finite_is_null(tmp_path: Path) -> None:
    replace(RESULT, val_loss=float("nan"), val_bpb=float("inf")).write(tmp_path / "result.json")
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["val_loss"] is None
    assert read(tmp_path / "result.json").val_bpb is None


def test_unknown_fields_are_passed_over(tmp_path: Path) -> None:
    assert read(write(tmp_path / "result.json", later=1)) == RESULT


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fits": False}, "fits is False, but its other fields make it True"),
        ({"legal": False}, "legal is False"),
        ({"total_bytes": 999}, "total_bytes is 999"),
        ({"steps": "7"}, 'steps is "7": it must be a whole number'),
        ({"steps": True}, "steps is true"),
        ({"steps": None}, "steps is null"),
        ({"val_bpb": "x"}, 'val_bpb is "x"'),
        ({"track": "C"}, 'track is "C"'),
        ({"violations": [1]}, "violations is a list of 1: it must be a list, each a text"),
        ({"backends": {"a": "b"}}, "backends is"),
    ],
)
def test_a_result_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "result.json", **changes)
    with pytest.raises(InputError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert said in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"run_id": "a"}'])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"result\.json: "):
        read(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_result_without_a_field_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "result.json"
    RESULT.write(path)
    held = json.loads(path.read_text())
    del held[name]
    path.write_text(json.dumps(held))
    with pytest.raises(InputError, match=f"has no {name}"):
        read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "result.json")
