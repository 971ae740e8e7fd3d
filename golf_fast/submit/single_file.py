"""Builds a single file that trains, compresses and scores according to a recipe without this package."""

from __future__ import annotations

import ast
import bz2
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from golf_fast import environment, json_files, machine
from golf_fast.config import RunConfig
from golf_fast.errors import InputError
from golf_fast.files import read_bytes, replacing
from golf_fast.from_plain import from_plain
from golf_fast.submit import mixing, sources
from golf_fast.submit.constants import inlined
from golf_fast.submit.entry import replaced
from golf_fast.submit.fold import folded
from golf_fast.submit.merge import merged
from golf_fast.submit.minify import minified, minified_alone
from golf_fast.submit.pack import pack
from golf_fast.submit.rename import names_of_others, renamed
from golf_fast.submit.strip import VARIABLES
from golf_fast.train_config import CHECKPOINTS

NAME = "train_gpt.py"
ENCODING = "latin-1"
"""Encoding of the built file, with one character for each packed byte."""
_HEADER = '''# -*- coding: latin-1 -*-
"""{recipe}: trains a language model, compresses it and scores it in bits per byte; --eval-only scores artifact.golf.
Needs torch, triton, sentencepiece, numpy, zstandard. Reads DATA_PATH (shards), TOKENIZER_PATH, SEED, RUN_ID, ... from
the environment; the recipe is fixed. --unpack FOLDER writes the sources that are packed below."""
import atexit, os, shutil, sys, tempfile
{decoder}
def unpack(folder):
    try:
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "golf_fast.py"), "wb") as file:
            file.write(unpacked(PACKED.encode("latin-1")))
    except OSError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(2)
PACKED = """{packed}"""
if __name__ == "__main__":
    if sys.argv[1:2] == ["--unpack"] and len(sys.argv) == 3:
        sys.exit(unpack(sys.argv[2]))
    folder = tempfile.mkdtemp(prefix="train_gpt-")
    atexit.register(shutil.rmtree, folder, True)
    unpack(folder)
    sys.path.insert(0, folder)
    from golf_fast import main
    main(__file__)
'''
_MODULE = f"{sources.PACKAGE}.py"
_PACKED, _UNPACKS = b'PACKED = """', b"def unpack(folder):"
_MOST_HEAD_LINES = 60
_BEFORE, _MOST_BEFORE = b"bz2.decompress(PACKED", 8 << 20
"""Marker in built files of earlier versions, and the greatest size in bytes of their text."""
_MOST_KEPT = 32
"""Number of built files in the cache, about 2 MB."""
_HERE = ("run_id", "runs_dir", "seed", "device", "track", "profile")
"""Fields that say where and how often a recipe is run and not what it computes."""


def build(config: RunConfig) -> bytes:
    """The built file; equal for runs that differ only in the seed, the location of their data and their names."""
    return _build(json.dumps(recipe(config), sort_keys=True))


def recipe(config: RunConfig) -> dict[str, Any]:
    """The fields of a configuration that belong to the recipe and differ from the defaults; data come in shards."""
    config = from_plain(RunConfig, config.as_dict(), Path("the recipe"))  # turns 48 in a float field into 48.0
    default = RunConfig()
    train = dataclasses.replace(
        config.train, **{name: getattr(default.train, name) for name in ("replay_schedule", *CHECKPOINTS)}
    )
    own = dataclasses.replace(
        config,
        train=train,
        data=dataclasses.replace(default.data, source="shards"),
        **{name: getattr(default, name) for name in _HERE},
    )
    return _other(own.as_dict(), default.as_dict())


