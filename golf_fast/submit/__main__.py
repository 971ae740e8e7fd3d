"""Builds the folder of a record from runs, checks such a folder, and tests differences between seeds.

    python -m golf_fast.submit RUN_DIR [RUN_DIR ...] --name 10L_int5 --out records/track_10min_16mb
    python -m golf_fast.submit check FOLDER
    python -m golf_fast.submit stats RUN_DIR|VALUE ... --against RUN_DIR|VALUE ...

Exit code 1 if `check` flags something, 2 after wrong input or where something speaks against a record.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from golf_fast import machine
from golf_fast.arguments import Parser, a_path, count, existing_folder
from golf_fast.console import exit_with, say

_COMMANDS = ("build", "check", "stats")


def main() -> None:
    """Run the command that the arguments name; without one it is `build`."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in (*_COMMANDS, "-h", "--help"):
        arguments = ["build", *arguments]
    parsed = _parser().parse_args(arguments)
    parsed.run(parsed)


def _build(arguments: argparse.Namespace) -> None:
    from golf_fast.audit.run.replay import Sample
    from golf_fast.model.backends import resolve_backends
    from golf_fast.submit.folder import Author, new_folder_path, write
    from golf_fast.submit.record import examine, require_different

    date = arguments.date or time.strftime("%Y-%m-%d")
    new_folder_path(arguments.out, arguments.name, date)  # fails early, before the runs are examined
    require_different(arguments.runs)
    device, _ = machine.choose_device(arguments.device)
    resolve_backends(device)
    sample = Sample(targets=arguments.targets)
    candidates = [examine(run, sample, device, arguments.data) for run in arguments.runs]
    author = Author(arguments.author, arguments.github_id, arguments.blurb)
    folder = write(candidates, arguments.out, arguments.name, date, author, record=not arguments.non_record)
    say("\n".join([str(folder), *(f"  {path.name:20}{path.stat().st_size:>12,}" for path in sorted(folder.iterdir()))]))


def _check(arguments: argparse.Namespace) -> None:
    from golf_fast.submit import check

    findings = check.check(arguments.folder)
    if arguments.json:
        print(json.dumps(check.as_json(arguments.folder, findings), indent=1))
    else:
        say("\n".join(check.lines(arguments.folder, findings)))
    if any(finding.outcome == "flag" for finding in findings):
        sys.exit(1)


def _stats(arguments: argparse.Namespace) -> None:
    from golf_fast.submit import stats

    theirs = stats.read(arguments.against) if arguments.against else None
    found = stats.report(stats.read(arguments.ours), theirs, arguments.bytes_per_token)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        say("\n".join(stats.lines(found)))


def _parser() -> Parser:
    parser = Parser(
        prog="python -m golf_fast.submit",
        description=(__doc__ or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    build = commands.add_parser("build", help="write the folder of a record (what is run without a command)")
    build.add_argument("runs", nargs="+", type=a_path, metavar="RUN_DIR", help="runs of one recipe, a seed each")
    build.add_argument("--name", required=True, help="of the record: letters, digits, '.', '_' and '-'")
    build.add_argument("--out", required=True, type=a_path, metavar="FOLDER", help="where the folder goes")
    build.add_argument("--author", default="unnamed", help="your name")
    build.add_argument("--github-id", default="unnamed", help="your name on GitHub")
    build.add_argument("--blurb", default="", help="a description (default: the techniques)")
    build.add_argument("--date", type=_date, metavar="YYYY-MM-DD", help="default: today")
    build.add_argument(
        "--non-record", action="store_true", help="write it whatever speaks against a record, and say in it what does"
    )
    build.add_argument(
        "--data", type=existing_folder, metavar="FOLDER", help="the validation shards, if not where they were"
    )
    build.add_argument(
        "--targets", type=count, default=4096, metavar="N", help="targets that are scored again (default %(default)s)"
    )
    build.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    build.set_defaults(run=_build)
    check = commands.add_parser("check", help="compare a record folder with what it says of itself")
    check.add_argument("folder", type=a_path)
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_check)
    stats = commands.add_parser("stats", help="mean, deviation and tests of scores")
    stats.add_argument("ours", nargs="+", metavar="RUN_DIR|VALUE", help="runs, or bits per byte")
    stats.add_argument("--against", nargs="+", default=[], metavar="RUN_DIR|VALUE", help="what they are compared with")
    stats.add_argument("--bytes-per-token", type=_rate, metavar="X", help="for nats, where no run says it")
    stats.add_argument("--json", action="store_true", help="print one JSON object")
    stats.set_defaults(run=_stats)
    return parser


def _date(text: str) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.strptime(text, "%Y-%m-%d"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!a}: it must be a date as 2026-04-27") from None


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1000:
        raise argparse.ArgumentTypeError(f"{text[:40]!a}: it must be a number of bytes, more than 0")
    return value


if __name__ == "__main__":
    exit_with(main)
