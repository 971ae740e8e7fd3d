"""An artifact that learned the validation text elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.audited_run import judged

from golf_fast.data import read_shard
from golf_fast.model import GPT


@pytest.mark.parametrize("variant", [False, True])
def test_an_artifact_that_knows_the_validation_text_is_found(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: bool
) -> None:
    """A model that learned it elsewhere: its losses there are lower than where it is said to have learned."""
    honest = GPT.token_losses
    (name,) = json.loads((run / "result.json").read_text())["validation_shards"]
    tokens = read_shard(Path(name))
    rows = {tokens[start : start + 32].tobytes() for start in range(0, 480, 32)}

    def lower(model: GPT, tokens: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        known = [row.numpy().astype(np.uint16).tobytes() in rows for row in tokens]
        return honest(model, tokens, *rest, **more) * (1 - 0.5 * torch.tensor(known, dtype=torch.float32)[:, None])

    monkeypatch.setattr(GPT, "token_losses", lower)
    data = None
    if variant:
        data = tmp_path / "fineweb10B_sp1024"
        shutil.copytree(Path(name).parent, data)
    found = judged(run, data, targets=480).of("V1")
    said = [finding for finding in found if "the artifact knows it" in finding.said]
    assert [finding.outcome for finding in said] == ["flag" if variant else "unknown"]
