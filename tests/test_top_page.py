"""The page of the stack at the top names every mechanism, its code and flags that work."""

import re
from pathlib import Path

from golf_fast import command_line
from golf_fast.ablate.variants import mechanisms_of
from golf_fast.recipes import RECIPES

PAGE = Path(__file__).parents[1] / "docs" / "top.md"
ROWS = re.findall(r"^\| `(\w+)` \| \[[^]]*\]\(#(\w+)\) \| `(--[^`]*)` \|", PAGE.read_text(), re.MULTILINE)


def test_every_mechanism_has_a_row_and_a_formula() -> None:
    beyond = set(mechanisms_of("tiny_top")) - set(mechanisms_of("tiny"))
    assert {name for name, _, _ in ROWS} == beyond | {"smear", "q_gain"}  # tiny has another smear
    headings = re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert list(dict.fromkeys(place for _, place, _ in ROWS)) == headings


def test_the_flags_of_the_rows_switch_it_on() -> None:
    flags = [word for _, _, words in ROWS for word in words.split()]
    made = command_line.parse(["tiny", *flags], {}, prog="", default_recipe=lambda: ("", "")).config
    top, tiny = RECIPES["tiny_top"](), RECIPES["tiny"]()
    named = {field for field in command_line.differences(made, tiny) if not field.startswith("recipe")}
    others = {"recipe", "model.heads", "model.kv_heads", "model.backout"}
    of_training = {field for field in command_line.differences(top, tiny) if not field.startswith("compress.")}
    assert named - {"model.qk_gain_init"} == of_training - others
    assert all(command_line.differences(made, top).get(field) is None for field in named - {"model.qk_gain_init"})


def test_the_code_that_it_names_is_there() -> None:
    links = re.findall(r"\]\(\.\./(golf_fast/[^)]*)\)(?: `(\w+)`)?", PAGE.read_text())
    assert len(links) >= len(ROWS)
    for path, name in links:
        source = (PAGE.parents[1] / path).read_text()
        assert re.search(rf"\b{name}\b", source), (path, name)
