"""The types of options: text becomes values, or one sentence."""

from __future__ import annotations

from typing import Any

import click
import pytest

from fergen_bench.cli.parameters import Integers, Pairs, Setting, Shard, Words, pairs
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
    ],
)
def test_other_text_is_refused(kind: click.ParamType, text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        kind.convert(text, None, None)


def test_errors_about_pairs_name_the_option() -> None:
    with pytest.raises(BenchError, match="--labels: 'joy' is not a pair"):
        pairs("--labels", ["joy"])
    with pytest.raises(BenchError, match="--labels: 'a=2' occurs twice"):
        pairs("--labels", ["a=1", "a=2"])
