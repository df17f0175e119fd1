"""A source divides training images into a part to fit and a part for validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_domain import make

from fergen_bench.data.domain import Domain
from fergen_bench.data.source import disjoint_share, open_source
from fergen_bench.error import BenchError


def test_the_hold_out_is_stratified_disjoint_and_seeded(web: Domain) -> None:
    source, again, other = (open_source([web], seed) for seed in (0, 0, 1))
    rows = {name: set(getattr(source, name).pieces[0].rows.tolist()) for name in ("train", "fit", "val")}
    assert rows["fit"] | rows["val"] == rows["train"]
    assert not rows["fit"] & rows["val"]
    assert not rows["train"] & set(web.rows("test").tolist())
    np.testing.assert_array_equal(source.val.counts, np.round(0.1 * source.train.counts))
    np.testing.assert_array_equal(source.val.pieces[0].rows, again.val.pieces[0].rows)
    assert rows["val"] != set(other.val.pieces[0].rows.tolist())


def test_a_few_subjects_still_leave_one_for_validation(tmp_path: Path) -> None:
    domain = make(tmp_path / "few", subjects=[f"person{i % 5}" for i in range(70)])
    source = open_source([domain], seed=0)
    held, fitted = (set(domain.subjects[part.pieces[0].rows]) for part in (source.val, source.fit))
    assert len(held) == 1
    assert not held & fitted


def test_one_subject_cannot_be_divided(tmp_path: Path) -> None:
    domain = make(tmp_path / "one", subjects=["person"] * 70)
    source = open_source([domain], seed=0)
    assert len(source.train) == len(source.fit) == len(domain.rows("train")) > 0
    with pytest.raises(BenchError, match=r"shows one subject only, so no image .*; add a val split, or use"):
        _ = source.val


def test_the_validation_part_of_a_dataset_is_used(tmp_path: Path) -> None:
    domain = make(tmp_path / "noise")
    path = domain.folder / "labels.csv"
    path.write_text(path.read_text().replace("face0,surprise,train", "face0,surprise,val"))
    source = open_source([Domain(domain.folder)], seed=0)
    assert source.val.pieces[0].rows.tolist() == [0]
    np.testing.assert_array_equal(source.fit.pieces[0].rows, source.train.pieces[0].rows)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=150), st.floats(0.05, 0.95))
def test_a_disjoint_share_never_divides_a_subject(people: list[tuple[int, int]], share: float) -> None:
    labels = np.array([label for label, _ in people])
    subjects = np.array([str(subject) for _, subject in people])
    taken = disjoint_share(labels, subjects, share, "seed")
    rest = np.setdiff1d(np.arange(len(people)), taken)
    assert not set(subjects[taken]) & set(subjects[rest])
    requested = np.round(share * np.bincount(labels, minlength=7))
    within = (np.bincount(labels[taken], minlength=7) <= requested).all()
    # The share is never larger than requested, except for one subject if it would be empty otherwise. If it is empty
    # for every expression, a share of all images is taken, and never the last image of an expression.
    of_all = not requested.any() and len(taken) <= round(share * len(labels)) and set(labels) == set(labels[rest])
    assert within or of_all or len(set(subjects[taken])) == 1
    assert len(taken) or len(set(subjects)) == 1


def test_a_few_images_of_each_expression_still_give_a_tenth_for_validation(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(7), [4, 4, 4, 4, 4, 4, 1])
    taken = disjoint_share(labels, np.arange(len(labels)).astype(str), 0.1, "seed")
    assert len(taken) == 2
    assert 6 not in labels[taken]
    domain = make(tmp_path / "few", count=100 * 7)
    source = open_source([domain], seed=0, fraction=0.05)
    assert len(source.val) == round(0.1 * len(source.train)) > 1
    assert (source.fit.counts > 0).all()


def test_fractions_are_nested_and_stratified(web: Domain) -> None:
    parts = [open_source([web], seed=3, fraction=fraction).train for fraction in (0.1, 0.25, 0.5, 1.0)]
    rows = [set(part.pieces[0].rows.tolist()) for part in parts]
    assert rows[0] < rows[1] < rows[2] < rows[3]
    full = parts[-1].counts
    np.testing.assert_array_equal(parts[2].counts, np.maximum(1, np.round(0.5 * full)))
    assert (parts[0].counts >= 1).all()


def test_the_hold_out_of_a_fraction_is_nested_and_a_tenth(web: Domain) -> None:
    sources = [open_source([web], seed=3, fraction=fraction) for fraction in (0.1, 0.25, 0.5, 1.0)]
    for part in ("fit", "val"):
        rows = [set(getattr(source, part).pieces[0].rows.tolist()) for source in sources]
        assert rows[0] < rows[1] < rows[2] < rows[3]
    full = sources[-1]
    for source in sources:
        assert not set(source.fit.ids) & set(source.val.ids)
        assert sorted([*source.fit.ids, *source.val.ids]) == sorted(source.train.ids)
        expected = full.val.counts * source.train.counts / full.train.counts
        assert (abs(source.val.counts - expected) <= 1).all()
    assert set(open_source([web], seed=4, fraction=0.5).train.ids) != set(sources[2].train.ids)


@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_the_positions_of_fit_and_val_in_train(web: Domain, film: Domain, fraction: float) -> None:
    source = open_source([film, web], seed=1, fraction=fraction)
    np.testing.assert_array_equal(source.train.ids[source.fit_index], source.fit.ids)
    np.testing.assert_array_equal(source.train.rows[source.val_index], source.val.rows)
    np.testing.assert_array_equal(source.train.domain_index[source.val_index], source.val.domain_index)
    assert sorted([*source.fit_index, *source.val_index]) == list(range(len(source.train)))


def test_a_validation_part_of_its_own_has_no_positions_in_train(tmp_path: Path) -> None:
    domain = make(tmp_path / "noise")
    path = domain.folder / "labels.csv"
    path.write_text(path.read_text().replace("face0,surprise,train", "face0,surprise,val"))
    source = open_source([Domain(domain.folder)], seed=0)
    np.testing.assert_array_equal(source.fit_index, np.arange(len(source.train)))
    with pytest.raises(
        BenchError, match=r"noise: .* source\.val are the val split of noise, .*; use source\.val itself"
    ):
        _ = source.val_index
