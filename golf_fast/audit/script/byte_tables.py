"""Violations in how a script counts bytes: the table of bytes by token, and the sum that uses it."""

from __future__ import annotations

import ast
import re

from golf_fast.audit.script.patterns import Found
from golf_fast.audit.script.tree import Definition, calls, definitions, last_name, nodes

_PIECE = frozenset(("id_to_piece", "IdToPiece", "id_to_token", "convert_ids_to_tokens", "decode_single_token_bytes"))
_NAMED_FOR_SPACES = [rf"\w*{name}\w*" for name in ("leading_space", "has_space", "space_lut", "is_space")]
_NAMED_FOR_SPACES.append(r"\w*starts_with_space\w*")
_BYTE_TOKEN = re.compile(r"is_byte|IsByte|<0x|0x%02X|byte_fallback|byte_tokens?\b")


def _tables(tree: ast.AST) -> list[Definition | ast.Module]:
    """The functions that go through a tokenizer's pieces and measure them."""
    found: list[Definition | ast.Module] = [
        node for node in definitions(tree) if calls(node, *_PIECE) and calls(node, "encode", "len")
    ]
    if not found and isinstance(tree, ast.Module) and calls(tree, *_PIECE):
        found = [tree]
    return found


def space_counted_twice(tree: ast.Module) -> Found:
    """V6: the bytes of a piece with its space in them, and the space added to the sum as well."""
    tables = _tables(tree)
    if not tables:
        return "V6", "unknown", [], "no table of bytes by token was found"
    spaces = {name for table in tables for name in _spaces(table)}
    named = "|".join([*_NAMED_FOR_SPACES, *map(re.escape, sorted(spaces))])
    adds = re.compile(rf"\b({named})\[")
    adding = [
        node.lineno
        for node in nodes(tree)
        if isinstance(node, ast.AugAssign) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add))
        if adds.search(ast.unparse(node.value if isinstance(node, ast.AugAssign) else node))
    ]
    for table in tables:
        kept = _measures_with_space(table, spaces)
        if kept and adding:
            return (
                "V6",
                "flag",
                sorted({*kept, adding[0]}),
                "the table's bytes include the space that the sum adds again",
            )
        if kept and not adding:
            continue
    return "V6", "pass", [tables[0].body[0].lineno], "the space is in the table or added to the sum, once"


def _spaces(table: ast.AST) -> set[str]:
    """Names of the tables of which pieces begin with a space."""
    found = set()
    for node in nodes(table):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            owner, value = node.targets[0].value, node.value
        elif isinstance(node, ast.Call) and last_name(node) == "append" and node.args:
            owner, value = node.func, node.args[0]
            owner = owner.value if isinstance(owner, ast.Attribute) else owner
        else:
            continue
        begins = [call for call in calls(value, "startswith") if "\u2581" in ast.unparse(call)]
        if begins and isinstance(owner, ast.Name) and not calls(value, "encode", "len"):
            found.add(owner.id)
    return found


def _measures_with_space(table: ast.AST, names: set[str]) -> list[int]:
    """Lines that measure a piece from which the mark of the space was not taken."""
    text = ast.unparse(table)
    stripped = re.search(
        r"\[1:\]|lstrip\(|removeprefix\(|replace\(['\"]\\?u?2?5?8?1?▁?['\"], ?['\"]['\"]\)|strip\(", text
    )
    if stripped:
        return []
    spaces = [n for n in nodes(table) if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Subscript)]
    if not names and not any("space" in ast.unparse(assignment.targets[0]) for assignment in spaces):
        return []  # nothing to add: its table of spaces stays empty
    lines = []
    for call in calls(table, "len"):
        if any(last_name(child) == "encode" for child in nodes(call) if isinstance(child, ast.Call)):
            lines.append(call.lineno)
    return lines


def byte_tokens(tree: ast.Module) -> Found:
    """V7: a token for one byte counts as the text of its name."""
    tables = _tables(tree)
    if not tables:
        return "V7", "unknown", [], "no table of bytes by token was found"
    for table in tables:
        tests = [
            node
            for node in nodes(table)
            if isinstance(node, ast.If | ast.IfExp) and _BYTE_TOKEN.search(ast.unparse(node.test))
        ]
        lines = [node.lineno for node in tests]
        if not tests:
            if _BYTE_TOKEN.search(ast.unparse(table)):
                return (
                    "V7",
                    "unknown",
                    [table.body[0].lineno],
                    "byte tokens are handled, in a way that is not understood",
                )
            called = calls(table, *_PIECE)[0].lineno
            return "V7", "flag", [called], "byte-fallback tokens are measured by the text of their name, as <0x0A>"
        for test in tests:
            wrong = _wrong_length(test)
            if wrong is not None:
                return "V7", "flag", [wrong], "a byte-fallback token is given another length than 1"
        return "V7", "pass", lines, "a byte-fallback token counts as 1 byte"
    raise AssertionError


def _wrong_length(test: ast.If | ast.IfExp) -> int | None:
    negated = isinstance(test.test, ast.UnaryOp) and isinstance(test.test.op, ast.Not)
    if isinstance(test, ast.IfExp):
        value = test.orelse if negated else test.body
        return value.lineno if isinstance(value, ast.Constant) and value.value not in (1, True) else None
    for node in ast.walk(ast.Module(test.orelse if negated else test.body, [])):
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)):
            continue
        length = node.value.value if isinstance(node.value, ast.Constant) else None
        if isinstance(length, int) and not isinstance(length, bool) and length != 1:
            return node.lineno
    return None
