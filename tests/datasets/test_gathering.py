"""Native labels and the advice on unknown ones."""

from __future__ import annotations

import pytest

from fergen_bench.datasets.gathering import expression_of
from fergen_bench.error import BenchError, NeedsKey


def test_the_users_map_precedes_the_usual_names() -> None:
    assert expression_of("AF", {}, "a") == "fear"
    assert expression_of("AF", {"AF": "anger"}, "a") == "anger"
    assert expression_of("Contempt", {}, "a") == ""
    with pytest.raises(
        BenchError, match=r"labels\.csv:4: '7' is not a known expression; .* the meaning of every one of them: 7=…"
    ):
        expression_of("7", {"0": "anger", "1": "fear"}, "labels.csv:4")


@pytest.mark.parametrize(
    ("native", "in_toml", "on_command_line"),
    [
        ("Joy", 'Map it with labels = { "Joy" = "happiness" }, or "" to leave it out', "--labels Joy=happiness"),
        ("hapiness", 'labels = { "hapiness" = "happiness" }', "--labels hapiness=happiness, or --labels hapiness= to"),
        ("scared", 'labels = { "scared" = "fear" }', "--labels scared=fear"),
        ("bored", 'Map it to one of the seven with labels = { "bored" = "…" }', "--labels bored=…"),
        (
            "a,b",
            'labels = { "a,b" = "…" }',
            'labels = { "a,b" = "…" }, or "" to leave it out, in a table of bench.toml',
        ),
    ],
)
def test_an_unknown_label_is_advised_as_the_reader_can_write_it(
    native: str, in_toml: str, on_command_line: str
) -> None:
    with pytest.raises(NeedsKey) as caught:
        expression_of(native, {}, "a.csv:2")
    assert str(caught.value).startswith(f"a.csv:2: {native!r} is not a known expression; expected surprise, fear")
    assert in_toml in str(caught.value)
    assert on_command_line in caught.value.on_command_line
