from __future__ import annotations

from pathlib import Path

import pytest

from fergen_bench.error import BenchError
from fergen_bench.files import yaml as yamlfile


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
        # Where YAML 1.2 differs from YAML 1.1.
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-08", -8),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("1:30.5", "1:30.5"),
        ("[1:30, 010]", ["1:30", 10]),
        ("{a: 09}", {"a": 9}),
        ("2026-01-01", "2026-01-01"),
        ("Yes", "Yes"),
        ("OFF", "OFF"),
        ("TRUE", True),
        ("~", None),
        ("", None),
        ("1.", 1.0),
        ("1_0.5", "1_0.5"),
        ("-.INF", float("-inf")),
        ("+.5e3", 500.0),
        ("1.٣", "1.٣"),
        ("<<", "<<"),
        ("=", "="),
        ("'010'", "010"),
        ("!!int 010", 10),
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


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: this is not valid YAML: the key 'a' occurs twice"),
        ("1: x\n01: y\n", "f.yaml:2: this is not valid YAML: the key '01' occurs twice"),
        ("a: !!int 1:30\n", "f.yaml:1: this is not valid YAML: '1:30' cannot be read as int"),
        ("a: !!bool yes\n", "f.yaml:1: this is not valid YAML: 'yes' cannot be read as bool"),
        ("a: !!timestamp 2026-01-01\n", "f.yaml:1: this is not valid YAML: could not determine a constructor"),
        ("a: !!set {x}\n", "f.yaml:1: this is not valid YAML: could not determine a constructor"),
        ("a: &b 1\nc: *b\n", "f.yaml:2: this is not valid YAML: aliases"),
    ],
)
def test_what_is_refused_has_its_line(text: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(BenchError) as refused:
        yamlfile.read(path)
    assert fault in str(refused.value)


def test_a_merge_key_is_a_key_like_others(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("<<: {a: 1}\n")
    assert yamlfile.read(path)[0] == {"<<": {"a": 1}}
