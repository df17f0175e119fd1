"""The folder of a prepared domain is complete or absent, and its fingerprint identifies its content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_domain import make

from fergen_bench.data.domain import Domain
from fergen_bench.data.prepared import is_prepared, read_about, write_prepared
from fergen_bench.error import BenchError


def test_the_fingerprint_changes_with_a_pixel_and_with_a_label(tmp_path: Path) -> None:
    first, same, other = (make(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first.fingerprint == same.fingerprint != other.fingerprint
    labels = first.folder / "labels.csv"
    columns = {"id": ["x"], "expression": ["fear"], "split": ["train"]}
    one = [np.zeros((1, 8, 8, 3), np.uint8)]
    fear = write_prepared(tmp_path / "f", "f", one, columns, {})
    anger = write_prepared(tmp_path / "g", "f", one, {**columns, "expression": ["anger"]}, {})
    assert read_about(fear)["fingerprint"] != read_about(anger)["fingerprint"]
    assert labels.read_text().splitlines()[0] == "id,expression,split"


def test_a_failed_preparation_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_prepared(tmp_path / "d", "d", [np.zeros((1, 8, 8, 3), np.uint8)], {"id": ["x"]}, {})
    assert list(tmp_path.iterdir()) == []


def test_the_error_names_a_folder_without_a_domain(tmp_path: Path) -> None:
    assert not is_prepared(tmp_path)
    with pytest.raises(BenchError, match=r"is not a prepared domain"):
        Domain(tmp_path)


def test_domain_json_describes_the_domain(web: Domain) -> None:
    about = json.loads((web.folder / "domain.json").read_text())
    assert {"name", "layout", "profile", "resizer", "size", "counts", "fingerprint", "synthetic"} <= set(about)
