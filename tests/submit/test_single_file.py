"""The built file in a folder of its own, where neither this package nor its other dependencies can be imported."""

from __future__ import annotations

import ast
import builtins
import bz2
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from golf_fast import environment
from golf_fast.code_size import code
from golf_fast.command_line import changed
from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.recipes import RECIPES
from golf_fast.runs import FinishedRun
from golf_fast.submit import single_file, sources, strip
from golf_fast.submit.entry import configured, evaluate, require_in_range, train
from golf_fast.submit.folder import Author, write
from golf_fast.submit.record import Candidate
from golf_fast.submit.scopes import occurrences
from golf_fast.submit.single_file import build, packed, plain_sources, recipe

REFERENCES = "reference,qkv_attention=separate,rms_norm=plain,rans=numpy,trellis=numpy"
"""The backends that the runs had (conftest.py), and for what gives the same bits those that a built file has."""
BARE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        outside = name.partition(".")[0] == "golf_fast" and not any("train_gpt-" in place for place in path or sys.path)
        if outside or name.partition(".")[0] in {refused}:
            raise ModuleNotFoundError(name)
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
REFUSED = {"tyro", "rich", "matplotlib", "safetensors", "msgspec", "brotli", "python_minifier", "pytest"}
SMALL = "def main(file):\n    print(file)\n" * 9
NEEDED = ("torch", "triton", "sentencepiece", "numpy", "zstandard")


