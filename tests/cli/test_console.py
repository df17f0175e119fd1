"""Text for terminals that lack some characters."""

from __future__ import annotations

import pytest

from fergen_bench.cli.console import plain


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
