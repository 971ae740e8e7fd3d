"""One page about a run, whole in itself, from what the run left behind.

It reads the settings, the metrics (`golf_fast.report.run_log` describes the records), the result and the loss of each
token. What is missing is left out, so the page of a run that was cut short can be made too. Equal files give equal
pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from golf_fast.errors import InputError, printable
from golf_fast.files import replacing
from golf_fast.report import plots
from golf_fast.report.style import STYLE
from golf_fast.rules import SIZE_LIMIT_BYTES, VIOLATIONS
from golf_fast.runs import FinishedRun

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The page is whole in itself: its own styles apply, and nothing is run, loaded or sent, whatever a name in it says."""


def write_html(run_dir: Path) -> Path:
    """Write the page into `run_dir` and return its path.

    Raises:
        InputError: `run_dir` is no folder, cannot be written, or its settings or result are not JSON.
    """
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: is no folder; name the directory of a run")
    page = _page(run := FinishedRun(run_dir))
    with replacing(run.paths.report, "w") as file:
        file.write(page)
    return run.paths.report


def _drawn(plot: Callable[..., str], *arguments: Any) -> str:
    """A plot as SVG, or a sentence on why there is none: the page and the run are worth more than a picture."""
    try:
        return plot(*arguments)
    except plots.FAILURES as error:
        return f"<p>It could not be drawn ({escape(printable(f'{type(error).__name__}: {error}'))}).</p>"


