"""The parameters of a method: their types, read from annotations without running the file, and their values."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Backbone: TypeAlias = str
"""The type of a parameter that names a pretrained image encoder; "suite" is the suite's own backbone."""
Trunk: TypeAlias = str
"""The type of a parameter that names a small network to be trained; "suite" is the suite's own trunk."""
File: TypeAlias = str
"""The type of a parameter that names a file; its content, and not its path, is part of a run's key."""


_TYPES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "tuple": tuple,
    "Literal": Literal,
    "Backbone": Backbone,
    "Trunk": Trunk,
    "File": File,
}


@dataclass(frozen=True)
class Parameter:
    """A field of a method's dataclass."""

    name: str
    annotation: str
    default: Any
    about: str  # the comment that follows it on its line

    @property
    def network(self) -> str | None:
        """Backbone or Trunk for a parameter that names a network, else None."""
        return next((kind for kind in ("Backbone", "Trunk") if kind in self.annotation.split(" | ")), None)

    @property
    def is_file(self) -> bool:
        """True for a parameter that names a file whose content is part of the key."""
        return "File" in self.annotation.split(" | ")

    def convert(self, value: Any, place: str) -> Any:
        """Convert a value to the field's type.

        Args:
            value: The value.
            place: The place that set it, for the error.

        Raises:
            BenchError: The type does not fit.
        """
        from pydantic import ValidationError

        if isinstance(value, list):
            value = tuple(value)
        try:
            return _adapter(self.annotation).validate_python(value, strict=True)
        except ValidationError as error:
            first, *more = error.errors()
            if first["type"] == "literal_error" and not more:
                raise BenchError(f"{place}: {self.name} is {value!r}; use {first['ctx']['expected']}") from None
            message = first["msg"]
            raise BenchError(
                f"{place}: {self.name} takes {self.annotation}, not {value!r} ({message[0].lower()}{message[1:]})"
            ) from None


@cache
def _adapter(annotation: str) -> TypeAdapter[Any]:
    """Return the validator of a type, built once: thirty methods have three hundred parameters of a few types."""
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(type_of(ast.parse(annotation, mode="eval").body), config=ConfigDict(allow_inf_nan=False))


class UnsupportedTypeError(Exception):
    """Raised for an annotation that parameters cannot have."""


def type_of(node: ast.expr) -> Any:
    """Return the type of an annotation; only a short list of names is accepted."""
    match node:
        case ast.Name(id=name) if name in _TYPES:
            return _TYPES[name]
        case ast.Constant(value=None):
            return None
        case ast.Subscript(value=ast.Name(id="Literal"), slice=items):
            return Literal[ast.literal_eval(items)]
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[item, ast.Constant()])):
            if isinstance(item, ast.Name) and item.id == "File":
                raise UnsupportedTypeError("File stands alone or with | None; give each file a parameter of its own")
            kind: Any = type_of(item)
            return tuple.__class_getitem__((kind, ...))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return type_of(left) | type_of(right)
    raise UnsupportedTypeError(
        f"use int, float, str, bool, Literal[…], tuple[…, ...], Backbone, Trunk, File, or one of them | None; not "
        f"{ast.unparse(node)!r}"
    )