def bare(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script with nothing but what the built file may need, and the standard library."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GOLF_FAST_BACKENDS")}
    program = BARE.replace("{refused}", repr(REFUSED))
    return subprocess.run(
        [sys.executable, "-c", program, script.name, *arguments],
        cwd=script.parent,
        env=kept | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(candidates: list[Candidate], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(candidates, tmp_path_factory.mktemp("record"), "x", "2026-04-27", Author("A", "a"), record=False)


def place_of_data(run: Path) -> dict[str, str]:
    (built,) = (run.parent / "built").iterdir()
    return {"DATA_PATH": str(built), "TOKENIZER_PATH": str(built / "tokenizer.model")}


def score(output: str) -> float:
    return float(re.findall(r"^final val_loss:\S+ val_bpb:(\S+)$", output, re.MULTILINE)[-1])


def test_end_to_end_does_so_under_the_replayed_schedule(folder: Path, runs: list[Path]) -> None:
    schedule = str(runs[0] / "schedule.json")
    named = {"RUN_ID": "again", "GOLF_FAST_BACKENDS": REFERENCES}
    done = bare(folder / "train_gpt.py", "--replay", schedule, **named, **place_of_data(runs[0]))
    assert done.returncode == 0, done.stderr
    assert score(done.stdout) == pytest.approx(FinishedRun(runs[0]).result().val_bpb, abs=1e-7)
    again = folder / "runs" / "again"
    assert (again / "artifact.golf").read_bytes() == (folder / "artifact.golf").read_bytes()
    assert (again / "token_losses").read_bytes() == (runs[0] / "token_losses").read_bytes()
    size = (folder / "train_gpt.py").stat().st_size
    assert f"{size:,} of code" in done.stdout


@pytest.fixture(scope="module")
def place(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sources") / "train_gpt-unpacked"
    assert bare(folder / "train_gpt.py", "--unpack", str(place)).returncode == 0
    return place


def called(folder: Path, place: Path) -> str:
    """What a script begins with that does what the built file does once it has unpacked itself, which takes seconds."""
    return f"""
import sys
sys.path.insert(0, {str(place)!r})
import golf_fast
def call():
    golf_fast.main({str(folder / "train_gpt.py")!r})
"""


def test_eval_only_reproduces_the_score(folder: Path, place: Path, runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(called(folder, place) + "call()\n")
    done = bare(tmp_path / "main.py", "--eval-only", **place_of_data(runs[0]))
    assert done.returncode == 0, done.stderr
    assert score(done.stdout) == pytest.approx(FinishedRun(runs[0]).result().val_bpb, abs=1e-7)


def test_a_kernel_of_it_runs_under_the_interpreter(place: Path, tmp_path: Path) -> None:
    """Triton reads the sources of its kernels: they are those that were unpacked."""
    script = tmp_path / "kernel.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(place)!r})\n"
        "import torch, golf_fast\n"
        "x, up, down = (torch.randn(*shape, generator=torch.Generator().manual_seed(k)).half()\n"
        "    for k, shape in enumerate([(32, 64), (128, 64), (64, 128)]))\n"
        "found = torch.ops.golf_fast.relu2_mlp_forward(x, up, down, None, 0.0)[0]\n"  # it has no other implementation
        "wanted = (x.float() @ up.float().T).relu().square() @ down.float().T\n"
        "print(float((found.float() - wanted).abs().max() / wanted.abs().max()))\n"
        f"assert golf_fast.__file__.startswith({str(place)!r})\n"
    )
    done = bare(script, TRITON_INTERPRET="1", GOLF_FAST_BACKENDS="relu2_mlp=triton")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 5e-3


WRONG = (
    ({"DATA_PATH": "/nowhere"}, "/nowhere: DATA_PATH must be a folder of"),
    ({"EVAL_BATCH_SEQS": "0"}, "environment EVAL_BATCH_SEQS is 0: it must be from 1 to"),
    ({"SEED": "x"}, "environment SEED is 'x': it must be a whole number"),
    ({"NUM_LAYERS": "4", "TTT_LR": "0.1"}, "environment NUM_LAYERS, TTT_LR is set, but the recipe is fixed"),
    ({"VOCAB_SIZE": "1024"}, "VOCAB_SIZE is 1024: this file was built for 320"),
)


def test_wrong_input_is_said_in_a_line(folder: Path, place: Path, tmp_path: Path) -> None:
    """One program is called with each: importing torch takes longer than all of them."""
    (tmp_path / "main.py").write_text(
        called(folder, place) + "import os\n"
        f"for values in {[values for values, _ in WRONG]}:\n"
        "    os.environ.update(values)\n"
        "    try:\n"
        "        call()\n"
        "    except SystemExit as stop:\n"
        "        print('exit code', stop.code, file=sys.stderr)\n"
        "    for name in values:\n"
        "        del os.environ[name]\n"
        "def unpack(folder):\n"
        "    print('unpacked to', repr(folder), file=sys.stderr)\n"
        "sys.argv[1:] = ['--unpack=']\n"
        "call()\n"
    )
    done = bare(tmp_path / "main.py", "--eval-only")
    assert done.returncode == 0, done.stderr
    *lines, last = done.stderr.splitlines()
    assert last == "unpacked to ''", "an empty name, which is refused there, is not taken for none"
    assert lines[1::2] == ["exit code 2"] * len(WRONG)
    assert all(said in line for line, (_, said) in zip(lines[::2], WRONG, strict=True)), lines


def test_values_of_the_environment_are_refused_as_the_configuration_would_which_a_built_file_does_not_ask() -> None:
    config = RECIPES["tiny"]()
    table = {variable.name: variable for variable in environment.VARIABLES}
    for name in sorted(strip.VARIABLES - {"VOCAB_SIZE", "SEED", "DATA_PATH", "TOKENIZER_PATH", "TTT_ENABLED"}):
        for text in ("..", "a/b", "a") if name == "RUN_ID" else ("-1", "0", "1", "3"):
            values = table[name].settings(text, config)
            wanted = refused(lambda values=values: changed(config, values))
            assert refused(lambda values=values, name=name: require_in_range(name, *values.popitem())) == wanted, name
    assert refused(lambda: require_in_range("SEED", "seed", 10**23))
    assert refused(lambda: require_in_range("MAX_WALLCLOCK_SECONDS", "train.max_seconds", 1e30))


def refused(made: Callable[[], object]) -> bool:
    try:
        made()
    except InputError:
        return True
    return False


@pytest.mark.parametrize(
    ("part", "needed"),
    [("data.shards", "DATA_PATH must be"), ("data.tokenizer", "TOKENIZER_PATH must be"), ("", "of a run")],
)
def test_what_is_not_there_is_named_with_what_is_needed(
    runs: list[Path], tmp_path: Path, part: str, needed: str
) -> None:
    (tmp_path / "empty.json").write_text('{"steps": 3}')
    place = place_of_data(runs[0])
    data = {"data.shards": Path(place["DATA_PATH"]), "data.tokenizer": Path(place["TOKENIZER_PATH"])}
    config = changed(FinishedRun(runs[0]).config, data | ({part: tmp_path / "nowhere"} if part else {}))
    with pytest.raises(InputError, match=needed):
        train(config, Path(__file__), None if part else tmp_path / "empty.json")
    with pytest.raises(InputError, match=needed):
        evaluate(config, tmp_path / "nowhere")
    if not part:
        with pytest.raises(InputError, match="must be new, or empty"):
            train(replace(config, runs_dir=runs[0].parent, run_id=runs[0].name), Path(__file__), None)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_it_is_the_same_each_time_and_needs_little(name: str) -> None:
    """Every import of the sources is one of the few packages, or one that is only tried; every name is bound."""
    config = RECIPES[name]()
    assert recipe(replace(config, seed=3)) == recipe(config)
    (text,) = plain_sources(config).values()
    tree = ast.parse(text)
    nodes = [*ast.walk(tree)]
    assert {each.name for each in occurrences(tree) if not each.scope.owner(each.name)} <= {*dir(builtins)}
    assert recipe(config) in (ast.literal_eval(node) for node in nodes if isinstance(node, ast.Dict) and literal(node))
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) <= {*NEEDED}


@pytest.mark.parametrize(("name", "limit"), [("seed", 50_500), ("top_1855", 55_500)])
def test_the_size_is_held(name: str, limit: int) -> None:
    """One in the middle and the largest, whose sources were made above: packing takes seconds."""
    assert code(RECIPES[name]()).size < limit


def literal(node: ast.AST) -> bool:
    """Whether it is made of nothing but constants."""
    inner = (ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.UnaryOp, ast.USub, ast.Load)
    return all(isinstance(each, inner) for each in ast.walk(node))


def test_only_what_a_recipe_uses_is_in_it() -> None:
    tiny, seed = (sources.collect(RECIPES[name]()) for name in ("tiny", "seed"))
    assert "golf_fast.score.ttt.documents" in tiny
    assert "golf_fast.score.ttt.documents" not in seed
    assert "golf_fast.score.ttt.chunked" in seed
    assert "golf_fast.compress.integers.gptq" not in seed
    assert not any(name in path for path in tiny for name in ("audit", "report", "doctor", "native", "cases"))


def test_documents_that_are_scored_apart_need_no_adapters() -> None:
    config = RECIPES["seed"]()
    model, score = replace(config.model, separate_documents=True), replace(config.score, ttt="off")
    modules = sources.collect(replace(config, model=model, score=score))
    assert "golf_fast.score.ttt.documents" in modules
    assert "golf_fast.model.adapters" not in modules


def test_what_is_named_in_the_tables_is_there() -> None:
    for name in (*sources.LEFT_OUT, *strip.CHECKED_BEFORE, *strip.CONFIGURATIONS):
        assert sources.source_of(f"golf_fast.{name}"), name


def test_a_name_of_the_environment_is_read_or_refused() -> None:
    config = replace(RECIPES["tiny"](), data=replace(RunConfig().data, source="shards"))
    (text,) = plain_sources(config).values()
    fixed = (re.findall("'(num_layers [a-z0-9_ ]*)'", text))[0].upper().split()
    assert {*fixed, *strip.VARIABLES} == {variable.name for variable in environment.VARIABLES}
    assert not strip.VARIABLES & set(fixed)
    for name in fixed:
        with pytest.raises(InputError, match=f"environment {name} is set"):
            configured(recipe(config), {name: "1"}, fixed)
    given = {"VOCAB_SIZE": "2048", "SEED": "7", "MAX_WALLCLOCK_SECONDS": "60", "OTHER": "x"}
    asked = configured(recipe(config), given, fixed)
    assert asked == replace(config, seed=7, train=replace(config.train, max_seconds=60.0))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A built file of a short source: unpacking takes seconds for a whole one."""
    monkeypatch.setattr(single_file, "plain_sources", lambda config: {"golf_fast.py": SMALL})
    return single_file._built("{}")


def test_the_header_unpacks_what_is_packed(small: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "built"}
    exec(compile(small, "train_gpt.py", "exec"), names)
    for _ in range(2):
        names["unpack"](str(tmp_path / "new" / "folder"))
        assert (tmp_path / "new" / "folder" / "golf_fast.py").read_text() == SMALL
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stop:
        names["unpack"](str(tmp_path / "file"))
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert packed(small) == {"golf_fast.py": SMALL}


def test_a_damaged_file_is_refused_and_another_is_none(small: bytes) -> None:
    assert packed(b"print()\n") is None
    place = small.index(b'PACKED = """') + 100
    for damaged in (small[:place] + b"abcdefgh" + small[place + 8 :], small[:place] + small[place + 1 :]):
        with pytest.raises(InputError, match=r"^train_gpt\.py: what is packed in it is damaged \(.+\)$"):
            packed(damaged)


def test_a_built_file_of_before_is_read() -> None:
    files = {"golf_fast/__init__.py": "a = 1\n", "golf_fast/b.py": "'\u2581'\n"}
    content = bz2.compress("\1".join(part for each in files.items() for part in each).encode())
    literal = "".join(f"\\x{byte:02x}" for byte in content).encode()
    head = b'def unpack(folder):\n    text = bz2.decompress(PACKED.encode("latin-1")).decode()\nPACKED = """'
    assert packed(head + literal + b'"""\nif __name__ == "__main__":\n') == files


def test_it_is_kept_and_a_damaged_copy_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    single_file._build.cache_clear()
    monkeypatch.setattr(single_file, "_built", str.encode)
    config = RECIPES["base"]()
    content = build(config)
    (kept,) = (tmp_path / "golf_fast").iterdir()
    monkeypatch.setattr(single_file, "_built", lambda fields: b"built again")
    single_file._build.cache_clear()
    assert build(config) == content
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    single_file._build.cache_clear()
    assert build(config) == b"built again"
    single_file._build.cache_clear()


def test_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(single_file, "_MOST_KEPT", 2)
    monkeypatch.setattr(single_file, "_built", str.encode)
    single_file._build.cache_clear()
    contents = [build(RECIPES[name]()) for name in ("base", "tiny", "seed")]
    kept = {path.read_bytes()[32:] for path in (tmp_path / "golf_fast").iterdir()}
    assert kept == set(contents[1:])
    single_file._build.cache_clear()


@pytest.mark.parametrize("place", ["/dev/null/cache", "not/absolute"])
def test_what_cannot_be_kept_is_made_again(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    monkeypatch.setattr(single_file, "_built", str.encode)
    for _ in range(2):
        single_file._build.cache_clear()
        assert b"layers" in build(RECIPES["tiny"]())
    single_file._build.cache_clear()
    assert list(tmp_path.iterdir()) == []
