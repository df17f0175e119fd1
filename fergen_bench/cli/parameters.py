"""Shared parts of commands: types of options, completion of names, suggestions for misspelt commands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

import click

from fergen_bench.api.options import Option, RunOptions, declared
from fergen_bench.error import BenchError, did_you_mean


class PipeClosed(Exception):
    """Standard output or standard error was closed by its reader."""


class Group(click.Group):
    """A group of commands that suggests one for a misspelt name."""

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        """Parse arguments, with errors of closed pipes translated."""
        with _closed_pipes():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with errors of closed pipes translated."""
        with _closed_pipes():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of a name, or raise a UsageError with the nearest name."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"no command {args[0]!r}{did_you_mean(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


class RunCommand(click.Command):
    """A command that names the place of a setting that is a key of protocols and no option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, or raise a UsageError."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from fergen_bench.experiment.protocol import Protocol

            key = error.option_name.lstrip("-").replace("-", "_")
            if key not in Protocol.model_fields:
                raise
            raise click.UsageError(
                f"no option {error.option_name}: a protocol sets it. Write protocols/NAME.yaml with the key `{key}` "
                f"(docs/protocols.md), and give --protocol NAME",
                ctx,
            ) from None


@contextmanager
def _closed_pipes() -> Iterator[None]:
    """Translate the error of a closed pipe: click would exit with 1, as after any failure."""
    try:
        yield
    except BrokenPipeError as error:
        raise PipeClosed from error


class FilePath(click.Path):
    """A path, as `Path`. An empty one is refused: as a `Path` it would be the working directory."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, **checks)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the text of an option or an argument."""
        if value == "":
            self.fail("an empty path, such as of a shell variable that is not set; name a file or a folder", param, ctx)
        return super().convert(value, param, ctx)


class Words(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated words."""

    name = "a,b,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text of an option."""
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Integers(Words):
    """Comma-separated integers from 0."""

    name = "0,1,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text of an option."""
        try:
            numbers = [int(part) for part in super().convert(value, param, ctx)]
        except ValueError:
            self.fail(f"{value!r} is not a list of integers; write 0,1,2")
        if not numbers or min(numbers) < 0:
            self.fail(f"{value!r}: give one or more integers from 0")
        return numbers


class Numbers(Words):
    """Comma-separated finite numbers."""

    name = "0.5,0.5,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text of an option."""
        try:
            numbers = [float(part) for part in super().convert(value, param, ctx)]
        except ValueError:
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r} is not a list of numbers; separate them with commas, as in 0.25,0.5")
        return numbers


class NumberRange(click.FloatRange):
    """A finite number in a range, which nan would pass in click's own type."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the text of an option."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number; write one such as 0.5", param, ctx)
        return number


class Setting(click.ParamType):  # type: ignore[type-arg]
    """A pair name=value, as (name, text)."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text of an option."""
        if not isinstance(value, str):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not a setting; write name=value")
        return key.strip().replace("-", "_"), text


class Pairs(click.ParamType):  # type: ignore[type-arg]
    """Pairs key=value, separated by commas, as a dict."""

    name = "key=value,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text of an option."""
        if not isinstance(value, str):
            return value
        return pairs("" if param is None else param.opts[0], [part for part in value.split(",") if part.strip()])


class Shard(click.ParamType):  # type: ignore[type-arg]
    """A share i/n, as (i, n)."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text of an option."""
        if isinstance(value, tuple):
            return value
        part, _, whole = value.partition("/")
        if not (part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole)):
            self.fail(f"{value!r} is not a share; write 2/8 for the second of eight")
        return int(part), int(whole)


def pairs(option: str, parts: list[str] | None) -> dict[str, str]:
    """Return pairs as a dict: a=b and c= are {"a": "b", "c": ""}. Errors name the option."""
    found: dict[str, str] = {}
    for part in parts or ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or key in found:
            fault = "occurs twice" if key in found else "is not a pair; write name=value"
            raise BenchError(f"{option}: {part!r} {fault}")
        found[key] = value
    return found


def complete(kind: str) -> Any:
    """Return a completion of names: "method", "protocol" or "suite" of the project."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        from fergen_bench.experiment.project import find_project

        project = find_project()
        names: dict[str, Any] = {
            "method": project.methods(),
            "protocol": project.protocols(),
            "suite": project.suites(),
        }
        return sorted(name for name in names[kind] if name.startswith(incomplete))

    return complete


# -------------------------------------------------------------------------------------------------- the options of run


def _click_type(one: Field[Any], option: Option) -> dict[str, Any]:
    """Return the arguments of click for the type of a field of `RunOptions`."""
    if option.choices:
        return {"type": click.Choice(option.choices)}
    arguments: dict[str, Callable[[], dict[str, Any]]] = {
        "bool": lambda: {"is_flag": True},
        "int | None": lambda: {"type": _range(click.IntRange, option)},
        "float | None": lambda: {"type": _range(NumberRange, option)},
        "tuple[str, ...]": lambda: {"multiple": True},
        "tuple[str, ...] | None": lambda: {"type": Words()},
        "tuple[View, ...] | None": lambda: {"type": Words()},
        "tuple[int, ...] | None": lambda: {"type": Integers()},
        "tuple[int, int]": lambda: {"type": Shard()},
        "Mapping[str, Any]": lambda: {"type": Setting(), "multiple": True},
        "Mapping[str, str] | None": lambda: {"type": Pairs()},
        "Mapping[str, str]": lambda: {"type": Pairs()},
        "tuple[float, ...] | None": lambda: {"type": Numbers()},
        "Path | None": lambda: {"type": FilePath(exists=True, dir_okay=False)},
    }
    return arguments.get(str(one.type), dict)()


def _range(kind: Callable[..., click.ParamType[Any]], option: Option) -> click.ParamType[Any]:
    """Return the type of an option that takes a number, with its limits."""
    least = option.least if option.above is None else option.above
    return kind(min=least, max=option.most, min_open=option.above is not None)


def _click_option(one: Field[Any], option: Option) -> Callable[..., Any]:
    """Return the decorator of click for a field of `RunOptions`."""
    arguments: dict[str, Any] = {"help": option.help, "show_default": option.shows_default, **_click_type(one, option)}
    if not arguments.get("is_flag") and not arguments.get("multiple"):
        arguments["default"] = None if one.default is MISSING else one.default
    if option.without_value is not None:
        arguments |= {"is_flag": False, "flag_value": option.without_value}
    if option.completes is not None:
        arguments["shell_complete"] = complete(option.completes)
    if option.metavar is not None:
        arguments["metavar"] = option.metavar
    return click.option(*option.spellings, one.name, **arguments)


def options_of(kind: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command the options of a class, under the names of its fields."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for one, option in reversed([*declared(kind)]):
            command = _click_option(one, option)(command)
        return command

    return decorate


def options_of_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of `RunOptions`, under the names of its fields."""
    return options_of(RunOptions)(command)


def include_near_duplicates(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option of the same name that `run` has."""
    (decorate,) = (_click_option(*pair) for pair in declared() if pair[0].name == "include_near_duplicates")
    return decorate(command)


def weights_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that opens a checkpoint the option of the places of its weights, as `weights`."""
    return click.option(
        "--set",
        "weights",
        type=Setting(),
        multiple=True,
        help="Where a file of weights is on this machine, such as backbone=timm:resnet18//data/w.pth.",
    )(command)


def run_options(values: Mapping[str, Any]) -> RunOptions:
    """Return the options of a run from what click has parsed."""
    from fergen_bench.files.yaml import read_scalar

    fields = dict(values)
    fields["parameters"] = {key: read_scalar(text) for key, text in values["parameters"]}
    return RunOptions(**negated(fields, RunOptions))


def negated(values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return what click has parsed with the values of flags such as --no-track as their fields have them."""
    fields = dict(values)
    for one, option in declared(kind):
        if option.negates:
            fields[one.name] = not values[one.name]
    return fields


def refuse_beside(option: str, allowed: set[str]) -> None:
    """Raise BenchError where an option is given that another makes ineffective."""
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        given = source is click.core.ParameterSource.COMMANDLINE
        if given and parameter.name not in {option, *allowed}:
            raise BenchError(f"{parameter.opts[0]}: is ineffective with --{option}. Leave it out.")
