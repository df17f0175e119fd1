"""Text for terminals that lack some characters."""

from __future__ import annotations

import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fergen_bench.cli.console import console_on, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("80.1 ± 0.3 — tied", "80.1 +/- 0.3 - tied"),
        ("a → b ≥ 5 × 3…", "a -> b >= 5 x 3..."),
        ("Büro, café", "Buro, cafe"),
        ("笑", "?"),
        ("a\x1b[2J", "a\\x1b[2J"),
    ],
)
def test_characters_have_an_equivalent_in_ascii(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize("stderr", [False, True])
def test_a_sentence_in_a_pipe_is_one_line_and_a_table_keeps_its_width(
    stderr: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = f"Compare them with: fergen-bench data audit {'--domains web ' * 10}"
    table = Table("words")
    table.add_row("word " * 40)
    console = console_on(stderr)
    for one in (sentence, Group(Text(sentence), table, Text(sentence))):
        console.print(one)
    out, err = capsys.readouterr()
    lines = (err if stderr else out).splitlines()
    assert [line.rstrip() for line in (*lines[:2], lines[-1])] == [sentence.rstrip()] * 3
    assert max(map(len, lines[2:-1])) <= console.width
