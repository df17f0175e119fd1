"""Find what comes with the package, and the shipped methods that a method file imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fergen_bench.error import BenchError, did_you_mean

IMPORTABLE = "fergen_bench.methods"
"""The package from which a method file imports shipped methods."""


def shipped(kind: Literal["methods", "protocols", "results"]) -> Path:
    """Return a folder shipped with the package: inside it in a wheel, beside it in a checkout."""
    inside = Path(__file__).parents[1] / "shipped" / kind
    return inside if inside.is_dir() else Path(__file__).parents[2] / kind


@dataclass(frozen=True)
class Imported:
    """A name that a file imports from a shipped method, or that method itself.

    Attributes:
        local: The name in the file, such as `cafe`, `Cafe` or `fergen_bench.methods.cafe`.
        method: The method.
        name: The name in the method's file; None for the method itself.
        line: The line of the import.
    """

    local: str
    method: str
    name: str | None
    line: int

    @property
    def path(self) -> Path:
        """The file of the method."""
        return shipped("methods") / f"{self.method}.py"


def imported_methods(tree: ast.AST) -> Iterator[Imported]:
    """Yield the shipped methods that a file imports, and the names that it imports from them.

    Args:
        tree: The syntax tree of the file.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                package, _, method = alias.name.rpartition(".")
                if package == IMPORTABLE:
                    yield Imported(alias.asname or alias.name, method, None, node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            package, _, method = node.module.rpartition(".")
            for alias in node.names:
                if node.module == IMPORTABLE:
                    yield Imported(alias.asname or alias.name, alias.name, None, node.lineno)
                elif package == IMPORTABLE:
                    yield Imported(alias.asname or alias.name, method, alias.name, node.lineno)


def base_in(tree: ast.Module, node: ast.ClassDef, path: Path) -> tuple[Path, str] | None:
    """Return the file and the name of a class of a shipped method that a class is derived from, or None.

    Args:
        tree: The syntax tree of the file.
        node: The class.
        path: The file, for errors.

    Raises:
        BenchError: The file imports a method or a class that does not exist.
    """
    for base in map(ast.unparse, node.bases):
        owner, _, name = base.rpartition(".")
        for found in imported_methods(tree):
            if not found.path.is_file():
                known = (file.stem for file in shipped("methods").glob("[!._]*.py"))
                raise BenchError(
                    f"{path}:{found.line}: {IMPORTABLE} has no method {found.method!r}"
                    f"{did_you_mean(found.method, known)}"
                )
            if found.local == (base if found.name else owner):
                return found.path, found.name or name
    return None


def methods_behind(path: Path) -> dict[str, Path]:
    """Return the files of the shipped methods that a method file imports, and of those that they import, by name.

    Args:
        path: The method file. One that is not valid Python imports nothing.
    """
    found: dict[str, Path] = {}
    waiting = [path]
    while waiting:
        try:
            tree = ast.parse(waiting.pop().read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for one in imported_methods(tree):
            if one.method not in found and one.path.is_file():
                found[one.method] = one.path
                waiting.append(one.path)
    return dict(sorted(found.items()))


def digest_of_method(path: Path) -> str:
    """Return the SHA-256 of a method file's text; where it imports shipped methods, of their texts as well.

    Args:
        path: The method file.
    """
    texts = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, *methods_behind(path).values())]
    return texts[0] if len(texts) == 1 else hashlib.sha256(" ".join(texts).encode()).hexdigest()
