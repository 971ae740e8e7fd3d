"""Violations that show in the text of a script: byte tables, caches, limits, what is measured, the network."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Literal

from golf_fast.audit.script import names
from golf_fast.audit.script.tree import Definition, calls, definitions, last_name, nodes
from golf_fast.rules import TRAIN_LIMIT_SECONDS

Found = tuple[str, Literal["pass", "flag", "unknown"], list[int], str]

_SHELL = re.compile(r"\b(curl|wget|pip3? install|huggingface-cli|git clone|rsync|scp|aws s3|gsutil)\b")


def wrapped_around(tree: ast.Module) -> set[str]:
    """Slices `x[:n]` written to a part of a buffer, where `x[n:]` is written to another: nothing is left out."""
    written = {
        ast.unparse(node.value)
        for node in nodes(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
    }
    begins = {text for text in written if re.fullmatch(r"[\w.]+\[:[^:]+\]", text)}
    return {text for text in begins if f"{text.replace('[:', '[').removesuffix(']')}:]" in written}


def calibration_clock(tree: ast.Module) -> Found:
    """V9: a script shows whether there is a calibration on training data, and a log when it ended."""
    lines = [
        node.lineno
        for node in definitions(tree)
        if names.is_calibration(node.name) and re.search(r"train|loader|calib", ast.unparse(node.args) + node.name)
    ]
    if lines:
        return "V9", "unknown", lines, "calibrates; whether that ends inside of the training time shows in a log"
    return "V9", "pass", [], "no calibration was found"


def measured_file(tree: ast.Module) -> Found:
    """V10: a script shows what it measures, and the shipped files whether that is right."""
    lines = [call.lineno for call in calls(tree, "getsize") if call.args] + [
        node.lineno for node in nodes(tree) if isinstance(node, ast.Attribute) and node.attr == "st_size"
    ]
    wrapper = [node.lineno for node in nodes(tree) if isinstance(node, ast.Name) and "wrapper_size" in node.id.lower()]
    if wrapper:
        return "V10", "unknown", wrapper[:1], "the size of the code is a number in the script and not that of a file"
    text = "compare what is reported with the files that ship" if lines else "no size of a file is taken"
    return "V10", "unknown", lines, text


def time_limit(tree: ast.Module) -> Found:
    """V11: the default limit of the training time."""
    for node in nodes(tree):
        if not (isinstance(node, ast.Call) and len(node.args) >= 2 and isinstance(node.args[0], ast.Constant)):
            continue
        if node.args[0].value not in ("MAX_WALLCLOCK_SECONDS", "MAX_WALLCLOCK", "TIME_LIMIT", "MAX_TRAIN_SECONDS"):
            continue
        try:
            seconds = float(ast.literal_eval(node.args[1]))
        except (ValueError, TypeError, SyntaxError):
            continue
        if seconds > TRAIN_LIMIT_SECONDS:
            return (
                "V11",
                "flag",
                [node.lineno],
                f"trains for {seconds:g} s by default; {TRAIN_LIMIT_SECONDS:g} s are allowed",
            )
        return "V11", "unknown", [node.lineno], f"is told to stop at {seconds:g} s; when it stopped shows in a log"
    return "V11", "unknown", [], "no limit of the training time was found"


def network_uses(tree: ast.Module) -> list[tuple[int, str]]:
    """Lines that import a network module or start a program that downloads."""
    found: list[tuple[int, str]] = []
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, f"import {a.name}") for a in node.names if _reaches_out(a.name)]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and _reaches_out(node.module or ""):
            found.append((node.lineno, f"from {node.module} import ..."))
        elif isinstance(node, ast.Call) and last_name(node) in (
            "run",
            "system",
            "Popen",
            "check_call",
            "check_output",
            "call",
        ):
            match = _SHELL.search(ast.unparse(node).replace("', '", " "))
            if match:
                found.append((node.lineno, match.group(1)))
        elif isinstance(node, ast.Call) and last_name(node) in (
            "urlopen",
            "urlretrieve",
            "hf_hub_download",
            "snapshot_download",
            "load_state_dict_from_url",
            "download_url_to_file",
        ):
            found.append((node.lineno, last_name(node)))
    return sorted(found)


def ends_early(tree: ast.Module, scored: Iterable[int]) -> list[int]:
    """Lines at which a loop that scores is left after a number of turns that stands there."""
    lines, found = set(scored), []
    for loop in nodes(tree):
        if not (
            isinstance(loop, ast.For | ast.While) and any(loop.lineno <= at <= (loop.end_lineno or 0) for at in lines)
        ):
            continue
        for node in loop.body:
            match node:
                case ast.If(test, [*_, ast.Break()]) if _counts_up_to(test):
                    found.append(node.lineno)
    return sorted(found)


def _counts_up_to(test: ast.expr) -> bool:
    """Whether a condition is that a name has come up to a number, as `step >= 100`."""
    match test:
        case ast.Compare(ast.Name(), [ast.Gt() | ast.GtE() | ast.Eq()], [ast.Constant(int() as number)]):
            return number > 0
        case _:
            return False


def _reaches_out(module: str) -> bool:
    return module.partition(".")[0] in names.NETWORK and module not in ("urllib.parse", "http.HTTPStatus")


def documents_leak(tree: ast.Module, environment: Mapping[str, str]) -> Found:
    """V13: a mix with the position before, without a mask at the begin of a document, under document attention."""
    separate = re.compile(r"cu_seqlens|varlen|doc_mask|document_mask|document_ids?\b|doc_ids?\b")
    text = ast.unparse(tree)
    if not separate.search(text):
        return "V13", "pass", [], "no separate documents are declared: one stream is cut into windows"
    leaks: list[int] = []
    masked: list[int] = []
    off: list[tuple[int, str]] = []
    settings = _settings_that_are_off(tree, environment)
    for node in definitions(tree):
        inner = any(child is not node for child in definitions(node))
        a_document_each = "ttt" in node.name or any(argument.arg == "lora" for argument in node.args.args)
        if inner or a_document_each or names.is_calibration(node.name):
            continue
        for line, near, conditions in _shifts(node):
            gates = [settings[name] for name in sorted(conditions & settings.keys())]
            if _MASKED.search(near):
                masked.append(line)
            elif gates:
                off.append((line, gates[0]))
            else:
                leaks.append(line)
    if leaks:
        return "V13", "flag", leaks, "a position is mixed with the one before it, across the begin of a document"
    if off:
        lines = [line for line, _ in off]
        return "V13", "unknown", lines, f"mixes across the begin of a document if {off[0][1]} says so; by default not"
    if masked:
        return "V13", "pass", masked, "the mix with the position before is masked at the begin of a document"
    return "V13", "pass", [], "no mix with the position before was found"


_MASKED = re.compile(r"bos|doc_start|document|same_doc|is_start|boundar|segment|not_first", re.IGNORECASE)
_NEAR = 6
"""Lines around a shift in which its mask is looked for."""


def _settings_that_are_off(tree: ast.AST, environment: Mapping[str, str]) -> dict[str, str]:
    """Names of settings that an environment name turns on, and that name."""
    found = {}
    for node in nodes(tree):
        if not (isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        for call in calls(node.value, "get", "getenv"):
            if len(call.args) == 2 and all(isinstance(argument, ast.Constant) for argument in call.args):
                name, default = (ast.literal_eval(argument) for argument in call.args)
                if environment.get(str(name), str(default)).lower() in ("0", "false", "", "0.0"):
                    found[last_name(target)] = str(name)
    return found


def _shifts(node: Definition) -> list[tuple[int, str, set[str]]]:
    """Lines that shift a hidden state by one position, the text around them, and names in the conditions above them."""
    found: list[tuple[int, str, set[str]]] = []
    lines = {n.lineno: n for n in nodes(node) if isinstance(n, ast.stmt) and not isinstance(n, ast.If | ast.For)}
    for statement in lines.values():
        if not isinstance(statement, ast.Assign | ast.Return | ast.AugAssign) or statement.value is None:
            continue
        text = ast.unparse(statement.value)
        shifted = re.search(r"\b(cat|pad|roll)\(", text) and re.search(
            r"\[:, :-1(, ?:)?\]|\[:, ?:-1|\(0, 0, 1, (0|-1)\)", text
        )
        if not (shifted and re.search(r"\b(x|h|hidden|xn|residual|stream)\b", text)):
            continue
        around = [other for line, other in lines.items() if abs(line - statement.lineno) <= _NEAR]
        near = "\n".join(ast.unparse(other) for other in around if not isinstance(other, Definition | ast.With))
        conditions: set[str] = set()
        for other in nodes(node):
            if isinstance(other, ast.If) and statement in nodes(other):
                conditions |= {last_name(child) for child in nodes(other.test)}
        found.append((statement.lineno, near, conditions))
    return found
