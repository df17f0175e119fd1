from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fergen_bench.data.domain import Domain, read_ahead
from fergen_bench.data.labels import EXPRESSIONS, expression_index
from fergen_bench.data.prepared import is_prepared, read_about, write_prepared
from fergen_bench.data.source import disjoint_share, open_source
from fergen_bench.data.suite import Suite
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


def test_a_prepared_domain_gives_back_what_was_written(tmp_path: Path) -> None:
    domain = make(tmp_path / "noise")
    faces = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(domain.faces, faces)
    assert isinstance(domain.faces, np.memmap)
    assert domain.labels.tolist() == [i % 7 for i in range(70)]
    test = domain.split("test")
    assert torch.equal(test.faces(), torch.from_numpy(faces[2::3]).permute(0, 3, 1, 2))
    assert test.labels.tolist() == [i % 7 for i in range(2, 70, 3)]
    assert domain.about["counts"]["test"] == dict(Counter(EXPRESSIONS[i % 7] for i in range(2, 70, 3)))


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


def test_votes_become_shares_and_single_labels_certainty(tmp_path: Path) -> None:
    face = [np.zeros((3, 8, 8, 3), np.uint8)]
    columns: dict[str, list[object]] = {"id": ["a", "b", "c"], "expression": ["fear"] * 3, "split": ["train"] * 3}
    plain = Domain(write_prepared(tmp_path / "plain", "plain", face, columns, {}))
    np.testing.assert_array_equal(plain.soft_labels, np.eye(7)[[1, 1, 1]])
    votes: dict[str, list[object]] = {f"votes_{name}": [0, 0, ""] for name in EXPRESSIONS}
    votes |= {"votes_fear": [6, 0, ""], "votes_sadness": [2, 0, ""], "votes_contempt": [2, 9, ""]}
    voted = Domain(write_prepared(tmp_path / "voted", "voted", face, columns | votes, {}))
    np.testing.assert_allclose(voted.soft_labels[0], [0, 0.75, 0, 0, 0.25, 0, 0])
    np.testing.assert_array_equal(voted.split("train").soft_labels[1:], np.eye(7)[[1, 1]])


def test_a_preparation_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_prepared(tmp_path / "d", "d", [np.zeros((1, 8, 8, 3), np.uint8)], {"id": ["x"]}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_domain_is_named(tmp_path: Path) -> None:
    assert not is_prepared(tmp_path)
    with pytest.raises(BenchError, match=r"is not a prepared domain"):
        Domain(tmp_path)


def test_an_unknown_label_is_refused_with_file_and_line(tmp_path: Path) -> None:
    domain = make(tmp_path / "noise")
    path = domain.folder / "labels.csv"
    path.write_text(path.read_text().replace("face3,happiness", "face3,glee"))
    with pytest.raises(BenchError, match=r"labels\.csv:5: 'glee' is no expression"):
        _ = domain.labels


@pytest.mark.parametrize(
    ("alias", "name"), [("Happy", "happiness"), ("suprise", "surprise"), ("AF", "fear"), ("AN", "anger")]
)
def test_usual_spellings_are_folded(alias: str, name: str) -> None:
    assert EXPRESSIONS[expression_index(alias, "here")] == name


def test_the_hold_out_is_stratified_disjoint_and_seeded(web: Domain) -> None:
    source, again, other = (open_source([web], seed) for seed in (0, 0, 1))
    rows = {name: set(getattr(source, name).pieces[0].rows.tolist()) for name in ("train", "fit", "val")}
    assert rows["fit"] | rows["val"] == rows["train"]
    assert not rows["fit"] & rows["val"]
    assert not rows["train"] & set(web.rows("test").tolist())
    np.testing.assert_array_equal(source.val.counts, np.round(0.1 * source.train.counts))
    np.testing.assert_array_equal(source.val.pieces[0].rows, again.val.pieces[0].rows)
    assert rows["val"] != set(other.val.pieces[0].rows.tolist())


def test_a_few_subjects_still_leave_somebody_for_validation(tmp_path: Path) -> None:
    domain = make(tmp_path / "few", subjects=[f"person{i % 5}" for i in range(70)])
    source = open_source([domain], seed=0)
    held, fitted = (set(domain.subjects[part.pieces[0].rows]) for part in (source.val, source.fit))
    assert len(held) == 1
    assert not held & fitted


def test_one_subject_cannot_be_divided(tmp_path: Path) -> None:
    domain = make(tmp_path / "one", subjects=["person"] * 70)
    with pytest.raises(BenchError, match="shows one subject only"):
        open_source([domain], seed=0)


def test_an_own_validation_part_is_used(tmp_path: Path) -> None:
    domain = make(tmp_path / "noise")
    path = domain.folder / "labels.csv"
    path.write_text(path.read_text().replace("face0,surprise,train", "face0,surprise,val"))
    source = open_source([Domain(domain.folder)], seed=0)
    assert source.val.pieces[0].rows.tolist() == [0]
    np.testing.assert_array_equal(source.fit.pieces[0].rows, source.train.pieces[0].rows)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=150), st.floats(0.05, 0.95))
def test_a_disjoint_share_takes_subjects_whole(people: list[tuple[int, int]], share: float) -> None:
    labels = np.array([label for label, _ in people])
    subjects = np.array([str(subject) for _, subject in people])
    taken = disjoint_share(labels, subjects, share, "seed")
    rest = np.setdiff1d(np.arange(len(people)), taken)
    assert not set(subjects[taken]) & set(subjects[rest])
    asked = np.round(share * np.bincount(labels, minlength=7))
    within = (np.bincount(labels[taken], minlength=7) <= asked).all()
    # Never more than asked, but for one subject where otherwise there would be nobody. Where that is nobody of any
    # expression, a share of all, and the last face of none.
    of_all = not asked.any() and len(taken) <= round(share * len(labels)) and set(labels) == set(labels[rest])
    assert within or of_all or len(set(subjects[taken])) == 1
    assert len(taken) or len(set(subjects)) == 1


def test_few_faces_of_every_expression_still_give_a_tenth_to_validate_on(tmp_path: Path) -> None:
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


def test_what_is_held_out_of_a_fraction_is_nested_and_a_tenth_too(web: Domain) -> None:
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


def test_relations_of_targets() -> None:
    suite = Suite("s", ("a", "b", "c"), "synth", "synth-trunk", overlaps=frozenset({frozenset(("a", "b"))}))
    assert [suite.relation(("a",), target) for target in "abc"] == ["source", "seen", "unseen"]
    assert suite.relation(("b", "c"), "a") == "seen"


def test_domain_json_is_readable_by_people(web: Domain) -> None:
    about = json.loads((web.folder / "domain.json").read_text())
    assert {"name", "layout", "profile", "resizer", "size", "counts", "fingerprint", "synthetic"} <= set(about)


def test_what_is_read_ahead_comes_in_order_and_faults_come_through() -> None:
    read: list[int] = []

    def fetch(place: int) -> torch.Tensor:
        if place == 5:
            raise OSError("gone")
        read.append(place)
        return torch.full((2,), place)

    device = torch.device("cpu")
    assert [int(found[0]) for found in read_ahead(fetch, range(4), device)] == [0, 1, 2, 3]
    ahead = read_ahead(fetch, range(10, 20), device)
    assert int(next(ahead)[0]) == 10
    ahead.close()  # type: ignore[attr-defined]
    assert read[4:] == [10, 11]  # one more than was used, no more
    assert list(read_ahead(fetch, [], device)) == []
    with pytest.raises(OSError, match="gone"):
        list(read_ahead(fetch, [4, 5, 6], device))
