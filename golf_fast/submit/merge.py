"""Merges the modules of a program into one: every module-level name becomes unique, and imports between them disappear.

Module-level statements run in the same order as on import; modules that are imported within functions come last.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from golf_fast.submit.scopes import occurrences

_CALLED: dict[tuple[str, str | None], str] = {("triton.language", None): "tl"}
"""Modules with a fixed name: Triton's interpreter recognises constants by the text `tl.constexpr`."""


def merged(sources: Mapping[str, ast.Module], entry: str) -> ast.Module:
    """One module that does what importing `entry` does.

    Args:
        sources: the modules by dotted name, whose first part is that of the program.
        entry: name of the entry module, whose `main` keeps its name, which must be unique.

    Raises:
        ValueError: a module is used for anything but access to its members.
    """
    merger = _Merger(sources, entry)
    body = [statement for name, statement in merger.order(entry) for statement in merger.rewritten(name, statement)]
    return ast.fix_missing_locations(ast.Module([*merger.imports(), *body], []))


class _Merger:
    def __init__(self, sources: Mapping[str, ast.Module], entry: str) -> None:
        self.sources = sources
        self.package = entry.partition(".")[0]
        self.taken = {
            word
            for tree in sources.values()
            for node in ast.walk(tree)
            for word in (getattr(node, "id", None), getattr(node, "arg", None), getattr(node, "name", None))
        }
        self.own: dict[str, set[str]] = {}
        self.aliases: dict[str, dict[str, tuple[str, str | None]]] = {}
        self.names: dict[tuple[str, str | None], str] = {**_CALLED, (entry, "main"): "main"}
        self.modules: dict[int, str] = {}
        self.foreign: set[tuple[str, str | None]] = set()
        for name in sources:
            self._gather(name)
        for name in sources:
            self._rename(name)

    def is_own(self, node: ast.AST) -> bool:
        """Whether a statement imports one of the program's own modules."""
        return isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == self.package

    def _gather(self, name: str) -> None:
        """Record the names that a module binds and those that it imports."""
        tree, aliases = self.sources[name], self.aliases.setdefault(name, {})
        tree.body = [each for each in tree.body if getattr(each, "module", "") != "__future__"]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and self.is_own(node):
                for alias in node.names:
                    target = (node.module or "", alias.name)
                    if aliases.setdefault(alias.asname or alias.name, target) != target:
                        raise ValueError(f"{name}: {alias.asname or alias.name} is imported from two modules")
        found = occurrences(tree)
        top = found[0].scope.root if found else None
        while top is not None and top.outer is not None:
            top = top.outer
        self.own[name] = (top.bound if top else set()) - set(aliases)
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom) and not self.is_own(statement):
                self.own[name] -= {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
                for alias in statement.names:
                    self._gather_foreign(name, statement, alias)

    def _gather_foreign(self, name: str, statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> None:
        if isinstance(statement, ast.ImportFrom):
            key: tuple[str, str | None] = (statement.module or "", alias.name)
            self.names.setdefault(key, self._new(alias.name))
        elif alias.asname or "." not in alias.name:
            key = (alias.name, None)
            self.names.setdefault(key, self._new(alias.name.rpartition(".")[2]))
        else:  # `import a.b` binds the package `a`, and cannot bind another name
            key = (alias.name, None)
            self.names.setdefault(key, alias.name.partition(".")[0])
        self.foreign.add(key)
        self.aliases[name][alias.asname or alias.name.partition(".")[0]] = key

    def _new(self, name: str) -> str:
        """A name that occurs nowhere in the program, so that no local variable shadows it."""
        found, count = f"{name}_", 2
        while found in self.taken:
            found, count = f"{name}_{count}", count + 1
        self.taken.add(found)
        return found

    def _resolved(self, target: tuple[str, str | None]) -> tuple[str, str | None]:
        """The target of an import after following re-exports: a module (None as name), or a name where it is
        defined."""
        module, name = target
        if module not in self.sources or name is None:
            return target
        if name in self.own[module]:
            return target
        if name in self.aliases[module] and self.aliases[module][name] != target:
            return self._resolved(self.aliases[module][name])
        if f"{module}.{name}" in self.sources:
            return f"{module}.{name}", None
        raise ValueError(f"{module} has no {name}")

    def _name(self, target: tuple[str, str | None]) -> str:
        module, name = target
        if target not in self.names:
            if name is None:
                raise ValueError(f"{module} is used as a value")
            self.names[target] = name if name.startswith("__") else self._new(name)
        return self.names[target]

    def _rename(self, name: str) -> None:
        for found in occurrences(self.sources[name]):
            owner = found.scope.owner(found.name)
            if owner is None:
                continue
            if owner.outer is None and found.name in self.own[name]:
                found.rename(self._name((name, found.name)))
            elif isinstance(found.node, ast.alias):
                continue
            elif found.name in owner.imported and found.name in self.aliases[name]:
                target = self._resolved(self.aliases[name][found.name])
                if target[1] is None and target[0] in self.sources:
                    self.modules[id(found.node)] = target[0]
                else:
                    found.rename(self._name(target))

    def rewritten(self, name: str, statement: ast.stmt) -> Iterator[ast.stmt]:
        """A top-level statement without own imports, and with accesses to own modules replaced by names."""
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return
        changed = _Rewriter(self, name).visit(statement)
        if changed is not None:
            yield changed

    def member(self, module: str, name: str) -> tuple[str, str | None]:
        """The target of the member `name` of a module."""
        return self._resolved((module, name))

    def order(self, entry: str) -> Iterator[tuple[str, ast.stmt]]:
        """Top-level statements with their modules, in the order in which importing the entry runs them, then the
        rest."""
        begun: set[str] = set()
        for name in (entry, *self.sources):
            yield from self._run(name, begun)

    def _run(self, name: str, begun: set[str]) -> Iterator[tuple[str, ast.stmt]]:
        if name in begun or name not in self.sources:
            return
        if "." in name:
            yield from self._run(name.rpartition(".")[0], begun)
        if name in begun:
            return
        begun.add(name)
        for statement in self.sources[name].body:
            if self.is_own(statement):
                assert isinstance(statement, ast.ImportFrom)
                yield from self._run(statement.module or "", begun)
                for alias in statement.names:
                    yield from self._run(f"{statement.module}.{alias.name}", begun)
            else:
                yield name, statement

    def imports(self) -> Iterator[ast.stmt]:
        """The imports of other packages, each once."""
        for module, name in sorted(self.foreign, key=lambda key: (key[1] is not None, key[0], key[1] or "")):
            bound = self.names[module, name]
            if name is not None:
                yield ast.ImportFrom(module, [ast.alias(name, None if bound == name else bound)], 0)
            else:
                plain = bound == module.partition(".")[0]
                yield ast.Import([ast.alias(module, None if plain else bound)])


class _Rewriter(ast.NodeTransformer):
    def __init__(self, merger: _Merger, name: str) -> None:
        self.merger = merger
        self.name = name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if self.merger.is_own(node) else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if id(node) in self.merger.modules:
            raise ValueError(f"{self.name}: the module {node.id} is used as a value, line {node.lineno}")
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        module = self._module(node.value)
        if module is None:
            return self.generic_visit(node)
        found = self.merger.member(module, node.attr)
        if found[1] is None:
            raise ValueError(f"{self.name}: the module {ast.unparse(node)} is used as a value")
        return ast.copy_location(ast.Name(self.merger._name(found), node.ctx), node)

    def _module(self, node: ast.expr) -> str | None:
        """The name of the own module that an expression denotes; None: it denotes none."""
        if isinstance(node, ast.Name):
            return self.merger.modules.get(id(node))
        if isinstance(node, ast.Attribute):
            outer = self._module(node.value)
            if outer is not None:
                module, name = self.merger.member(outer, node.attr)
                return module if name is None else None
        return None

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(body := getattr(node, "body", None), list) and not body:
            body.append(ast.Pass())
        return node
