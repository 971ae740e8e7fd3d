"""What tests of runs that were cut short hand each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[..., int | str | None]
Whole = tuple[Path, Path, dict[str, Any]]


def result(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "result.json").read_text()))
