"""Names that a parameter of a method cannot have, or can have with one type only."""

from __future__ import annotations

from typing import Any, Literal

from fergen_bench.error import BenchError

OPTIONS = {
    "device": "--device",
    "fraction": "the key `fraction` of a protocol",
    "method": "--method",
    "methods": "--method",
    "numerics": "the version of the numerics that methods share",
    "precision": "--precision",
    "prior": "--prior",
    "profile": "the split profile of a suite",
    "protocol": "--protocol",
    "seed": "--seeds",
    "seeds": "--seeds",
    "selection": "--selection",
    "sources": "--sources",
    "suite": "--suite",
    "views": "--views",
}
"""The options of a run that tables, records or MLflow show beside the parameters of its method."""

CLASS_VARIABLES = (
    "version",
    "recipes",
    "group",
    "needs",
    "learns_prior",
    "least_domains",
    "note",
    "static_step",
    "online",
)
"""The class variables of methods, which are no parameters."""

MEANINGS: dict[str, Any] = {
    "adapt": bool,
    "epochs": int,
    "logit_adjustment": float,
    "pseudo_domains": int,
    "sampling": Literal["natural", "balanced"],
}
"""Parameters that plans and scoring understand in every method, with their types."""


def refuse_reserved(name: str, annotation: str, kind: Any, place: str) -> None:
    """Raise for a parameter whose name already means something else.

    Args:
        name: The name of the parameter.
        annotation: Its type as the file has it.
        kind: Its type.
        place: File and line of the parameter.

    Raises:
        BenchError: The name is an option of the run or a class variable, or means a parameter of another type.
    """
    if name in OPTIONS:
        raise BenchError(
            f"{place}: a parameter cannot have the name {name!r}, because an option of the run has it "
            f"({OPTIONS[name]}); choose another name"
        )
    if name in CLASS_VARIABLES:
        raise BenchError(
            f"{place}: {name!r} is a class variable of methods, and {annotation} makes it a parameter; write "
            f"ClassVar[{annotation}], or choose another name"
        )
    if name in MEANINGS and kind != MEANINGS[name]:
        meant = MEANINGS[name].__name__ if isinstance(MEANINGS[name], type) else "Literal['natural', 'balanced']"
        raise BenchError(
            f"{place}: {name!r} has the type {annotation}, and plans read a parameter of this name as {meant}; write "
            f"{meant}, or choose another name"
        )
