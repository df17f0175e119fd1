"""The types of options: text becomes values, or one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest

from conftest import Bench
from fergen_bench.cli import app
from fergen_bench.cli.parameters import Integers, NumberRange, Numbers, Pairs, Setting, Shard, Words, pairs
from fergen_bench.error import BenchError


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Words(), "web, film,", ["web", "film"]),
        (Integers(), "0,2", [0, 2]),
        (Setting(), "learning-rate=0.1=x", ("learning_rate", "0.1=x")),
        (Pairs(), "a=b,c=", {"a": "b", "c": ""}),
        (Shard(), "2/8", (2, 8)),
    ],
)
def test_text_becomes_a_value(kind: click.ParamType, text: str, value: Any) -> None:
    assert kind.convert(text, None, None) == value
    assert kind.convert(value, None, None) == value or isinstance(kind, Integers)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Integers(), "0,x", "not a list of integers"),
        (Integers(), "-1", "integers from 0"),
        (Integers(), ",", "one or more integers"),
        (Setting(), "=1", "not a setting; write name=value"),
        (Shard(), "0/2", "not a share"),
        (Shard(), "2", "not a share"),
        (Numbers(), "0.5,nan", "not a list of numbers"),
        (Numbers(), "inf", "not a list of numbers"),
        (NumberRange(0), "nan", "'nan' is not a finite number"),
        (NumberRange(0), "inf", "'inf' is not a finite number"),
        (NumberRange(0, 1), "2", "not in the range"),
    ],
)
def test_other_text_is_refused(kind: click.ParamType, text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        kind.convert(text, None, None)


def commands(group: click.Group) -> Iterator[click.Command]:
    """Yield all commands of a group and of the groups in it."""
    for command in group.commands.values():
        yield from commands(command) if isinstance(command, click.Group) else [command]


def test_a_range_in_a_help_text_has_its_limits() -> None:
    options = [one for command in commands(app) for one in command.params]
    texts = [str(one.type) for one in options if isinstance(one.type, click.IntRange | click.FloatRange)]
    assert "<NumberRange 0<=x<=1>" in texts, "that of --prior"
    assert not [text for text in texts if "None" in text]


def test_each_option_that_takes_a_number_refuses_one_that_is_not_finite() -> None:
    options = [one for command in commands(app) for one in command.params]
    numbers = [one for one in options if isinstance(one.type, click.FloatRange | click.types.FloatParamType)]
    assert {one.name for one in numbers} >= {"prior", "tolerance", "margin", "per_second", "limit", "white"}
    for one in numbers:
        with pytest.raises(click.BadParameter):
            one.type.convert("nan", one, None)


def test_a_key_of_a_protocol_that_is_given_as_an_option_is_named(bench: Bench) -> None:
    result = bench("run", "--method", "cafe", "--fraction", "0.5")
    assert (result.code, result.out) == (2, "")
    assert "no option --fraction: a protocol sets it. Write protocols/NAME.yaml with the key `fraction`" in result.err
    assert "protocol" not in bench("run", "--method", "cafe", "--fractoin", "0.5").err


def test_errors_about_pairs_name_the_option() -> None:
    with pytest.raises(BenchError, match="--labels: 'joy' is not a pair"):
        pairs("--labels", ["joy"])
    with pytest.raises(BenchError, match="--labels: 'a=2' occurs twice"):
        pairs("--labels", ["a=1", "a=2"])


def test_an_empty_path_is_refused_by_every_command() -> None:
    paths = [one for command in commands(app) for one in command.params if isinstance(one.type, click.Path)]
    assert {one.name for one in paths} >= {"to", "path", "paths", "show", "predictions", "records", "results"}
    for one in paths:
        with pytest.raises(click.BadParameter, match="an empty path"):
            one.type.convert("", one, None)
