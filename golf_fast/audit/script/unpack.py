"""A script out of its wrapping, without running any of it: `exec(lzma.decompress(b85decode("...")))` and its kin.

Only calls of known decoders on texts that stand in the file are followed, with caps on size and depth. What remains is
parsed, never compiled or executed.
"""

from __future__ import annotations

import ast
import base64
import binascii
import bz2
import codecs
import io
import lzma
import tokenize
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf_fast.audit.script import fstrings
from golf_fast.audit.script.tree import last_name
from golf_fast.errors import InputError, printable
from golf_fast.files import read_bytes

MOST_BYTES = 8_000_000
"""Bytes of a script, wrapped or not, above which it is refused."""
MOST_LAYERS = 5
_EXECUTES = ("exec", "eval", "compile")

try:
    import brotli
except ImportError:  # an extra
    brotli = None


@dataclass(frozen=True)
class Source:
    """A script as it can be read."""

    text: str
    tree: ast.Module
    code_bytes: int
    """Bytes of the files that ship as code: the script, and what it executes of the files beside it."""
    layers: tuple[str, ...]
    """How it was wrapped, from the outside in: `lzma, base85`, or the name of the file that it executes."""


def read(path: Path) -> Source:
    """Read a script and take it out of its wrapping.

    Raises:
        InputError: no file, no Python, or a wrapping that is too large or damaged.
    """
    text = _text(path)
    size, layers = len(text.encode()), []
    tree = _parse(path, text)
    if not any(isinstance(node, ast.Call | ast.FunctionDef | ast.Import | ast.ImportFrom) for node in ast.walk(tree)):
        raise InputError(f"{path}: calls, defines and imports nothing, so it trains nothing; name a Python script")
    for _ in range(MOST_LAYERS):
        found = _inner(path, tree)
        if found is None:
            break
        inner, name, beside = found
        size += len(inner.encode()) if beside else 0
        layers.append(name)
        text, tree = inner, _parse(path, inner)
    if len(layers) == MOST_LAYERS and _inner(path, tree) is not None:
        raise InputError(f"{path}: is wrapped more than {MOST_LAYERS} times; give the script that is inside")
    return Source(text, tree, size, tuple(layers))


def of_text(path: Path, text: str, code_bytes: int, layer: str) -> Source:
    """What the caller took out of a wrapping of its own.

    Args:
        path: names the script in errors.
        code_bytes: of what ships.
        layer: what the wrapping is called.

    Raises:
        InputError: it is no Python.
    """
    return Source(text, _parse(path, text), code_bytes, (layer,))


def _text(path: Path) -> str:
    content = read_bytes(path, "name a Python script", MOST_BYTES)
    try:
        return _source(path, content)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); name a Python script") from error


def _source(path: Path, content: bytes) -> str:
    """Bytes as Python reads them: by the encoding in the first two lines, in which other code may stand (UTF-7, say).

    Raises:
        UnicodeDecodeError: they are not UTF-8.
        InputError: they say that they are in another encoding.
    """
    try:
        encoding = codecs.lookup(tokenize.detect_encoding(io.BytesIO(content).readline)[0]).name
    except SyntaxError as error:
        content.decode("utf-8-sig")
        raise InputError(f"{path}: not Python ({printable(error.msg)}); name a Python script") from error
    if encoding not in ("utf-8", "utf-8-sig", "ascii"):
        raise InputError(f"{path}: says that its encoding is {encoding}; only a script in UTF-8 can be judged")
    return content.decode("utf-8-sig")


def _parse(path: Path, text: str) -> ast.Module:
    try:
        return _tree(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise InputError(f"{path}: not Python{line} ({reason}); name a Python script") from error


def _tree(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        try:
            return ast.parse(fstrings.plain(text))
        except SyntaxError:
            raise error from None


def _inner(path: Path, tree: ast.Module) -> tuple[str, str, bool] | None:
    """The text that a script executes, how it was wrapped, and whether it is another file."""
    constants = _constants(tree)
    statements = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    if len(statements) > 8 or any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in statements):
        return None  # a script with code of its own is read as it stands
    for call in [node for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Call)]:
        if not (isinstance(call.func, ast.Name) and call.func.id in _EXECUTES and call.args):
            continue
        beside = _file_beside(path, call.args[0])
        if beside is not None:
            return _text(beside), beside.name, True
        names: list[str] = []
        try:
            value = _value(call.args[0], constants, names)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if isinstance(value, bytes | str) and names:
            try:
                text = _source(path, value) if isinstance(value, bytes) else value
            except UnicodeDecodeError as error:
                raise InputError(f"{path}: its wrapping does not contain text ({error.reason})") from error
            return text, ", ".join(names), False
    return None


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What the names of the top level are assigned, where that is once."""
    found: dict[str, ast.expr] = {}
    twice = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in found:
                twice.add(name)
            found[name] = node.value
    return {name: value for name, value in found.items() if name not in twice}


def _file_beside(path: Path, node: ast.expr) -> Path | None:
    """The file in the script's folder that `open(...).read()` or `Path(...).read_text()` names."""
    if not any(
        (isinstance(child, ast.Name) and child.id == "open") or last_name(child) == "read_text"
        for child in ast.walk(node)
    ):
        return None
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str) and child.value.endswith(".py"):
            beside = path.parent / Path(child.value).name
            if beside.is_file() and beside.resolve() != path.resolve():
                return beside
    return None


