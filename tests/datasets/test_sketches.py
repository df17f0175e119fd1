"""Sketches that are stored, and domains that cannot be sketched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planted import Prepared, quiet

from fergen_bench.data.domain import Domain
from fergen_bench.datasets.audit import Audit, audit_domains
from fergen_bench.datasets.comparisons import Comparisons
from fergen_bench.error import BenchError


def test_damaged_sketches_are_computed_again(
    prepared: Prepared, store: Comparisons, drawn: list[np.ndarray], tmp_path: Path
) -> None:
    domain, kept = prepared("a", train=drawn[:4], test=[drawn[0]]), tmp_path / "kept"
    first = audit_domains("mine", [domain], tmp_path / "one", store, kept, 1, quiet)
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    again = audit_domains("mine", [domain], tmp_path / "two", Comparisons(tmp_path / "fresh"), kept, 1, quiet)
    assert again.pairs == first.pairs != ()


def test_faces_and_labels_that_do_not_match_are_refused(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    domain = prepared("short", train=drawn[:3])
    labels = domain.folder / "labels.csv"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(BenchError, match=r"labels\.csv: these are not the labels .* 2 rows.*; prepare it again"):
        made(Domain(domain.folder))
