"""Resolve the parameters of a method on a suite, and check what a run could not start with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.error import BenchError
from fergen_bench.networks.name import anchored, digest_of, parse_network, resolve_network

if TYPE_CHECKING:
    from fergen_bench.data.suite import Suite
    from fergen_bench.experiment.method_file import MethodFile
    from fergen_bench.experiment.protocol import Protocol


def anchored_values(method: MethodFile, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return parameters with absolute paths of files and weights.

    Args:
        method: The method.
        values: Parameters by name.
        folder: The folder that relative paths begin in.
    """
    known = {parameter.name: parameter for parameter in method.parameters}
    found = dict(values)
    for name, value in values.items():
        if value and known[name].is_file:
            found[name] = (folder / Path(value).expanduser()).resolve().as_posix()
        elif value and known[name].network:
            found[name] = anchored(value, folder.resolve())
    return found


def resolved(
    method: MethodFile, values: Mapping[str, Any], suite: Suite, places: Mapping[str, str], check: bool = True
) -> dict[str, Any]:
    """Return parameters with the networks that they mean on a suite.

    Args:
        method: The method.
        values: Parameters by name.
        suite: The suite, which names the networks behind `suite` and `trunk`.
        places: The place that set each parameter, for errors.
        check: True to raise where a file of weights does not exist.
    """
    kinds = {parameter.name: parameter.network for parameter in method.parameters}
    return {
        name: resolve_network(value, kind, suite, f"{places[name]}: {name}", check)
        if (kind := kinds[name]) and value
        else value
        for name, value in values.items()
    }


def digests(method: MethodFile, parameters: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, str]:
    """Return the digest of what each parameter that names a network or a file refers to."""
    return {
        parameter.name: digest_of(parameters[parameter.name], f"{places[parameter.name]}: {parameter.name}")
        for parameter in method.parameters
        if (parameter.network and parameters[parameter.name] is not None)
        or (parameter.is_file and parameters[parameter.name])
    }


def completed(
    protocol: Protocol, method: MethodFile, values: Mapping[str, Any], places: Mapping[str, str]
) -> dict[str, Any]:
    """Return parameters with the protocol's limit on epochs, after checking those that a run could not start with."""
    found = dict(values)
    if protocol.epochs is not None and "epochs" in found:
        found["epochs"] = min(found["epochs"], protocol.epochs)
    _check_ranges(method, found, places)
    return found


def lacks(method: MethodFile, parameters: Mapping[str, Any]) -> str | None:
    """Return a sentence where a method lacks a text tower or a file, else None."""
    return _lacks_text_tower(method, parameters) or _lacks_file(method, parameters)


_Range = tuple[str, Callable[[Any], bool], str]
"""The name of a parameter, a function that returns True for values that a run can start with, and these in words."""

_TRAINING: Sequence[_Range] = (
    ("epochs", lambda value: value >= 1, "it takes 1 or more"),
    ("batch_size", lambda value: value >= 2, "it takes 2 or more"),
    ("learning_rate", lambda value: value > 0, "it must be above 0"),
)
_ONLINE: Sequence[_Range] = (
    ("stream_batch", lambda value: value >= 1, "it takes 1 or more"),
    ("learning_rate", lambda value: value > 0, "it must be above 0"),
    ("steps", lambda value: value >= 1, "it takes 1 or more"),
    ("momentum", lambda value: 0 <= value < 1, "it must be 0 or more, and less than 1"),
    ("rho", lambda value: value >= 0, "it must be 0 or more"),
    ("supports", lambda value: value >= 1, "it takes 1 or more"),
)
"""Parameters that mean the same in every method that has them. Others are checked by their method when it starts."""
_RECOVERING: Sequence[_Range] = (
    ("margin", lambda value: value > 0, "it must be above 0"),
    ("recovery", lambda value: value >= 0, "it must be 0 or more"),
)
"""Parameters of an online method that has both: SAR, or one that is derived from it."""


def _check_ranges(method: MethodFile, values: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Raise for parameters that no training or adaptation can start with, before anything is prepared for it."""
    ranges = _TRAINING if method.trains else _ONLINE if method.online else ()
    if method.online and all(name in values for name, *_ in _RECOVERING):
        ranges = (*ranges, *_RECOVERING)
    for name, fits, wanted in ranges:
        value = values.get(name)
        if isinstance(value, int | float) and not fits(value):
            raise BenchError(f"{places[name]}: {method.name}: {name} is {value:g}; {wanted}")


def _lacks_text_tower(method: MethodFile, parameters: Mapping[str, Any]) -> str | None:
    """Return a sentence where a method needs a text tower and its backbone has none."""
    for parameter in method.parameters if "text" in method.needs else ():
        if parameter.network != "Backbone":
            continue
        name = parse_network(parameters[parameter.name], parameter.name)
        if name.family != "open_clip":
            return (
                f"the method {method.name} needs a backbone with a text tower, and {name.without_path} has none; "
                f"choose one that has: --set {parameter.name}=open_clip:ViT-B-32-quickgelu/openai"
            )
    return None


def _lacks_file(method: MethodFile, parameters: Mapping[str, Any]) -> str | None:
    """Return a sentence where a method needs a file and none is named."""
    for parameter in method.parameters if "file" in method.needs else ():
        if parameter.is_file and not parameters[parameter.name]:
            return f"the method {method.name} needs a file; name it with --set {parameter.name}=FILE"
    return None


def refuse_unnoticed_files(method: MethodFile, parameters: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Raise where a plain text is the path of a file: the run's key would not change when the file does."""
    for parameter in method.parameters:
        value = parameters[parameter.name]
        if parameter.network or parameter.is_file or "Literal" in parameter.annotation:
            continue
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and _is_file(text, (Path(), method.path.parent)):
                raise BenchError(
                    f"{places[parameter.name]}: {parameter.name}: {text!r} is a file, and the type "
                    f"{parameter.annotation} keeps its content out of the key of the run; write `{parameter.name}: "
                    f"File` in {method.path} (from fergen_bench import File)"
                )


def _is_file(text: str, folders: Iterable[Path]) -> bool:
    """Return True where a text with a separator or an ending is the path of a file in one of the folders."""
    path = Path(text)
    if len(path.parts) < 2 and not path.suffix:
        return False
    try:
        return any((folder / path.expanduser()).is_file() for folder in folders)
    except (OSError, ValueError, RuntimeError):  # too long for a name, or of a user who does not exist
        return False
