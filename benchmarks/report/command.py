"""Recorded measurements as Markdown and as a plot: `python -m benchmarks report [--results DIR] [--plot FILE]`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import results
from benchmarks.report.rows import (
    ALONE,
    KINDS,
    Row,
    is_positive,
    newest_against,
    newest_codecs,
    newest_quantizers,
    newest_runs,
    newest_scores,
    newest_steps,
    newest_updates,
    read,
)
from golf_fast.arguments import Parser, a_path
from golf_fast.errors import InputError


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m benchmarks report", description="Print the newest measurements as Markdown tables.")
    parser.add_argument(
        "--results", type=a_path, metavar="DIR", help="a folder of .jsonl files (default: the checkout's)"
    )
    parser.add_argument("--plot", type=a_path, metavar="FILE", help="also draw the ratios to the peers, as SVG")
    options = parser.parse_args(arguments)
    if options.plot is not None and options.plot.suffix != ".svg":
        raise InputError(f"--plot {options.plot}: it must end in .svg")
    if options.results is not None and not options.results.is_dir():
        raise InputError(f"--results {options.results}: it is no folder; name one with .jsonl files")
    folder = options.results or results.folder()
    rows = read(folder)
    if not rows:
        print(f"no results in {folder}: `python -m benchmarks` measures")
        return
    runs = newest_runs([row for row in rows if row["op"] not in KINDS])
    steps = newest_steps([row for row in rows if row["op"] == "step"])
    codecs = newest_codecs([row for row in rows if row["op"] == "codec"])
    quantizers = newest_quantizers([row for row in rows if row["op"] == "quantizers"])
    scores = newest_scores([row for row in rows if row["op"] == "score"])
    updates = newest_updates([row for row in rows if row["op"] == "update"])
    beside = newest_against([row for row in rows if row["op"] == "against"])
    print(as_markdown(runs, steps, codecs, quantizers, scores, updates, beside))
    if options.plot is not None:
        paired = [pairs for run in runs if (pairs := [row for row in run if row["peer"] != ALONE])]
        if not paired:
            raise InputError(f"--plot {options.plot}: no op was measured against a peer, so there is nothing to draw")
        # Imported here for matplotlib, which the tables do without.
        from benchmarks.report import plot

        plot.write(options.plot, paired)


def as_markdown(
    runs: list[list[Row]],
    steps: list[Row],
    codecs: list[Row],
    quantizers: Sequence[Row] = (),
    scores: Sequence[Row] = (),
    updates: Sequence[Row] = (),
    beside: Sequence[Row] = (),
) -> str:
    """A section for each device: ops, micro-steps, updates, steps beside others, coders for each set of weights,
    quantizers for each run, scoring."""
    others = [*steps, *codecs, *quantizers, *scores, *updates, *beside]
    devices = sorted({row["device"] for row in [*(run[0] for run in runs), *others]})
    sections = []
    for device in devices:
        sections.append(f"### {device}")
        if own := [run for run in runs if run[0]["device"] == device]:
            sections.append(_op_table(own))
        sections += [_step_section(row) for row in steps if row["device"] == device]
        if own_updates := [row for row in updates if row["device"] == device]:
            sections.append(_update_section(own_updates))
        if own_beside := [row for row in beside if row["device"] == device]:
            sections.append(_against_section(own_beside))
        for weights in sorted({row["weights"] for row in codecs if row["device"] == device}):
            sections.append(
                _codec_section([row for row in codecs if row["device"] == device and row["weights"] == weights])
            )
        for run_id in sorted({row["run"] for row in quantizers if row["device"] == device}):
            own_rows = [row for row in quantizers if row["device"] == device and row["run"] == run_id]
            sections.append(_quantizer_section(own_rows))
        if own_scores := [row for row in scores if row["device"] == device]:
            sections.append(_score_section(own_scores))
    return "\n\n".join(sections)


def _score_section(rows: list[Row]) -> str:
    cells = [
        [
            row["sees"],
            f"{row['context']:g} by {row['stride']:g}",
            row["way"],
            f"{took['median']:.1f} ({took['p20']:.1f} to {took['p80']:.1f})",
            f"{row['speedup']:.2f}",
        ]
        for row in rows
        for took in [row["us_per_token"]]
    ]
    headers = ["a position sees", "windows", "scored", "microseconds a token", "times the published loop"]
    return "Scoring\n\n" + _table(headers, cells)


def _update_section(rows: list[Row]) -> str:
    cells = [
        [
            row["recipe"],
            f"{row['ranks']:g}",
            row["way"],
            f"{took['median']:.2f} ({took['p20']:.2f} to {took['p80']:.2f})",
            f"{row['speedup']:.2f}",
            f"{row['launches']:g}",
            f"{row['momentum_bytes']:,}",
        ]
        for row in rows
        for took in [row["milliseconds"]]
    ]
    headers = ["recipe", "ranks", "update", "ms", "times the plain", "launches", "momentum bytes a rank"]
    return "Updates of a step\n\n" + _table(headers, cells)


def _against_section(rows: list[Row]) -> str:
    cells = [
        [
            row["recipe"],
            f"{row['threads']:g}",
            row["other"],
            f"{row['cpu_ms']:.1f} / {row['cpu_ms_other']:.1f}",
            f"{row['cpu_ratio']:.3f}",
            f"{row['wall_ratio']:.3f}",
            f"{row['loss_difference']:.5f}",
        ]
        for row in rows
    ]
    headers = ["recipe", "threads", "beside", "CPU ms / theirs", "ratio", "ratio by the wall clock", "losses differ by"]
    return "A training step on a CPU\n\n" + _table(headers, cells)


def _table(headers: list[str], rows: list[list[str]]) -> str:
    """Markdown; a bar in a cell would end it."""
    cells = [headers, ["---"] * len(headers), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _op_table(runs: list[list[Row]]) -> str:
    rows = []
    for run in runs:
        # Each peer was timed in pairs with ours; the steadiest of these times stands for ours.
        first = max(run, key=lambda row: row.get("rounds", 0))
        peers = "; ".join(
            f"{row['peer']} {row['ratio']:.2f} x ({row['ratio_p20']:.2f} to {row['ratio_p80']:.2f})"
            for row in run
            if row["peer"] != ALONE
        )
        rows.append([first["op"], first["case"], first["implementation"], _span(first["ours"]), _rate(first), peers])
    headers = ["op", "case", "ours", "ms (p20 to p80)", "rate", "peer's time / ours (p20 to p80)"]
    return f"{_table(headers, rows)}\n\n{_conditions([run[0] for run in runs])}"


def _span(found: dict[str, float]) -> str:
    return f"{found['median']:.4g} ({found['p20']:.4g} to {found['p80']:.4g})"


def _rate(row: Row) -> str:
    """The product's rate where there is one on a GPU, else the traffic's."""
    if row.get("teraflops") and "percent_of_gemm" in row:
        return f"{row['teraflops']:.0f} TFLOP/s, {row['percent_of_gemm']:.0f} % of a GEMM"
    if not row.get("gigabytes_per_second"):
        return ""
    share = f", {row['percent_of_copy']:.0f} % of a copy" if "percent_of_copy" in row else ""
    return f"{row['gigabytes_per_second']:.3g} GB/s{share}"


def _conditions(rows: list[Row]) -> str:
    """When, with what and beside how much other work the rows were measured, once for all that share it."""
    said = []
    for row in sorted(rows, key=lambda row: row["time"]):
        versions = row.get("versions") or {}
        packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        busy = f", load {row['load']:g} on {row['cores']} cores" if row.get("load") and row.get("cores") else ""
        clocks = f", clocks {row['clocks']}" if row.get("clocks") else ""
        said.append(f"{row['time'][:10]}, commit {row.get('commit') or 'unknown'}, {packages}{busy}{clocks}")
    return f"Measured: {'; '.join(dict.fromkeys(said))}."


def _step_section(row: Row) -> str:
    rows = []
    for part in row["parts"]:
        ahead, back = part["forward"], part["backward"]
        rows.append([part.get("name", ""), *_against(ahead), *_against(back)])
    rows += [[f"update: {part.get('name', '')}", *_against(part), "", "", ""] for part in row["optimizer"]]
    whole = [
        cell
        for way, floor in zip(("forward", "backward"), row["floors"], strict=True)
        for cell in _against({"ms": row[way], "floor": floor})
    ]
    rows.append(["measured as a whole", *whole])
    headers = ["part", "forward ms", "floor", "x", "backward ms", "floor", "x"]
    lines = [
        f"One micro-step of `{row['recipe']}`, {row['tokens']:,} tokens, {row['dtype']}: "
        f"{_span(row['micro_step'])} ms.",
        _table(headers, rows),
        *_projection(row),
        *_upstream(row),
        _conditions([row]),
    ]
    return "\n\n".join(lines)


def _projection(row: Row) -> list[str]:
    if "projected_step" not in row:
        return []
    return [
        f"Projected step of {row['projected_devices']} such devices: {row['projected_step']:.4g} ms (a projection)."
    ]


def _against(part: Row) -> list[str]:
    return [f"{part['ms']['median']:.4g}", f"{part['floor']:.3g}", f"{part['ms']['median'] / part['floor']:.2f}"]


def _upstream(row: Row) -> list[str]:
    found = row.get("upstream")
    if not isinstance(found, dict) or not is_positive(found.get("ratio")):
        return []
    return [
        f"The model of {found['file']} on the same tokens in the same run: {_span(found['theirs'])} ms, "
        f"{found['ratio']:.2f} x ours ({found['ratio_p20']:.2f} to {found['ratio_p80']:.2f})."
    ]


def _quantizer_section(rows: list[Row]) -> str:
    cells = [[row["way"], f"{row['bytes']:,}", f"{row['bpb'] - row['bpb_before']:+.5f}"] for row in rows]
    said = f"Ways of quantizing run `{rows[0]['run']}`, {rows[0]['bpb_before']:.4f} bits per byte before"
    return f"{said}:\n\n{_table(['quantized', 'bytes', 'bits per byte lost'], cells)}\n\n{_conditions(rows)}"


def _codec_section(rows: list[Row]) -> str:
    def speed(value: object) -> str:
        return f"{value:.3g}" if is_positive(value) else ""

    cells = [
        [
            f"int{row['bits']}",
            row["coder"],
            f"{row['bits_per_weight']:.4f}",
            f"{row['of_zstd']:.4f}",
            speed(row.get("encode_mb_s")),
            speed(row.get("decode_mb_s")),
        ]
        for row in rows
    ]
    headers = ["values", "coder", "bits a weight", "of zstd-22", "encode MB/s", "decode MB/s"]
    return f"Coders on the matrices of `{rows[0]['weights']}`:\n\n{_table(headers, cells)}\n\n{_conditions(rows)}"
