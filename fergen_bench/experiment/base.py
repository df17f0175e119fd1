"""Read the parameter `base` of an online method: the method whose fitted runs it starts from, and its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.experiment.method_file import MethodFile
from fergen_bench.files.yaml import read_scalar

FindMethod = Callable[[str], MethodFile]
"""Returns the method of a name; raises BenchError where none has it."""


def among(methods: Sequence[MethodFile]) -> FindMethod:
    """Return a function that finds one of some methods by its name."""
    known = {method.name: method for method in methods}

    def find(name: str) -> MethodFile:
        if name not in known:
            raise BenchError(f"no method {name!r}{did_you_mean(name, known)}")
        return known[name]

    return find


def read_base(text: str, place: str, find: FindMethod) -> tuple[MethodFile, dict[str, Any]]:
    """Return the method that a base names, and the parameters that it changes.

    Args:
        text: Name of a method, then NAME=VALUE for each parameter that differs from the suite's defaults, separated by
            spaces: full_finetune backbone=trunk.
        place: The place that set it, for errors.
        find: Returns the method of a name.

    Raises:
        BenchError: The text is empty, a setting has another form, or the method does not exist or is itself online.
    """
    name, *settings = text.split() or [""]
    try:
        method = find(name)
    except BenchError as error:
        raise BenchError(f"{place}: base: {error}") from None
    if method.online:
        raise BenchError(
            f"{place}: base: {name} is itself online, and a base is a method that is fitted to the source alone; name "
            f"another, such as full_finetune"
        )
    changes = {}
    for setting in settings:
        parameter, equals, value = setting.partition("=")
        if not equals:
            raise BenchError(
                f"{place}: base: {setting!r} is not a setting; write the name of a method, then NAME=VALUE for each "
                f"parameter: full_finetune backbone=trunk"
            )
        changes[parameter] = read_scalar(value)
    return method, changes
