"""What a run reached and whether it counts, on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from golf_fast.errors import InputError, printable
from golf_fast.report.html import as_object, as_objects, number, shown, table, texts
from golf_fast.rules import SIZE_LIMIT_BYTES, VIOLATIONS
from golf_fast.runs import FinishedRun


def header(name: str, result: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The name of the run, what it is and where it ran, and a warning where it is not legal."""
    recipe = result.get("recipe") or as_object(config.get("config")).get("recipe")
    facts = [f"recipe {recipe}" if recipe else "", *(str(result.get(key) or "") for key in ("device", "compute_dtype"))]
    if result.get("world_size"):
        facts.append(f"{result['world_size']} rank" + ("s" if result["world_size"] != 1 else ""))
    if not result.get("finished"):
        facts.append("not finished")
    said = " · ".join(escape(fact) for fact in facts if fact)
    found = result.get("violations")
    violations = ", ".join(map(str, found)) if isinstance(found, list) else ""
    warning = f'<p class="warning">Not legal. This run breaks {escape(violations)}.</p>' if violations else ""
    return f"<header><h1>{escape(name)}</h1><p>{said}</p>{warning}</header>"


def tiles(result: Mapping[str, Any]) -> str:
    """The few numbers that matter most."""

    def held(key: str, form: str) -> str:
        return number(result.get(key), form) or "-"

    if not result:
        return ""
    total, room = result.get("total_bytes"), ""
    if total and isinstance(total, int):
        room = f"{abs(SIZE_LIMIT_BYTES - total):,} bytes {'left' if result.get('fits') else 'too many'}"
    tiles = [
        ("bits per byte", held("val_bpb", ".4f"), f"without adapting {held('bpb_without_ttt', '.4f')}", ""),
        ("bytes, code and model", held("total_bytes", ",d"), room, "good" if result.get("fits") else "bad"),
        (
            "by the rules",
            _verdict(result),
            f"track {result.get('track') or '-'}",
            "good" if result.get("legal") else "bad",
        ),
        ("training, seconds", held("train_seconds", ",.1f"), f"{held('steps', ',d')} steps", ""),
        ("evaluation, seconds", held("eval_seconds", ",.1f"), f"{held('val_tokens', ',d')} tokens", ""),
    ]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile {verdict}"><span>{escape(label)}</span><strong>{escape(value)}</strong>'
            f"<span>{escape(note)}</span></div>"
            for label, value, note, verdict in tiles
        )
        + "</div>"
    )


def _verdict(result: Mapping[str, Any]) -> str:
    """Legal, not legal, or not judged, as the result was judged by the ledger and the facts of the run."""
    if result.get("legal"):
        return "legal"
    return "not legal" if texts(result.get("violations")) else "not judged"


def rules(result: Mapping[str, Any]) -> str:
    """The rules that the run breaks, in their own words, and what could not be judged."""
    if not result:
        return ""
    broken = [VIOLATIONS[number] for number in texts(result.get("violations")) if number in VIOLATIONS]
    rows = [(f"{each.number}: {each.name}", each.text) for each in broken]
    said = f"By its ledger this run is {_verdict(result)}, on track {shown(result.get('track'))}"
    order = result.get("score_order")
    said += f"; documents were scored in the order of the {order}." if isinstance(order, str) and order else "."
    left = "".join(f"<li>{escape(text)}</li>" for text in texts(result.get("not_judged")))
    return (
        f"<p>{escape(said)}</p>"
        + (table(("breaks", "what it is"), rows) if rows else "")
        + (f"<p>What was not judged, or only under a condition:</p><ul>{left}</ul>" if left else "")
    )


def stages(records: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> str:
    """Time, bytes and score of each stage, and what byte compressors make of the same text."""
    stages = [record for record in records if record.get("kind") == "stage"]
    rows = [
        (
            record.get("name"),
            number(record.get("seconds"), ",.1f"),
            number(record.get("bytes"), ",d"),
            number(record.get("bpb"), ".4f"),
        )
        for record in stages
    ]
    rows += [
        (f"byte compressor: {name}", "", "", number(bpb, ".4f"))
        for name, bpb in as_object(result.get("baselines")).items()
    ]
    return table(("stage", "seconds", "bytes", "bits per byte"), rows, numbers=(1, 2, 3)) if rows else ""


def fields(result: Mapping[str, Any]) -> str:
    """Everything that the result holds."""
    rows = [(name, shown(value)) for name, value in result.items()]
    return table(("field", "value"), rows) if rows else ""


def audit(run: FinishedRun) -> str:
    """The verdict of an audit, check by check, where somebody left one in the directory; else how to get one."""
    path = run.paths.audit
    if not path.exists():
        command = f"python -m golf_fast.audit RUN_DIR --json > RUN_DIR/{path.name}"
        why = "No audit was left with this run, RUN_DIR; this makes one, and the next page shows it:"
        return f"<p>{why} <code>{escape(command)}</code></p>" if run.paths.result.exists() else ""
    try:
        held = run.as_written(path)
    except InputError as error:
        return f"<p>The audit cannot be shown: {escape(printable(error))}</p>"
    flagged = texts(held.get("flagged"))
    said = f"An audit flagged {', '.join(flagged)}." if flagged else "An audit computed it again and flagged nothing."
    rows = [
        (
            _rule_named(str(check.get("check"))),
            shown(check.get("outcome")),
            "\n".join(dict.fromkeys(map(_found, as_objects(check.get("findings"))))),
        )
        for check in as_objects(held.get("checks"))
    ]
    if not rows:
        return f"<p>{escape(said)}</p>"
    found = table(("check", "outcome", "what was found"), rows)
    return f"<p>{escape(said)}</p><details><summary>its {len(rows)} checks</summary>{found}</details>"


def _rule_named(check: str) -> str:
    return f"{check}: {VIOLATIONS[check].name}" if check in VIOLATIONS else check


def _found(finding: Mapping[str, Any]) -> str:
    where, text = finding.get("where"), shown(finding.get("text"))
    return f"{where}: {text}" if where else text
