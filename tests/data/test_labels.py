"""Labels enter by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_domain import make

from fergen_bench.data.labels import EXPRESSIONS, expression_index
from fergen_bench.error import BenchError


def test_an_unknown_label_raises_with_file_and_line(tmp_path: Path) -> None:
    domain = make(tmp_path / "noise")
    path = domain.folder / "labels.csv"
    path.write_text(path.read_text().replace("face3,happiness", "face3,glee"))
    with pytest.raises(BenchError, match=r"labels\.csv:5: 'glee' is not an expression"):
        _ = domain.labels


@pytest.mark.parametrize(
    ("alias", "name"), [("Happy", "happiness"), ("suprise", "surprise"), ("AF", "fear"), ("AN", "anger")]
)
def test_common_spellings_are_recognised(alias: str, name: str) -> None:
    assert EXPRESSIONS[expression_index(alias, "here")] == name
