"""Who may import whom, read off the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import golf_fast

PACKAGE = Path(golf_fast.__file__).parent
STAGES = {
    "recipes",
    "ablate",
    "data",
    "ops",
    "model",
    "train",
    "compress",
    "score",
    "report",
    "runs",
    "sample",
    "pipeline",
    "audit",
    "submit",
    "doctor",
}
BASE = {
    "errors": set(),
    "rules": set(),
    "statistics": set(),
    "checks": {"errors"},
    "arguments": {"errors"},
    "console": {"errors"},
    "files": {"errors"},
    "json_files": {"errors", "files"},
    "from_plain": {"errors"},
    "compress_config": {"checks"},
    "score_config": {"checks"},
    "model_config": {"checks"},
    "train_config": {"checks", "score_config"},
    "config": {"checks", "compress_config", "model_config", "score_config", "train_config"},
}
"""Modules that every stage but `ops` may use, and what of ours they use themselves; none needs torch."""
SHARED = set(BASE)
ALLOWED = {
    "recipes": SHARED | {"command_line", "report"},
    "ops": {"_C"},
    "data": SHARED,
    "runs": SHARED,
    "report": SHARED | {"runs"},
    "model": SHARED | {"ops"},
    "train": SHARED | {"distributed", "resume_records", "data", "model", "ops", "runs"},
    "compress": SHARED | {"distributed", "ops"},
    "score": SHARED | {"distributed", "machine", "data", "model", "compress", "runs"},
    "sample": SHARED | {"model"},
    "audit": SHARED | {"code_size", "distributed", "data", "model", "compress", "score", "runs"},
    "submit": SHARED
    | {"audit", "code_size", "distributed", "environment", "machine"}
    | {"data", "model", "train", "compress", "score", "runs", "pipeline"},
    "ablate": SHARED | {"command_line", "report", "runs"},
    "doctor": SHARED
    | {"distributed", "watched_peers", "machine", "recipes", "data", "model", "ops", "compress", "report"},
    "pipeline": SHARED
    | {"distributed", "watched_peers", "resume_records", "machine", "command_line", "code_size"}
    | {"data", "model", "train", "compress", "score", "runs", "report"},
}
"""Folder of the package -> what of ours its modules import. A `__main__` joins stages, and may import any."""
WITHOUT_TORCH = ("runs", "report", "command_line", "recipes", "doctor", *BASE)


ROOMS = {
    "compress/integers": {"compress.stored"},
    "compress/artifact": {"compress.stored"},
    "compress/published": {"compress.stored", "compress.artifact"},
    "report/plots": {"report.pen"},
    "report/page": {"report.plots", "report.pen", "report.html"},
    "report/trackers": set(),
    "audit/script": set(),
    "audit/run": set(),
}
"""Folders within a stage -> the modules and folders of that stage that they may use beside their own."""


def imported(source: Path) -> set[str]:
    """First names below `golf_fast` that a module imports, wherever in the module it does."""
    return {module.split(".")[0] for module in modules_imported(source)}


def modules_imported(source: Path) -> set[str]:
    """What a module imports from `golf_fast`, wherever in the module it does: dotted names below the package."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "golf_fast":
            modules = [f"golf_fast.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} has a relative import, which this test does not follow"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        names |= {module.partition(".")[2] for module in modules if module.startswith("golf_fast.")}
    return names


@pytest.mark.parametrize("stage", sorted(ALLOWED))
def test_a_stage_imports_only_what_it_may(stage: str) -> None:
    sources = [path for path in (PACKAGE / stage).rglob("*.py") if path.name != "__main__.py"]
    assert sources
    for source in sources:
        beyond = imported(source) - ALLOWED[stage] - {stage}
        assert not beyond, f"{source.relative_to(PACKAGE)} imports {', '.join(sorted(beyond))}"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_what_it_may(room: str) -> None:
    stage = room.partition("/")[0]
    allowed = (room.replace("/", "."), *ROOMS[room])
    sources = list((PACKAGE / room).rglob("*.py"))
    assert sources
    for source in sources:
        within = {module for module in modules_imported(source) if module.startswith(f"{stage}.")}
        beyond = {module for module in within if not f"{module}.".startswith(tuple(f"{name}." for name in allowed))}
        assert not beyond, f"{source.relative_to(PACKAGE)} imports {', '.join(sorted(beyond))}"


READS_ITSELF = {"files.py", "doctor/probes.py", "doctor/surroundings.py", "data/corpus.py"}
"""Modules that read files by themselves: the others ask `golf_fast.files`, which waits for no pipe."""


def test_files_are_read_and_iterators_asked_in_ways_that_have_an_answer() -> None:
    for source in PACKAGE.rglob("*.py"):
        name = str(source.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "read_bytes"):
                assert name in READS_ITSELF or ast.unparse(node.func.value) == "files", f"{name}:{node.lineno}"
            if isinstance(node.func, ast.Name) and node.func.id == "next":
                assert len(node.args) == 2, f"{name}:{node.lineno}: next() without a default ends in StopIteration"


def test_every_folder_is_a_stage_with_a_rule() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == STAGES == set(ALLOWED)


def test_modules_without_a_stage_import_none() -> None:
    """But for the named runs, which are settings and nothing else."""
    joiners, stages = {"code_size.py"}, STAGES - {"recipes"}
    for source in PACKAGE.glob("*.py"):
        if source.name not in joiners:
            assert not imported(source) & stages, f"{source.name} imports {imported(source) & stages}"


@pytest.mark.parametrize("name", sorted(BASE))
def test_a_base_module_imports_only_what_it_may(name: str) -> None:
    assert imported(PACKAGE / f"{name}.py") <= BASE[name]


def test_what_needs_no_torch_loads_none() -> None:
    program = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"golf_fast.{name}")
    assert "torch" not in sys.modules, f"golf_fast.{name} loads torch"
"""
    subprocess.run([sys.executable, "-c", program, *WITHOUT_TORCH], check=True)


def test_the_ops_import_neither_triton_nor_the_compiler() -> None:
    """Both take seconds, and where kernels are interpreted triton must wait for a variable."""
    program = "import sys, golf_fast.ops; print(sorted({'triton', 'torch._dynamo'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_rule_sees_a_forbidden_import(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("def f():\n    from golf_fast.train import train\nfrom golf_fast import score\nimport torch\n")
    assert imported(source) == {"train", "score"}
    assert modules_imported(source) == {"train.train", "score"}


def test_files_and_functions_fit_on_a_few_screens() -> None:
    """Files of at most 400 lines, functions of 60, kernels of 120: more is a reason to look again."""
    for source in PACKAGE.rglob("*.py"):
        text = source.read_text()
        assert text.count("\n") <= 400, source
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                most = 120 if any("jit" in ast.unparse(each) for each in node.decorator_list) else 60
                assert node.end_lineno - node.lineno < most, f"{source}:{node.lineno}: {node.name}"


def test_files_of_tests_fit_on_a_few_screens_too() -> None:
    for source in Path(__file__).parent.rglob("*.py"):
        if "scripts" not in source.parts:  # those are as people publish them
            assert source.read_text().count("\n") <= 400, f"{source}: split it by what it tests"
