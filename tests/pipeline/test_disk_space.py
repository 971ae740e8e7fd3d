"""Room on the disk is looked at before the run."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from golf_fast.errors import InputError
from golf_fast.pipeline.disk_space import needed, require_room
from golf_fast.recipes import RECIPES


def test_a_full_disk_is_said_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RECIPES["seed"]()
    wanted = sum(needed(config, 62_021_632).values())
    assert wanted == 25_517_138 * 5 + 62_021_632 * 8 + needed(config, 0)["the rest"], (
        "losses before adapting, and after"
    )
    fixed = dataclasses.replace(config, score=dataclasses.replace(config.score, ttt="off"))
    assert needed(fixed, 62_021_632)["the losses of the tokens"] == 62_021_632 * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=wanted))
    require_room(tmp_path, config, 62_021_632)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=wanted - 1))
    with pytest.raises(InputError, match=rf"has {wanted - 1:,} bytes left, .* needs about {wanted:,} \(the checkpoint"):
        require_room(tmp_path, config, 62_021_632)
    monkeypatch.undo()
    with pytest.raises(InputError, match="its disk cannot be asked"):
        require_room(tmp_path / "nowhere", config, 1)
