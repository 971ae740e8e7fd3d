"""Reading a run directory: what is missing or damaged is named, and no other file knows the names."""

import ast
from pathlib import Path

import numpy as np
import pytest

import golf_fast
from golf_fast.errors import InputError
from golf_fast.runs import FinishedRun, RunPaths
from golf_fast.score import ledger

PACKAGE = Path(golf_fast.__file__).parent
NAMES = {path.name for path in vars(RunPaths(Path("run"))).values()} - {"run"}


OWNERS = {PACKAGE / "runs" / "paths.py", PACKAGE / "data" / "build.py"}
"""A built corpus has a tokenizer too, in a folder of its own."""
OWNERS |= {PACKAGE / "submit" / name for name in ("entry.py", "schema.py", "single_file.py")}
"""A record folder has files of the same names, which are its own: `golf_fast.submit.schema` says which."""
READERS = {
    "config": lambda run: run.config,
    "result": FinishedRun.result,
    "documents": FinishedRun.documents,
    "schedule": FinishedRun.schedule,
    "token_losses": FinishedRun.token_losses,
}


def literals(source: str) -> set[str]:
    """The strings of a module, with those in f-strings."""
    constants = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def test_each_name_stands_in_one_place() -> None:
    assert len(NAMES) > 15, "the list is not empty by mistake"
    for source in set(PACKAGE.rglob("*.py")) - OWNERS:
        found = {text for text in literals(source.read_text()) if text.rpartition("/")[2] in NAMES}
        assert not found, f"{source.relative_to(PACKAGE)} names {', '.join(sorted(found))}"


def test_the_search_sees_a_name() -> None:
    assert "runs/x/result.json" in literals("def f():\n    return open('runs/x/result.json')")


@pytest.mark.parametrize("read", [*READERS, "ledger", "metrics"])
def test_a_file_of_no_end_is_never_read(tmp_path: Path, read: str) -> None:
    run = FinishedRun(tmp_path)
    path = getattr(run.paths, read)
    with path.open("wb") as file:
        file.truncate(1 << 40)  # it takes no room on the disk
    reader = {"ledger": lambda run: ledger.read(run.paths.ledger), "metrics": FinishedRun.records, **READERS}[read]
    with pytest.raises(InputError, match=f"^{path}: is larger than"):
        reader(run)


@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_is_named(tmp_path: Path, read: str) -> None:
    run = FinishedRun(tmp_path)
    with pytest.raises(InputError, match=f"^{getattr(run.paths, read)}: cannot be read"):
        READERS[read](run)


def test_what_a_killed_run_left_of_its_metrics_is_read(tmp_path: Path) -> None:
    run = FinishedRun(tmp_path)
    assert run.records() == []
    run.paths.metrics.write_bytes(b'{"kind": "train", "step": 1}\n\n[1]\n\xff\n{"kind": "val"}\n{"kind": "tr')
    assert run.records() == [{"kind": "train", "step": 1}, {"kind": "val"}]


def test_losses_of_no_whole_tokens_are_refused(tmp_path: Path) -> None:
    run = FinishedRun(tmp_path)
    run.paths.token_losses.write_bytes(np.array([1.5, 2.5], dtype="<f4").tobytes())
    assert run.token_losses().tolist() == [1.5, 2.5]
    run.paths.token_losses.write_bytes(b"12345")
    with pytest.raises(InputError, match="token_losses: has 5 bytes"):
        run.token_losses()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "is not the configuration of a run"),
        ('{"config": 3}', "is not the configuration of a run"),
        ('{"config": {}}', "has no recipe"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: str, said: str) -> None:
    run = FinishedRun(tmp_path)
    run.paths.config.write_text(content)
    with pytest.raises(InputError, match=rf"config\.json: {said}"):
        run.config  # noqa: B018
