"""What is said of a recipe follows from its configuration."""

import shlex
from dataclasses import replace

import pytest

from golf_fast import command_line
from golf_fast.command_line import differences
from golf_fast.config import ModelConfig
from golf_fast.model import parameters
from golf_fast.recipes import BUILT_ON, RECIPES
from golf_fast.recipes.described import count_parameters, describe
from golf_fast.recipes.measured import settings_hash
from golf_fast.recipes.published import PUBLISHED


@pytest.mark.parametrize("name", ["tiny", "seed_windowed", "top_1855", "tiny_top"])
def test_the_flags_make_a_recipe_of_what_it_builds_on(name: str) -> None:
    described = describe(name, [])
    words = shlex.split(described.command_of_parent)
    assert words[:4] == ["python", "-m", "golf_fast.train", BUILT_ON[name]]
    made = command_line.parse(words[3:], {}, prog="", default_recipe=lambda: ("", "")).config
    assert replace(made, recipe=name) == RECIPES[name]()
    assert sum(map(len, described.by_stage.values())) == len(described.changes) > 0


def test_every_recipe_but_the_first_builds_on_another() -> None:
    assert set(RECIPES) - set(BUILT_ON) == {"seed"}
    for name in RECIPES:
        seen = [name]
        while seen[-1] in BUILT_ON:
            seen.append(BUILT_ON[seen[-1]])
            assert len(seen) <= len(RECIPES), f"{name} builds on itself"
    assert set(PUBLISHED) < set(RECIPES)


def test_parameters_are_counted_as_the_model_counts_them() -> None:
    for name in ("tiny", "seed", "top"):
        assert count_parameters(RECIPES[name]().model) == parameters.count(RECIPES[name]().model)


def test_what_is_to_be_fetched_is_named_where_the_challenge_s_data_are_meant() -> None:
    variants = {name: describe(name, []).variant for name in RECIPES}
    assert {name for name, variant in variants.items() if not variant} == {"tiny", "tiny_top"}
    assert (variants["best"], variants["top"]) == ("sp1024", "sp8192_caseops")


def test_the_hash_of_settings_is_of_what_a_run_computes() -> None:
    tiny = RECIPES["tiny"]()
    placed = replace(tiny, seed=7, run_id="x", train=replace(tiny.train, checkpoint_every=3))
    assert settings_hash(placed) == settings_hash(tiny)
    assert settings_hash(replace(tiny, model=replace(tiny.model, dim=204))) != settings_hash(tiny)
    assert settings_hash(replace(tiny, recipe="other")) == settings_hash(tiny)
    assert differences(replace(tiny, model=ModelConfig()), tiny)["model.dim"] == (512, 192)