def _other(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        if isinstance(value, dict):
            if inner := _other(value, defaults[name]):
                found[name] = inner
        elif value != defaults[name]:
            found[name] = value
    return found


def plain_sources(config: RunConfig) -> dict[str, str]:
    """The sources that are packed into the built file, by path: a single module, from which Triton reads its
    kernels."""
    return {_MODULE: _source(json.dumps(recipe(config), sort_keys=True))}


@lru_cache(maxsize=8)
def _source(of_recipe: str) -> str:
    with json_files.without_collection():  # a third of the time
        return _made(of_recipe)


def _made(of_recipe: str) -> str:
    config = replaced(RunConfig(), json_files.parse(of_recipe, "the recipe"))
    tree = merged({name: module.tree for name, module in sources.collect(config).items()}, sources.ENTRY)
    fields = recipe(config)
    read = [each for each in environment.VARIABLES if each.name in VARIABLES]
    changing = {name.rpartition(".")[2] for each in read for name in (*each.fields, *each.also)}
    tree = sources.pruned(folded(inlined(tree, config, changing | names_of_others(tree))))
    fixed = [each.name.lower() for each in environment.VARIABLES if each.name not in VARIABLES]
    _fill(tree, {"RECIPE": fields, "FIXED": " ".join(fixed)})
    return minified(renamed(tree))


def _fill(tree: ast.Module, values: dict[str, Any]) -> None:
    """Set the values of variables of the entry module."""
    for statement in tree.body:
        name = ast.unparse(statement.targets[0]).rstrip("_") if isinstance(statement, ast.Assign) else ""
        if name in values and isinstance(statement, ast.Assign):
            statement.value = ast.parse(repr(values.pop(name)), mode="eval").body
    assert not values, values


@lru_cache(maxsize=8)
def _build(fields: str) -> bytes:
    """The built file, from a cache on disk if possible, since minifying takes seconds."""
    place = _place(fields)
    if place is None:
        return _built(fields)
    with contextlib.suppress(InputError):
        digest, content = (whole := read_bytes(place, "a built file"))[:32], whole[32:]
        if hashlib.sha256(content).digest() == digest:
            return content
    content = _built(fields)
    with contextlib.suppress(InputError), replacing(place) as file:
        file.write(hashlib.sha256(content).digest() + content)
    _forget(place.parent)
    return content


def _place(fields: str) -> Path | None:
    """The path of a built file in the cache, named by a hash of all that it depends on; None for a user without
    home."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(folder):
        return None
    versions = {**machine.versions(), "": sys.version, "python-minifier": importlib.metadata.version("python-minifier")}
    digest = hashlib.sha256(f"{versions} {fields}".encode())
    for path in sorted(sources.ROOT.rglob("*.py")):
        digest.update(f"\0{path.relative_to(sources.ROOT)}\0".encode() + read_bytes(path, "a source is needed"))
    return Path(folder) / "golf_fast" / digest.hexdigest()


def _forget(folder: Path) -> None:
    """Remove all but the newest files of the cache; another process may remove files at the same time."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir(), key=lambda each: -each.stat().st_mtime)[_MOST_KEPT:]:
            path.unlink()


def _built(fields: str) -> bytes:
    config = replaced(RunConfig(), json_files.parse(fields, "the recipe"))
    packed = pack(plain_sources(config)[_MODULE].encode()).decode(ENCODING)
    return _HEADER.format(recipe=config.recipe, decoder=_decoder(), packed=packed).encode(ENCODING)


def _decoder() -> str:
    """The minified source of the unpacking module, which the built file contains."""
    tree = ast.parse(read_bytes(Path(mixing.__file__), "a source is needed"))
    return minified_alone(tree, mixing.unpacked.__name__)


@lru_cache(maxsize=4)
def _unpacked(literal: bytes) -> str:
    """The unpacked text, cached for repeated calls, since unpacking takes seconds."""
    return mixing.unpacked(literal).decode()


def packed(content: bytes) -> dict[str, str] | None:
    """The sources in a built file, by path; None if the script is not a built file. Nothing is executed.

    Raises:
        InputError: it is a built file, but its packed content is damaged.
    """
    head, mark, rest = content.partition(_PACKED)
    literal = rest[: rest.rfind(b'"""\nif __name__')]
    if not mark or head.count(b"\n") > _MOST_HEAD_LINES or _UNPACKS not in head:
        return None
    try:
        if _BEFORE not in head:
            return {_MODULE: _unpacked(literal)}
        value = ast.literal_eval(f'"""{literal.decode(ENCODING)}"""')
        text = bz2.BZ2Decompressor().decompress(value.encode(ENCODING), _MOST_BEFORE).decode()
    except (ValueError, IndexError, SyntaxError, MemoryError, OSError, EOFError) as error:
        raise InputError(f"{NAME}: what is packed in it is damaged ({error})") from error
    parts = text.split("\1")
    return dict(zip(parts[::2], parts[1::2], strict=False))
