"""`python -m golf_fast.audit train_gpt.py`: a verdict on a published script, which is not executed for it.

Exit code 1 if a rule is broken, 0 if none was seen to be, 2 after wrong input.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from golf_fast.audit.script import unpack
from golf_fast.audit.script.judge import judge
from golf_fast.audit.script.smoke import smoke
from golf_fast.console import exit_with, say
from golf_fast.errors import InputError
from golf_fast.runs import RunPaths


def main() -> None:
    """Judge what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m golf_fast.audit", description=(__doc__ or "").strip())
    parser.add_argument("path", type=Path, help="a script (.py), plain or wrapped")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--smoke", action="store_true", help="import it in a box too: no network, little time and memory"
    )
    arguments = parser.parse_args()
    path: Path = arguments.path
    if path.is_dir():
        result = RunPaths(path).result
        if not result.is_file():
            raise InputError(f"{path}: a folder without {result.name}; name a script, or the folder of a run")
        raise InputError(f"{path}: the audit of a run is not there yet; name a script (.py)")
    imported = smoke(unpack.read(path).text) if arguments.smoke else None
    verdict = judge(path, imported)
    if arguments.json:
        print(json.dumps(verdict.as_json(), indent=1))
    else:
        say("\n".join(verdict.lines()))
    if verdict.flagged:
        sys.exit(1)


if __name__ == "__main__":
    exit_with(main)
