from __future__ import annotations

from pathlib import Path

import pytest

from fergen_bench import yamlfile


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("0.2", 0.2),
        ("3", 3),
        ("true", True),
        ("on", "on"),
        ("no", "no"),
        ("null", None),
        ("a: b: c", "a: b: c"),
        ("[1, 2]", [1, 2]),
    ],
)
def test_scalars_without_the_traps_of_yaml(text: str, value: object) -> None:
    read = yamlfile.read_scalar(text)
    assert read == value
    assert type(read) is type(value)


def test_lines_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("# comment\na:\n  b: 1\n\nc: 2\n")
    content, lines = yamlfile.read(path)
    assert content == {"a": {"b": 1}, "c": 2}
    assert lines == {("a",): 2, ("a", "b"): 3, ("c",): 5}