def _page(run: FinishedRun) -> str:
    config, result = run.as_written(run.paths.config), run.as_written(run.paths.result)
    records, losses = run.records(), run.paths.token_losses
    name = str(result.get("run_id") or run.paths.folder.resolve().name)
    artifact = {name: size for name, size in _object(result.get("artifact_parts")).items() if isinstance(size, int)}
    if artifact and isinstance(result.get("code_bytes"), int):
        artifact["code"] = result["code_bytes"]
    figures = [
        ("Training, by time", _drawn(plots.training, records, "seconds")),
        ("Training, by step", _drawn(plots.training, records, "step")),
        ("Loss along the validation tokens", _drawn(plots.token_losses, losses) if losses.exists() else ""),
        ("What adapting gained along the stream", _drawn(plots.gain, records)),
        ("Bytes of the submission", _drawn(plots.parts, artifact)),
    ]
    sections = [
        _header(name, result, config),
        _tiles(result),
        _section("By the rules", _rules(result)),
        _section("Stages", _stages(records, result)),
        _section("Compression, step by step", _compression(records)),
        '<div class="plots">' + "".join(_figure(title, svg) for title, svg in figures if svg) + "</div>",
        _section("Quantized tensors", _tensors(records)),
        _section("Result", _fields(result)),
        _section("Configuration", _config(config)),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}</title>\n<style>\n{STYLE.strip()}\n</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _header(name: str, result: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    recipe = result.get("recipe") or _object(config.get("config")).get("recipe")
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


def _tiles(result: Mapping[str, Any]) -> str:
    def number(key: str, form: str) -> str:
        return _number(result.get(key), form) or "-"

    if not result:
        return ""
    total, room = result.get("total_bytes"), ""
    if total and isinstance(total, int):
        room = f"{abs(SIZE_LIMIT_BYTES - total):,} bytes {'left' if result.get('fits') else 'too many'}"
    tiles = [
        ("bits per byte", number("val_bpb", ".4f"), f"without adapting {number('bpb_without_ttt', '.4f')}", ""),
        ("bytes, code and model", number("total_bytes", ",d"), room, "good" if result.get("fits") else "bad"),
        (
            "by the rules",
            _verdict(result),
            f"track {result.get('track') or '-'}",
            "good" if result.get("legal") else "bad",
        ),
        ("training, seconds", number("train_seconds", ",.1f"), f"{number('steps', ',d')} steps", ""),
        ("evaluation, seconds", number("eval_seconds", ",.1f"), f"{number('val_tokens', ',d')} tokens", ""),
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
    return "not legal" if _texts(result.get("violations")) else "not judged"


def _rules(result: Mapping[str, Any]) -> str:
    """The rules that the run breaks, in their own words, and what could not be judged."""
    if not result:
        return ""
    broken = [VIOLATIONS[number] for number in _texts(result.get("violations")) if number in VIOLATIONS]
    rows = [(f"{each.number}: {each.name}", each.text) for each in broken]
    said = f"By its ledger this run is {_verdict(result)}, on track {_shown(result.get('track'))}"
    order = result.get("score_order")
    said += f"; documents were scored in the order of the {order}." if isinstance(order, str) and order else "."
    left = "".join(f"<li>{escape(text)}</li>" for text in _texts(result.get("not_judged")))
    return (
        f"<p>{escape(said)}</p>"
        + (_table(("breaks", "what it is"), rows) if rows else "")
        + (f"<p>What was not judged, or only under a condition:</p><ul>{left}</ul>" if left else "")
    )


def _texts(value: Any) -> list[str]:
    return list(map(str, value)) if isinstance(value, list) else []


def _stages(records: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> str:
    stages = [record for record in records if record.get("kind") == "stage"]
    rows = [
        (
            record.get("name"),
            _number(record.get("seconds"), ",.1f"),
            _number(record.get("bytes"), ",d"),
            _number(record.get("bpb"), ".4f"),
        )
        for record in stages
    ]
    rows += [
        (f"byte compressor: {name}", "", "", _number(bpb, ".4f"))
        for name, bpb in _object(result.get("baselines")).items()
    ]
    return _table(("stage", "seconds", "bytes", "bits per byte"), rows, numbers=(1, 2, 3)) if rows else ""


def _compression(records: Sequence[Mapping[str, Any]]) -> str:
    """What each step cost or saved, against the step before it."""
    steps = [record for record in records if record.get("kind") == "compression"]
    rows = []
    for before, step in zip([{}, *steps], steps, strict=False):
        change = [_difference(step, before, key) for key in ("bytes", "bpb")]
        size, bpb = _number(step.get("bytes"), ",d"), _number(step.get("bpb"), ".5f")
        rows.append((step.get("name"), size, _number(change[0], "+,d"), bpb, _number(change[1], "+.5f")))
    headers = ("step", "bytes", "change", "bits per byte, training tokens", "change")
    return _table(headers, rows, numbers=(1, 2, 3, 4)) if rows else ""


def _difference(after: Mapping[str, Any], before: Mapping[str, Any], key: str) -> Any:
    new, old = after.get(key), before.get(key)
    return new - old if isinstance(new, int | float) and isinstance(old, int | float) else None


def _tensors(records: Sequence[Mapping[str, Any]]) -> str:
    """What each quantized tensor takes and loses, the worst for the loss first."""
    tensors = [record for record in records if record.get("kind") == "tensor"]
    tensors.sort(key=lambda record: -_magnitude(record.get("bpb_change")))
    rows = [
        (
            record.get("name"),
            record.get("form"),
            _number(record.get("elements"), ",d"),
            _number(record.get("bits"), ".3f"),
            _number(record.get("error"), ".2%"),
            _number(record.get("output_error"), ".2%"),
            _number(record.get("bpb_change"), "+.5f"),
        )
        for record in tensors
    ]
    headers = ("tensor", "form", "elements", "bits each", "error", "error of outputs", "bits per byte lost")
    return _table(headers, rows, numbers=(2, 3, 4, 5, 6)) if rows else ""


def _fields(result: Mapping[str, Any]) -> str:
    return _table(("field", "value"), [(name, _shown(value)) for name, value in result.items()])


def _config(config: Mapping[str, Any]) -> str:
    values, origins = _object(config.get("config")), _object(config.get("origins"))
    rows = [(field, _shown(value), origins.get(field, "")) for field, value in _flat(values, "")]
    if not rows:
        return ""
    changed = [row for row in rows if row[2] not in ("", "recipe")]
    said = _table(("field", "value", "from"), changed) if changed else "<p>Everything is as the recipe has it.</p>"
    whole = _table(("field", "value", "from"), rows)
    return f"{said}<details><summary>all {len(rows)} fields</summary>{whole}</details>"


def _flat(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _number(value: Any, form: str) -> str:
    """A number in a format; nothing for what is none, as a version that is not known here may have left it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return format(value, form.replace("d", ".0f") if isinstance(value, float) else form)


def _magnitude(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.6g}"
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_entry(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return str(value)


def _entry(value: Any) -> str:
    if isinstance(value, dict) and {"name", "reason"} <= value.keys():
        return f"{value['name']} ({value['reason']})"
    return _shown(value)


def _table(headers: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[int] = ()) -> str:
    def cells(row: Sequence[Any], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if column in numbers else ''}>{escape(str(cell))}</{tag}>"
            for column, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{cells(headers, "th")}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _figure(title: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"
