"""A verdict on the rules of the challenge: on a published script, which is not executed for it, or on a run directory.

Of a run directory everything is computed again that can be, and a sample of its targets is scored again by its
artifact; nothing in it is written. A check passes, is flagged with what and where, or stays unknown with the reason.

Exit code 1 if something is flagged, 0 if not, 2 after wrong input.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from golf_fast import machine
from golf_fast.arguments import Parser, a_path, count, existing_folder
from golf_fast.audit.run.judge import Audit, audit
from golf_fast.audit.run.replay import TARGETS, Sample
from golf_fast.audit.script import unpack
from golf_fast.audit.script.judge import ScriptVerdict, judge
from golf_fast.audit.script.smoke import smoke
from golf_fast.console import exit_with, say
from golf_fast.errors import InputError
from golf_fast.files import read_bytes
from golf_fast.model.backends import resolve_backends
from golf_fast.runs import RunPaths
from golf_fast.submit.check import built_source

_OF_SCRIPTS = ("smoke", "env")
_OF_RUNS = ("full", "targets", "seed", "data", "device")
"""Options that only judge the one or the other."""


def main() -> None:
    """Judge what the command line names."""
    parser = _parser()
    arguments = parser.parse_args()
    _require_of_its_kind(arguments, parser)
    verdict = _run(arguments) if arguments.path.is_dir() else _script(arguments)
    if arguments.json:
        print(json.dumps(verdict.as_json(), indent=1))
    else:
        say("\n".join(verdict.lines()))
    if verdict.flagged:
        sys.exit(1)


def _require_of_its_kind(arguments: argparse.Namespace, parser: Parser) -> None:
    """Refuse what is said of a run where a script is named, and what is said of a script where a run is."""
    is_run = arguments.path.is_dir()
    for name in _OF_SCRIPTS if is_run else _OF_RUNS:
        if getattr(arguments, name) != parser.get_default(name):
            other, this = ("script", "the folder of a run") if is_run else ("run", "a script")
            raise InputError(f"--{name}: is for a {other}, and {arguments.path} is {this}; leave it out")


def _script(arguments: argparse.Namespace) -> ScriptVerdict:
    source = _source(arguments.path)
    return judge(arguments.path, smoke(source.text) if arguments.smoke else None, dict(arguments.env), source)


def _source(path: Path) -> unpack.Source:
    return built_source(path, read_bytes(path, "name a Python script", unpack.MOST_BYTES)) or unpack.read(path)


def _broken_by_code(path: Path) -> list[str]:
    """What the judge of scripts flags in the file of code that a run left."""
    try:
        findings = judge(path, source=_source(path)).findings
    except InputError as error:
        return [str(error)]
    return [f"breaks {each.rule}: {each.text}" for each in findings if each.outcome == "flag"]


def _run(arguments: argparse.Namespace) -> Audit:
    result = RunPaths(arguments.path).result
    if not result.is_file():
        raise InputError(
            f"{arguments.path}: a folder without {result.name}; name a script, or the folder of a run that ended"
        )
    device, _ = machine.choose_device(arguments.device)
    resolve_backends(device)
    seed = {} if arguments.seed is None else {"seed": arguments.seed}
    sample = Sample(arguments.full, arguments.targets, **seed)
    return audit(arguments.path, sample, device, arguments.data, read_code=_broken_by_code)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m golf_fast.audit",
        description=(__doc__ or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=a_path, help="a script (.py), plain or wrapped; or the folder of a run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    script = parser.add_argument_group("of a script")
    script.add_argument(
        "--smoke", action="store_true", help="import it in a box too: no network, little time and memory"
    )
    script.add_argument(
        "--env",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="an environment name that the script's run had set, as its README says",
    )
    run = parser.add_argument_group("of a run")
    run.add_argument("--full", action="store_true", help="score every target again, instead of a sample")
    run.add_argument(
        "--targets",
        type=count,
        default=TARGETS,
        metavar="N",
        help="targets of the sample, about (default %(default)s): spread over the split where a place can be scored by "
        "itself, else the first",
    )
    run.add_argument("--seed", type=_seed, help="seed of the sample's places (default: drawn anew, and said)")
    run.add_argument(
        "--data",
        type=existing_folder,
        metavar="FOLDER",
        help="the run's validation shards, if they are not where they were",
    )
    run.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to score (default: a GPU if there is one)",
    )
    return parser


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return name, value


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise argparse.ArgumentTypeError(f"{text[:40]!a}: a whole number from 0 to {10**19 - 1} is needed")
    return int(text)


if __name__ == "__main__":
    exit_with(main)
