"""Collects the sources of this package that a recipe needs: modules by the import graph, and only their used parts.

A name is used if it is reachable from the entry: names are followed from module to module, attributes by name only, so
that a method is kept if an attribute of its name is accessed anywhere. Module-level statements with side effects (a
registration, an assignment to an attribute) are kept with their module. Modules that a recipe does not use (`LEFT_OUT`)
are replaced by `golf_fast.submit.absent`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import golf_fast
from golf_fast.config import RunConfig
from golf_fast.files import read_bytes
from golf_fast.submit.absent import absent
from golf_fast.submit.strip import Definition, Function, is_pure, stripped

PACKAGE = golf_fast.__name__
ROOT = Path(golf_fast.__file__).parent
ENTRY = f"{PACKAGE}.submit.entry"
ABSENT = absent.__module__

LEFT_OUT: dict[str, Callable[[RunConfig], bool]] = {
    "ops.exclusive_gate": lambda c: not (c.model.xsa_layers or c.model.attention_gate),
    "ops.bitpack": lambda c: True,  # packs what goes to a GPU; without it the same bits travel as bytes
    "model.adapters": lambda c: c.score.ttt not in ("documents", "phased"),
    "model.cache": lambda c: not c.score.streaming,
    "score.streaming": lambda c: not c.score.streaming,
    "score.sliding": lambda c: c.score.streaming,
    "score.ttt.chunked": lambda c: c.score.ttt != "chunked",
    "score.ttt.documents": lambda c: not (c.model.separate_documents or c.score.ttt in ("documents", "phased")),
    "score.ttt.phased": lambda c: c.score.ttt != "phased",
    "score.ttt.held_out": lambda c: c.score.ttt != "held_out",
    "score.ttt.train_then_score": lambda c: c.score.ttt != "train_then_score",
    "score.ttt.weights": lambda c: c.score.ttt == "off",
    "compress.fit_size": lambda c: not c.compress.target_bytes,
    "compress.integers.gptq": lambda c: not c.compress.uses_gptq,
    "compress.integers.trellis": lambda c: not c.compress.uses_trellis,
    "compress.integers.low_rank": lambda c: not (c.compress.low_rank and c.compress.low_rank_error == "outputs"),
    "compress.integers.low_rank_weights": lambda c: (
        not (c.compress.low_rank and c.compress.low_rank_error == "weights")
    ),
    "compress.artifact.rans": lambda c: c.compress.codec != "rans",
    "pipeline.calibration": lambda c: not c.compress.calibrated,
    "train.forecast": lambda c: True,
    "data.build": lambda c: True,
    "data.compressors": lambda c: True,
    "data.corpus": lambda c: True,
    "data.text": lambda c: True,
    "data.overlap": lambda c: True,
    "from_plain": lambda c: True,
    "report": lambda c: True,
    "runs.finished": lambda c: True,
    "runs.settings": lambda c: True,
}
"""For modules and folders of the package, whether a recipe does not use them; the shipped entry does not either."""

_CALLED_BY_OTHERS = {"forward", "backward", "setup_context"}
"""Methods that torch calls."""


@dataclass
class Module:
    """A module of the package that is being reduced for the built file."""

    name: str
    tree: ast.Module
    units: list[tuple[set[str], ast.stmt]] = field(default_factory=list)
    """Top-level statements, each with the names that it binds (empty for a statement with side effects)."""
    aliases: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """The targets of imports by the name that they bind: a module and a name in it, or a module and None."""
    live: set[str] = field(default_factory=set)
    """Names of the module that are used."""


def source_of(name: str) -> Path | None:
    """The file of a module of this package; None: there is no such module."""
    below = ROOT.joinpath(*name.split(".")[1:])
    if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
        return None
    if (below / "__init__.py").is_file():
        return below / "__init__.py"
    file = below.with_suffix(".py")
    return file if file.is_file() else None


def collect(config: RunConfig, entry: str = ENTRY) -> dict[str, Module]:
    """The modules that a recipe needs, by name in order, without their unused parts."""
    collector = _Collector({f"{PACKAGE}.{name}" for name, left_out in LEFT_OUT.items() if left_out(config)})
    collector.use(entry, "main")
    collector.use(ABSENT, absent.__name__)
    for module in list(collector.modules.values()):
        _Cutter(collector, module).cut()
    return dict(sorted(collector.modules.items()))


def pruned(tree: ast.Module) -> ast.Module:
    """Remove from a program of one module what its `main` does not use, in place."""
    collector = _Collector(set())
    collector.add(module := Module(PACKAGE, tree))
    collector.use(PACKAGE, "main")
    _Cutter(collector, module).cut()
    return module.tree


class _Collector:
    """Follows what is used until nothing new is.

    Args:
        out: modules that are left out, with what is below them.
    """

    def __init__(self, out: set[str]) -> None:
        self.out = out
        self.modules: dict[str, Module] = {}
        self.members: set[str] = set()
        self._waiting: dict[str, list[tuple[Module, Function]]] = {}
        self._seen: set[int] = set()

    def is_out(self, name: str) -> bool:
        """Whether a module is left out, by itself or with its folder; what calls the extension always is."""
        parts = name.split(".")
        if parts[-1] == "native":
            return True
        return any(".".join(parts[:count]) in self.out for count in range(1, len(parts) + 1))

    def module(self, name: str) -> Module | None:
        """A module, taken in with its packages; None if it is none of this package, or left out."""
        if name in self.modules:
            return self.modules[name]
        path = source_of(name)
        if path is None or self.is_out(name):
            return None
        tree = stripped(ast.parse(read_bytes(path, "a source is needed")), name.partition(".")[2])
        self.add(module := Module(name, tree))
        return module

    def add(self, module: Module) -> None:
        """Take in a module, and of what is in it what is always used."""
        self.modules[module.name] = module
        if "." in module.name:
            self.module(module.name.rpartition(".")[0])
        for statement in module.tree.body:
            module.units.append((_bound(statement), statement))
        for node in ast.walk(module.tree):
            self._note_import(module, node)
        for names, statement in module.units:
            if not names:
                self._take(module, statement)

    def _note_import(self, module: Module, node: ast.AST) -> None:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == PACKAGE:
            for alias in node.names:
                module.aliases[alias.asname or alias.name] = self.resolved(node.module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == PACKAGE:
                    module.aliases[alias.asname or PACKAGE] = (alias.name if alias.asname else PACKAGE, None)

    def resolved(self, module: str, name: str) -> tuple[str, str | None]:
        """What `from module import name` binds: a module, or a name in one, which goes before."""
        inner, package = f"{module}.{name}", self.module(module)
        bound = package is not None and any(
            name in names and not (isinstance(statement, ast.ImportFrom) and statement.module == module)
            for names, statement in package.units
        )
        return (inner, None) if source_of(inner) and not bound else (module, name)

    def use(self, module_name: str, name: str) -> None:
        """Note that a name of a module is used."""
        module = self.module(module_name)
        if module is None or name in module.live:
            return
        module.live.add(name)
        if name in module.aliases:
            self._follow(module.aliases[name])
        for names, statement in module.units:
            if name in names:
                self._take(module, statement)

    def _follow(self, target: tuple[str, str | None]) -> None:
        module, name = target
        if name is None:
            self.module(module)
        else:
            self.use(module, name)

    def _take(self, module: Module, statement: ast.AST) -> None:
        """Follow everything in a statement that is used."""
        if id(statement) in self._seen:
            return
        self._seen.add(id(statement))
        if isinstance(statement, ast.ClassDef):
            for node in (*statement.decorator_list, *statement.bases, *(k.value for k in statement.keywords)):
                self._walk(module, node)
            for inner in statement.body:
                if isinstance(inner, Function) and not _kept_always(inner):
                    if inner.name in self.members:
                        self._take(module, inner)
                    else:
                        self._waiting.setdefault(inner.name, []).append((module, inner))
                else:
                    self._take(module, inner)
            return
        self._walk(module, statement)

    def _walk(self, module: Module, root: ast.AST) -> None:
        for node in ast.walk(root):
            if isinstance(node, ast.Name):
                self.use(module.name, node.id)
            elif isinstance(node, ast.Attribute):
                self._attribute(module, node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                self.member(node.value)
            elif isinstance(node, ast.ImportFrom | ast.Import) and root is not node:
                for alias in node.names:
                    target = module.aliases.get(alias.asname or alias.name)
                    if target is not None:
                        self._follow(target)

    def _attribute(self, module: Module, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name):
            target = module.aliases.get(node.value.id)
            if target is not None and target[1] is None:
                self._follow(self.resolved(target[0], node.attr))
                return
        self.member(node.attr)

    def member(self, name: str) -> None:
        """Note that something is asked for a member of this name."""
        if name not in self.members:
            self.members.add(name)
            for module, function in self._waiting.pop(name, ()):
                self._take(module, function)


class _Cutter:
    """Takes out of a module what nothing uses."""

    def __init__(self, collector: _Collector, module: Module) -> None:
        self.collector = collector
        self.module = module

    def cut(self) -> None:
        kept: list[ast.stmt] = []
        for names, statement in self.module.units:
            if isinstance(statement, ast.ImportFrom | ast.Import):
                kept += self._import(statement, self.module.live)
            elif not names or names & self.module.live:
                kept.append(statement)
        self.module.tree.body = kept
        for node in ast.walk(self.module.tree):
            if isinstance(node, ast.ClassDef):
                node.body = [
                    inner
                    for inner in node.body
                    if not isinstance(inner, Function) or _kept_always(inner) or inner.name in self.collector.members
                ] or [ast.Pass()]
            elif not isinstance(node, ast.Module):
                for name in ("body", "orelse", "finalbody"):
                    body = getattr(node, name, None)
                    if isinstance(body, list):
                        setattr(node, name, self._inner_imports(body))

    def _inner_imports(self, body: list[ast.stmt]) -> list[ast.stmt]:
        replaced: list[ast.stmt] = []
        for statement in body:
            if isinstance(statement, ast.ImportFrom | ast.Import):
                replaced += self._import(statement, None)
            else:
                replaced.append(statement)
        return replaced

    def _import(self, statement: ast.ImportFrom | ast.Import, live: set[str] | None) -> Iterator[ast.stmt]:
        """An import without the names that nothing uses; those of what is left out are absent."""
        here, away = [], []
        for alias in statement.names:
            bound = alias.asname or alias.name.partition(".")[0]
            if live is not None and bound not in live:
                continue
            target = self.module.aliases.get(alias.asname or alias.name)
            if isinstance(statement, ast.ImportFrom) and target and self.collector.is_out(target[0]):
                away.append(ast.alias(absent.__name__, bound))
            else:
                here.append(alias)
        if here:
            statement.names = here
            yield statement
        if away:
            yield ast.ImportFrom(ABSENT, away, 0)


def _kept_always(function: Function) -> bool:
    return function.name.startswith("__") or function.name in _CALLED_BY_OTHERS or not is_pure(function)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement of the top level binds, if that is all that it does."""
    if isinstance(statement, Definition):
        return {statement.name} if is_pure(statement) else set()
    if isinstance(statement, ast.ImportFrom | ast.Import):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    if isinstance(statement, ast.Assign):
        targets = [
            each
            for target in statement.targets
            for each in (target.elts if isinstance(target, ast.Tuple) else [target])
        ]
        if all(isinstance(target, ast.Name) for target in targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()