def _value(node: ast.expr, constants: dict[str, ast.expr], names: list[str], depth: int = 0) -> Any:
    """The bytes or text of an expression made of decoders and texts; None where it is another one."""
    if depth > 20:
        return None
    match node:
        case ast.Constant(str() | bytes() as value):
            return value
        case ast.Name(name) if name in constants:
            rest = {key: value for key, value in constants.items() if key != name}
            return _value(constants[name], rest, names, depth + 1)
        case ast.BinOp(left, ast.Add(), right):
            first, second = (_value(side, constants, names, depth + 1) for side in (left, right))
            if type(first) is type(second) and isinstance(first, str | bytes) and len(first) + len(second) < MOST_BYTES:
                return first + second
            return None
        case ast.Call():
            return _decoded(node, constants, names, depth)
        case _:
            return None


def _decoded(node: ast.Call, constants: dict[str, ast.expr], names: list[str], depth: int) -> Any:
    name = last_name(node.func)
    if name in ("decode", "encode") and isinstance(node.func, ast.Attribute):
        value = _value(node.func.value, constants, names, depth + 1)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if name == "compile" and node.args:
        return _value(node.args[0], constants, names, depth + 1)
    decoder = _DECODERS.get(name)
    if decoder is None and name == "decompress":
        decoder = _decompressor
    if decoder is None or not node.args:
        return None
    inner: list[str] = []
    value = _value(node.args[0], constants, inner, depth + 1)
    if not isinstance(value, bytes | str):
        return None
    try:
        value = value.encode() if isinstance(value, str) else value
        result, kind = decoder(value, node)
    except (ValueError, binascii.Error, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise InputError(f"its wrapping cannot be decoded by {name} ({error})") from error
    names.extend([kind, *inner])
    return result


def _decompressor(data: bytes, node: ast.Call) -> tuple[bytes, str]:
    """Decompress what one of the usual compressors wrote, whichever its data look like, up to `MOST_BYTES`."""
    raw = any(keyword.arg == "filters" for keyword in node.keywords)
    if raw:
        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])
        return _limited(decoder.decompress(data, MOST_BYTES + 1)), "lzma"
    if data[:6] == b"\xfd7zXZ\x00" or data[:3] == b"\x5d\x00\x00":
        return _limited(lzma.LZMADecompressor().decompress(data, MOST_BYTES + 1)), "lzma"
    if data[:3] == b"BZh":
        return _limited(bz2.BZ2Decompressor().decompress(data, MOST_BYTES + 1)), "bz2"
    if data[:2] == b"\x1f\x8b":
        return _limited(zlib.decompressobj(31).decompress(data, MOST_BYTES + 1)), "gzip"
    if data[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(data)
        return _limited(reader.read(MOST_BYTES + 1)), "zstd"
    try:
        return _limited(zlib.decompressobj().decompress(data, MOST_BYTES + 1)), "zlib"
    except zlib.error as error:
        if brotli is None:
            raise ValueError(f"{error}; if it is brotli's, install the package brotli") from error
    return _brotli(data), "brotli"


def _brotli(data: bytes) -> bytes:
    decoder, found = brotli.Decompressor(), b""
    for start in range(0, len(data), 1024):  # in pieces, so that a bomb is noticed
        try:
            found += decoder.process(data[start : start + 1024])
        except brotli.error as error:
            raise ValueError(error) from error
        _limited(found)
    if not decoder.is_finished():
        raise ValueError("its end is missing")
    return found


def _limited(data: bytes) -> bytes:
    if len(data) > MOST_BYTES:
        raise InputError(f"its wrapping contains more than {MOST_BYTES:,} bytes, the most that can be judged")
    return data


_Decoder = Callable[[bytes, ast.Call], tuple[bytes, str]]
_DECODERS: dict[str, _Decoder] = {
    "b85decode": lambda data, _: (base64.b85decode(data), "base85"),
    "a85decode": lambda data, _: (base64.a85decode(data), "ascii85"),
    "b64decode": lambda data, _: (base64.b64decode(data), "base64"),
    "urlsafe_b64decode": lambda data, _: (base64.urlsafe_b64decode(data), "base64"),
    "decodebytes": lambda data, _: (base64.decodebytes(data), "base64"),
    "unhexlify": lambda data, _: (binascii.unhexlify(data), "hex"),
    "fromhex": lambda data, _: (bytes.fromhex(data.decode("ascii", "replace")), "hex"),
}
