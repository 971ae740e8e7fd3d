"""What this machine has, what a run will use of it, and why; or whether it is as fast as it should be."""

import argparse
import json
import math
import sys
import time
from pathlib import Path

from golf_fast.arguments import Parser, existing_folder
from golf_fast.console import exit_with, say
from golf_fast.doctor.probes import examine
from golf_fast.report import table

_BEGAN = time.monotonic()


def main() -> None:
    """Print what was requested; exit with code 1 if --preflight finds the machine slow, busy or broken."""
    # argparse: it works where the packages that this program looks for are broken.
    parser = Parser(
        "python -m golf_fast.doctor",
        description="Print what this machine has, what a run will use of it, and why. With --preflight, measure it for "
        "a minute: products, memory, exchanges, disk, a step of a small model. No setting is changed.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--preflight", action="store_true", help="measure; under torchrun over its ranks")
    parser.add_argument("--seconds", type=_seconds, default=60.0, help="at most about that long (default %(default)s)")
    parser.add_argument(
        "--folder",
        type=existing_folder,
        default=Path(),
        help="where the disk is measured, by a file that is removed",
    )
    asked = parser.parse_args()
    if not asked.preflight:
        findings = examine()
        say(
            json.dumps([each._asdict() for each in findings], indent=1)
            if asked.json
            else table(["what", "found", "why"], findings)
        )
        return
    from golf_fast.doctor.preflight import preflight

    report = preflight(asked.seconds, asked.folder, _BEGAN)
    if report is None:
        return
    say(json.dumps(report.as_dict(), indent=1) if asked.json else "\n".join(report.lines()))
    if not report.sound:
        sys.exit(1)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:40]!a}: it must be a number of seconds, more than 0")
    return value


if __name__ == "__main__":
    exit_with(main)
