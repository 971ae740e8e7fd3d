"""The embedded corpus of every Python installation: its help topics and the docstrings of its standard library.

The sources are parsed and never imported, so that nothing in them is executed.
"""

import ast
import hashlib
import os
import platform
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from golf_fast.data.documents import Corpus, Progress, cut, no_progress
from golf_fast.errors import InputError
from golf_fast.json_files import without_collection

_TOPICS = "pydoc_data/topics.py"
_SKIPPED = frozenset({"site-packages", "dist-packages", "lib-dynload", "test", "tests", "idle_test", "__pycache__"})
_SKIPPED_PREFIXES = ("config-", "_sysconfigdata", "_sysconfig_vars", "sitecustomize", "usercustomize", ".")
_REPEATED_CHARACTERS = 40
"""Length from which repeated paragraphs are dropped, as they could be both trained on and held out."""
_MIN_CHARACTERS = 200
"""Least number of characters of docstrings of a module that is included."""

_Node = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def embedded_corpus(root: Path | None = None) -> Corpus:
    """About 2 MB of English documentation, the same for the same Python version.

    A help topic or the docstrings of a module are a document; long ones are cut at blank lines.

    Args:
        root: the standard library; default: the running Python's.

    Raises:
        InputError: the standard library's sources are not there.
    """
    library = root or Path(sysconfig.get_paths()["stdlib"])
    sources = _sources(library)
    if not sources:
        raise InputError(f"{library}: no source of the standard library in it; use a text of yours: --data.text PATH")
    digest = hashlib.sha256(f"embedded 1 {sys.version_info[:3]}\0".encode())
    for name, content in sources.items():
        digest.update(f"{name}\0".encode() + hashlib.sha256(content).digest())

    def documents(progress: Progress = no_progress) -> list[str]:
        with without_collection():
            return _documents(sources, progress)

    origin = f"the documentation inside Python {platform.python_version()}"
    return Corpus(name="embedded", origin=origin, sha256=digest.hexdigest(), documents=documents)


def _sources(library: Path) -> dict[str, bytes]:
    """The Python files that may hold a docstring, by their name in the library, in name order."""
    found: dict[str, bytes] = {}
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED and not name.startswith(_SKIPPED_PREFIXES)]
        for name in files:
            path = Path(folder, name)
            if name.endswith(".py") and not name.startswith(_SKIPPED_PREFIXES) and path.is_file():
                content = path.read_bytes()
                relative = path.relative_to(library).as_posix()
                if relative == _TOPICS or b'"""' in content or b"'''" in content:
                    found[relative] = content
    return dict(sorted(found.items()))


def _documents(sources: dict[str, bytes], progress: Progress) -> list[str]:
    seen: set[str] = set()
    documents: list[str] = []
    for number, (name, content) in enumerate(sources.items(), start=1):
        tree = _parse(content)
        texts = [] if tree is None else _topics(tree) if name == _TOPICS else ["\n\n".join(_docstrings(tree))]
        for text in texts:
            fresh = _without_repeats(text, seen)
            if len(fresh) >= _MIN_CHARACTERS:
                documents += cut(fresh)
        if number % 16 == 0 or number == len(sources):
            progress("read documentation", number, len(sources))
    return documents


def _parse(content: bytes) -> ast.Module | None:
    """The syntax tree of a file; None if this Python cannot parse it, as for deliberately broken test files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(content)
        except (SyntaxError, ValueError):
            return None


def _topics(tree: ast.Module) -> list[str]:
    """The texts in the dictionaries that the module assigns, in the order of their keys."""
    topics: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    topics[str(key.value)] = value.value
    return [topics[name] for name in sorted(topics)]


def _docstrings(node: ast.AST) -> Iterator[str]:
    """The docstrings of a module, its classes and functions in source order, without those that UTF-8 cannot encode."""
    if isinstance(node, _Node):
        text = ast.get_docstring(node)
        if text and not any("\ud800" <= character <= "\udfff" for character in text):
            yield text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler):  # expressions contain no docstrings, and are most of a tree
            yield from _docstrings(child)


def _without_repeats(text: str, seen: set[str]) -> str:
    kept = []
    for paragraph in text.split("\n\n"):
        key = paragraph.strip()
        if len(key) >= _REPEATED_CHARACTERS:
            if key in seen:
                continue
            seen.add(key)
        kept.append(paragraph)
    joined = "\n\n".join(kept).strip("\n")
    return joined + "\n" if joined else ""
