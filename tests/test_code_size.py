"""The size of the shipped code: which modules count, and that nothing but their sources decides it."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

import golf_fast.config
import golf_fast.errors
from golf_fast.code_size import code_bytes, code_hash, loaded_modules

PAIR = ["golf_fast.errors", "golf_fast.config"]


def test_it_is_what_zstandard_makes_of_names_and_sources() -> None:
    joined = b""
    for module in (golf_fast.config, golf_fast.errors):
        assert module.__file__ is not None
        source = Path(module.__file__).read_bytes()
        joined += f"{module.__name__} {len(source)}\n".encode() + source
    assert code_bytes(PAIR) == len(zstandard.ZstdCompressor(level=22).compress(joined))
    assert code_hash(PAIR) == hashlib.sha256(joined).hexdigest()


def test_neither_order_nor_repetition_counts() -> None:
    assert code_hash(PAIR) == code_hash([*reversed(PAIR), PAIR[0]])
    assert code_bytes(PAIR) == code_bytes(reversed(PAIR))


def test_other_modules_make_another_hash() -> None:
    assert len({code_hash(PAIR), code_hash(PAIR[:1]), code_hash([])}) == 3


def test_one_changed_byte_makes_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_hash(PAIR)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path).replace(b"seed: int = 42", b"seed: int = 43"))
    assert code_hash(PAIR) != before


@pytest.mark.parametrize("name", ["golf_fast.nothing", "sys", "golf_fast.errors.nothing"])
def test_what_has_no_python_source_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        code_bytes([name])


def test_the_default_is_what_the_program_loaded(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import golf_fast.recipes, json\n"
        "from golf_fast.code_size import code_bytes, loaded_modules\n"
        "names = loaded_modules()\n"
        "assert code_bytes() == code_bytes(names)\n"
        "print(*names)\n"
    )
    root = Path(golf_fast.config.__file__).parents[1]
    command = [sys.executable, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(root)})
    assert done.stdout.split() == [
        "golf_fast",
        "golf_fast.checks",
        "golf_fast.code_size",
        "golf_fast.compress_config",
        "golf_fast.config",
        "golf_fast.errors",
        "golf_fast.model_config",
        "golf_fast.recipes",
        "golf_fast.score_config",
        "golf_fast.train_config",
    ]


def test_a_module_started_as_a_program_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Main:
        __spec__ = golf_fast.errors.__spec__

    monkeypatch.delitem(sys.modules, "golf_fast.errors")
    assert "golf_fast.errors" not in loaded_modules()
    monkeypatch.setitem(sys.modules, "__main__", Main())  # type: ignore[arg-type]
    assert "golf_fast.errors" in loaded_modules()
