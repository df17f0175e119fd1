"""Prepared domains and splits return the images and labels that were written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from fergen_bench.data.domain import Domain, read_ahead
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import write_prepared
from fergen_bench.data.source import open_source
from fergen_bench.error import BenchError


def make(folder: Path, count: int = 70, size: int = 8, subjects: list[str] | None = None, seed: int = 0) -> Domain:
    """A domain of noise: train two thirds, test the rest, all expressions in turn."""
    faces = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)
    columns = {
        "id": [f"face{i}" for i in range(count)],
        "expression": [EXPRESSIONS[i % 7] for i in range(count)],
        "split": ["test" if i % 3 == 2 else "train" for i in range(count)],
    }
    if subjects is not None:
        columns["subject"] = subjects
    write_prepared(folder, folder.name, [faces[:10], faces[10:]], columns, {"profile": "official"})
    return Domain(folder)


def test_a_prepared_domain_returns_what_was_written(tmp_path: Path) -> None:
    domain = make(tmp_path / "noise")
    faces = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(domain.faces, faces)
    assert isinstance(domain.faces, np.memmap)
    assert domain.labels.tolist() == [i % 7 for i in range(70)]
    test = domain.split("test")
    assert torch.equal(test.faces(), torch.from_numpy(faces[2::3]).permute(0, 3, 1, 2))
    assert test.labels.tolist() == [i % 7 for i in range(2, 70, 3)]
    assert domain.about["counts"]["test"] == dict(Counter(EXPRESSIONS[i % 7] for i in range(2, 70, 3)))


def test_votes_become_shares_and_single_labels_become_one_hot(tmp_path: Path) -> None:
    face = [np.zeros((3, 8, 8, 3), np.uint8)]
    columns: dict[str, list[object]] = {"id": ["a", "b", "c"], "expression": ["fear"] * 3, "split": ["train"] * 3}
    plain = Domain(write_prepared(tmp_path / "plain", "plain", face, columns, {}))
    np.testing.assert_array_equal(plain.soft_labels, np.eye(7)[[1, 1, 1]])
    votes: dict[str, list[object]] = {f"votes_{name}": [0, 0, ""] for name in EXPRESSIONS}
    votes |= {"votes_fear": [6, 0, ""], "votes_sadness": [2, 0, ""], "votes_contempt": [2, 9, ""]}
    voted = Domain(write_prepared(tmp_path / "voted", "voted", face, columns | votes, {}))
    np.testing.assert_allclose(voted.soft_labels[0], [0, 0.75, 0, 0, 0.25, 0, 0])
    np.testing.assert_array_equal(voted.split("train").soft_labels[1:], np.eye(7)[[1, 1]])


def test_several_sources_are_one_split_at_the_largest_size(tmp_path: Path) -> None:
    small, large = make(tmp_path / "small", size=8), make(tmp_path / "large", size=12, seed=1)
    source = open_source([small, large], seed=0)
    both = source.train
    half = len(small.rows("train"))
    assert len(both) == 2 * half
    assert both.size == (12, 12)
    faces = both.faces()
    assert faces.shape == (2 * half, 3, 12, 12)
    assert torch.equal(faces[half:], large.split("train").faces())
    np.testing.assert_array_equal(both.domain_index, [0] * half + [1] * half)
    picked = np.array([half + 3, 1, half + 1])
    assert torch.equal(both.faces(picked), faces[torch.from_numpy(picked)])
    assert not any(hasattr(batch, "clean") for batch in both.batches(torch.device("cpu"), 16))  # some were enlarged
    subset = both.subset(picked)
    np.testing.assert_array_equal(subset.labels, both.labels[np.sort(picked)])
    assert torch.equal(subset.faces(), faces[torch.from_numpy(np.sort(picked))])


def test_batches_cover_a_split_in_order_and_are_marked_as_clean(web: Domain) -> None:
    split = web.split("test")
    batches = list(split.batches(torch.device("cpu"), 32))
    assert torch.equal(torch.cat(batches), split.faces())
    assert batches[1].clean.positions == slice(32, 64)  # type: ignore[attr-defined]
    assert not hasattr(batches[1].flip(3), "clean")


def test_reading_ahead_keeps_the_order_and_raises_errors() -> None:
    read: list[int] = []

    def fetch(index: int) -> torch.Tensor:
        if index == 5:
            raise OSError("gone")
        read.append(index)
        return torch.full((2,), index)

    device = torch.device("cpu")
    assert [int(found[0]) for found in read_ahead(fetch, range(4), device)] == [0, 1, 2, 3]
    ahead = read_ahead(fetch, range(10, 20), device)
    assert int(next(ahead)[0]) == 10
    ahead.close()  # type: ignore[attr-defined]
    assert read[4:] == [10, 11]  # one more than was used, no more
    assert list(read_ahead(fetch, [], device)) == []
    with pytest.raises(OSError, match="gone"):
        list(read_ahead(fetch, [4, 5, 6], device))


def test_a_split_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    domain = make(tmp_path / "noise")
    with pytest.raises(
        BenchError, match=r"noise: the domain noise has no split 'val'; it has train \(47 images\) and "
    ):
        domain.split("val")
    with pytest.raises(
        BenchError, match=r"no split 'tset'; did you mean test; it has train \(47 images\) and test \(23"
    ):
        domain.split("tset")
