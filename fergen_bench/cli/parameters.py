"""What the options of several commands share: their kinds, completion, and commands that suggest what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from fergen_bench.error import BenchError, did_you_mean

include_near_duplicates = click.option(
    "--include-near-duplicates",
    is_flag=True,
    help="Count target faces that have a near-duplicate among the source's training faces too.",
)
"""An option of every command that counts."""


class PipeClosed(Exception):
    """The reader of standard output or standard error has gone away."""


class Group(click.Group):
    """Suggests the command that was meant."""

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        with _told_of_closed_pipes():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _told_of_closed_pipes():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"no command {args[0]!r}{did_you_mean(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


@contextmanager
def _told_of_closed_pipes() -> Iterator[None]:
    """Renames the error of a closed pipe, which click would turn into an exit status of 1 like any failure."""
    try:
        yield
    except BrokenPipeError as error:
        raise PipeClosed from error


class Words(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated words."""

    name = "a,b,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Integers(Words):
    name = "0,1,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            numbers = [int(part) for part in super().convert(value, param, ctx)]
        except ValueError:
            self.fail(f"{value!r} is no list of integers; write 0,1,2")
        if not numbers or min(numbers) < 0:
            self.fail(f"{value!r}: name at least one, none negative")
        return numbers


class Setting(click.ParamType):  # type: ignore[type-arg]
    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is no setting; write name=value")
        return key.strip().replace("-", "_"), text


class Pairs(click.ParamType):  # type: ignore[type-arg]
    """key=value,… as a dict."""

    name = "key=value,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        return pairs("" if param is None else param.opts[0], [part for part in value.split(",") if part.strip()])


class Shard(click.ParamType):  # type: ignore[type-arg]
    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        part, _, whole = value.partition("/")
        if not (part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole)):
            self.fail(f"{value!r} is no share; write 2/8 for the second of eight")
        return int(part), int(whole)


def pairs(option: str, parts: list[str] | None) -> dict[str, str]:
    """a=b,c= → {"a": "b", "c": ""}"""
    found: dict[str, str] = {}
    for part in parts or ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or key in found:
            fault = "is named twice" if key in found else "is no pair; write name=value"
            raise BenchError(f"{option}: {part!r} {fault}")
        found[key] = value
    return found


def complete(kind: str) -> Any:
    """Completion of names from the project one stands in."""

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
