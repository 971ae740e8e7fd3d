"""What the README tells a newcomer to run is what continuous integration runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from golf_fast.recipes import RECIPES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else ""
COMMANDS = [
    "pip install -r requirements.txt -e . && python -m golf_fast.train",
    'pip install -r requirements.txt -e ".[test]" && pytest -n 2',
]


def test_the_two_commands_are_what_continuous_integration_takes_from_it() -> None:
    found = subprocess.run(
        [sys.executable, ROOT / ".ci" / "readme_commands.py", ROOT / "README.md"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines() == COMMANDS
    for command in COMMANDS:
        assert README.count(command) == 1
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_commands.py README.md" in script
    assert 'bash -euo pipefail -c "${commands[0]}"' in script
    assert 'bash -euo pipefail -c "${commands[1]}"' in script


def test_every_recipe_is_in_the_table() -> None:
    assert re.findall(r"^\| `(\w+)` \| [\d,]+ parameters", README, re.MULTILINE) == list(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_table_has_the_size_of_the_model(recipe: str) -> None:
    import torch

    from golf_fast.model import GPT

    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in GPT(RECIPES[recipe]().model).parameters())
    assert f"| `{recipe}` | {count:,} parameters" in README


def test_files_and_folders_of_the_tree_exist() -> None:
    tree = README[README.index("## The house") :]
    names = re.findall(r"^  (\w+(?:\.py|/))", tree, re.MULTILINE)
    assert len(names) > 10
    for name in names:
        assert (ROOT / "golf_fast" / name).exists(), name
    for name in re.findall(r"^(\w+/)", tree, re.MULTILINE):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_every_file_and_folder_of_the_package_is_in_the_tree(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    stages = {
        f"{stage}_config.py" for stage in ("model", "train", "compress", "score")
    }  # named together with config.py
    for path in (ROOT / "golf_fast").iterdir():
        name = path.name + "/" * path.is_dir()
        if not name.startswith(("_", ".")) and name.endswith((".py", "/")) and name not in stages:
            assert re.search(rf"(?<![\w/]){re.escape(name)}", text), f"{page} does not say what {name} is"
