"""A run takes its directory by creating it, and gives back only what it made."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.runs import RunPaths, new_run_directory, run_folder

BEGAN = 1_700_000_000.0


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return replace(RunConfig(), runs_dir=tmp_path / "runs")


def test_runs_of_one_second_get_numbers(config: RunConfig) -> None:
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: new_run_directory(config, BEGAN), range(8)))
    first = run_folder(config, BEGAN).name
    assert {directory.path.name for directory in taken} == {first, *(f"{first}-{number}" for number in range(2, 9))}
    assert all(directory.path == run_folder(config, BEGAN, directory.number) for directory in taken)


@pytest.mark.parametrize("there", [True, False])
def test_of_many_that_want_one_name_one_gets_it(config: RunConfig, there: bool) -> None:
    named = replace(config, run_id="mine")
    if there:
        run_folder(named, BEGAN).mkdir(parents=True)

    def take(_: int) -> str:
        try:
            return new_run_directory(named, BEGAN).path.name
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(take, range(8)))
    assert said.count("mine") == 1
    assert sum("holds an earlier run, which stays as it is" in text for text in said) == 7


@pytest.mark.parametrize("there", [True, False])
def test_only_what_the_run_made_is_given_back(config: RunConfig, there: bool) -> None:
    named = replace(config, run_id="mine")
    folder = run_folder(named, BEGAN)
    if there:
        folder.mkdir(parents=True)
    directory = new_run_directory(named, BEGAN)
    paths = RunPaths(folder)
    for path in (paths.log, paths.tokenizer):
        path.write_text("ours")
    (folder / "notes.txt").write_text("theirs")
    directory.discard()
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    if not there:
        folder.rmdir()
    again = new_run_directory(named, BEGAN)
    again.discard()
    assert folder.exists() is there


def test_a_refused_run_takes_nothing_of_another(config: RunConfig) -> None:
    named = replace(config, run_id="mine")
    first = new_run_directory(named, BEGAN)
    RunPaths(first.path).log.write_text("the first")
    with pytest.raises(InputError, match="mine: holds an earlier run"):
        new_run_directory(named, BEGAN)
    assert RunPaths(first.path).log.read_text() == "the first"


@pytest.mark.parametrize("name", ["file", "file/deeper", "a\0b"])
def test_a_place_that_cannot_be_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be made or written \(.+\); choose another --runs-dir"):
        new_run_directory(replace(RunConfig(), runs_dir=tmp_path / name), BEGAN)
