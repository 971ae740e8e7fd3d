"""The size of the shipped code: it is that of one file, and nothing but the recipe and the sources decides it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from golf_fast.code_size import Code, code
from golf_fast.config import RunConfig
from golf_fast.from_plain import from_plain
from golf_fast.recipes import RECIPES
from golf_fast.submit import single_file
from golf_fast.submit.single_file import recipe

TINY = RECIPES["tiny"]()


def test_it_is_the_size_of_the_bytes() -> None:
    content = b"print()\n"
    assert (Code(content).size, Code(content).hash) == (8, hashlib.sha256(content).hexdigest())


def test_neither_the_seed_nor_the_place_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(single_file, "_built", str.encode)  # what it is made of: packing takes seconds
    single_file._build.cache_clear()
    elsewhere = replace(TINY, seed=7, run_id="x", runs_dir=Path("/elsewhere"), device="cpu")
    data = replace(TINY.data, shards=Path("/data"), tokenizer=Path("/data/t.model"), source="text", text=Path("/text"))
    replayed = replace(TINY.train, replay_schedule=Path("/runs/x"), checkpoint_seconds=5.0, checkpoint_every=7)
    assert code(replace(elsewhere, data=data, train=replayed)) == code(TINY) != code(replace(TINY, recipe="x"))
    single_file._build.cache_clear()


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_settings_that_were_read_back_have_the_same_code(name: str) -> None:
    config = RECIPES[name]()
    plain = json.loads(json.dumps(config.as_dict()))
    assert recipe(from_plain(RunConfig, plain, Path("config.json"))) == recipe(config)


@pytest.mark.parametrize("part", ["model", "train", "score"])
def test_what_belongs_to_the_recipe_counts(part: str) -> None:
    """Submissions have the recipe in them: that of each is looked for by the tests of the built file."""
    changes = {"model": {"dim": 384}, "train": {"matrix_lr": 0.5}, "score": {"ttt": "off"}}[part]
    changed = recipe(replace(TINY, **{part: replace(getattr(TINY, part), **changes)}))
    assert changed[part] == recipe(TINY).get(part, {}) | changes
