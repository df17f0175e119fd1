"""The search for near-duplicates: what it finds, and that it does not compare all pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from planted import Prepared, compressed, near, quiet

from fergen_bench.data.domain import Domain
from fergen_bench.datasets import near_duplicates, sketches
from fergen_bench.datasets.audit import Audit, audit_domains
from fergen_bench.datasets.comparisons import Comparisons
from fergen_bench.datasets.near_duplicates import Refinement
from fergen_bench.synth.render import render
from fergen_bench.synth.scene import Scene, sample_identity
from fergen_bench.synth.worlds import WORLDS, compose


def resized(face: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.BICUBIC))


def greyed(face: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(face).convert("L").convert("RGB"))


CHANGES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg": compressed,
    "smaller": lambda face: resized(face, 48),
    "grey": greyed,
    "brighter": lambda face: np.minimum(face * 1.12, 255).astype(np.uint8),
    "darker": lambda face: (face * 0.8).astype(np.uint8),
    "mirrored": lambda face: face[:, ::-1],
    "all at once": lambda face: compressed(resized(greyed(face)[:, ::-1], 48), 60),
}


# ------------------------------------------------------------------------------------------------------ what is found


def test_equal_faces_are_exact_copies_across_domains_and_splits(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    audit = made(
        prepared("here", train=drawn[:6], test=[*drawn[6:10], drawn[0]]),
        prepared("there", train=drawn[10:14], val=[drawn[1]], test=[drawn[2], drawn[14]]),
    )
    assert [tuple(row)[:7] for row in audit.pairs] == [
        ("here", "test", "test-4", "here", "train", "train-0", "exact"),
        ("here", "train", "train-1", "there", "val", "val-0", "exact"),
        ("here", "train", "train-2", "there", "test", "test-0", "exact"),
    ]
    assert {(pair.distance, pair.similarity) for pair in audit.pairs} == {(0, 1.0)}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_duplicate(
    change: str, prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    copies = [CHANGES[change](face) for face in drawn[:20]]
    audit = made(prepared("original", train=drawn), prepared("copy", test=copies))
    found = {(pair.id_a, pair.id_b) for pair in audit.pairs}
    assert {pair.kind for pair in audit.pairs} <= {"near", "exact"}
    wanted = {(f"test-{number}", f"train-{number}") for number in range(20)}
    assert not found - wanted
    assert len(found) >= 19  # the measured recall is above 0.98


def test_a_larger_original_and_its_small_copy(
    prepared: Prepared, made: Callable[..., Audit], store: Comparisons, drawn: list[np.ndarray]
) -> None:
    large = [resized(face, 100) for face in drawn[:10]]
    audit = made(prepared("large", train=large), prepared("small", test=[resized(face, 48) for face in large]))
    assert len(near(audit, store, "small", "test", "large")) == 10


def test_different_people_in_one_pose_with_one_expression_are_no_near_duplicates(
    prepared: Prepared, made: Callable[..., Audit]
) -> None:
    """The hardest case: light, backdrop and camera are the same too; only the person differs."""
    for name in ("web", "film"):
        scene = compose(name, "train", np.arange(12))
        person = sample_identity(scene.draws, WORLDS[name].style)
        columns = {
            factor: values if factor in person else np.repeat(values[:1], len(scene), axis=0)
            for factor, values in scene.columns.items()
        }
        faces = list(render(Scene(columns, scene.draws), 64))
        small = sketches.reduce_images(np.stack(faces))
        first, second = (small[rows] for rows in np.array([*combinations(range(12), 2)]).T)
        assert near_duplicates.correlation(first, second).max() > 0.8  # they are alike; that is what makes the test one
        assert made(prepared(name, train=faces[:6], test=faces[6:])).pairs == ()


def test_no_two_rendered_faces_are_near_duplicates(made: Callable[..., Audit], web: Domain, film: Domain) -> None:
    assert made(web, film).pairs == ()


def test_flat_faces_are_found_only_where_they_are_equal(prepared: Prepared, made: Callable[..., Audit]) -> None:
    levels = [np.full((48, 48, 3), 30 * number, np.uint8) for number in range(1, 8)]
    audit = made(prepared("flat", train=levels, test=[levels[3]]))
    assert [(pair.id_a, pair.id_b, pair.kind) for pair in audit.pairs] == [("test-0", "train-3", "exact")]
    assert "8 images" in audit.notes[0]


def test_a_refinement_decides_which_candidates_are_near_duplicates(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    domains = prepared("copy", test=[compressed(face) for face in drawn[:4]]), prepared("original", train=drawn[:10])
    asked: set[tuple[int, ...]] = set()

    def similarity(opened: Sequence[Domain], pairs: np.ndarray) -> np.ndarray:
        assert pairs.shape[1:] == (2, 2)
        asked.update(tuple(pair) for pair in pairs.reshape(len(pairs), 4).tolist())
        return np.where(pairs[:, 0, 1] == 2, 0.5, 0.95)

    audit = made(*domains, refinement=Refinement("cosine of features", 0.9, similarity))
    assert {(0, row, 1, row) for row in range(4)} <= asked
    assert [(pair.id_a, pair.id_b) for pair in audit.pairs] == [(f"test-{row}", f"train-{row}") for row in (0, 1, 3)]
    assert {pair.similarity for pair in audit.pairs} == {0.95}
    assert audit.rules == (("cosine of features", 0.9, near_duplicates.DISTANCE),)


# ----------------------------------------------------------------------------------------------------------- the search


def test_the_join_finds_every_close_pair_once_whatever_bits_differ() -> None:
    """Against all pairs of 600 hashes, many of which were made from others by turning up to eight bits."""
    random = np.random.default_rng(0)
    seeds = random.integers(0, 1 << 64, 150, np.uint64)
    turned = [
        code ^ sum(1 << int(bit) for bit in random.permutation(64)[: random.integers(0, 9)])
        for code in map(int, np.repeat(seeds, 3))
    ]
    codes = np.concatenate([seeds, np.array(turned, np.uint64)])
    found = []
    for clean in combinations(range(len(near_duplicates.bands())), near_duplicates.EQUAL_BANDS):
        pairs, distance, omitted = near_duplicates.close_pairs(codes, clean)
        assert omitted == 0
        found += [(*sorted(pair), bits) for pair, bits in zip(pairs.tolist(), distance.tolist(), strict=True)]
    wanted = {
        (i, j, bits)
        for i, j in combinations(range(len(codes)), 2)
        if (bits := int(np.bitwise_count(codes[i] ^ codes[j]))) <= near_duplicates.DISTANCE
    }
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert len(wanted) > 300


def test_a_crowded_bucket_is_bounded_and_noted(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "REACH", 4)
    noise = np.random.default_rng(0).integers(0, 3, (12, *drawn[0].shape))
    audit = made(prepared("one", train=[(drawn[0] // 2 + more).astype(np.uint8) for more in noise]))
    (note,) = audit.notes
    assert "comparisons were skipped" in note
    assert audit.overlaps[0].near > 20
    assert note in (audit.folder / "audit.md").read_text()


def test_every_face_of_a_crowd_is_paired_in_every_split(
    prepared: Prepared,
    made: Callable[..., Audit],
    store: Comparisons,
    drawn: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near_duplicates, "CROWD", 6)
    audit = made(
        prepared("one", train=[drawn[0]] * 10, test=[drawn[0]] * 3),
        prepared("two", train=[drawn[0]] * 2, test=[compressed(drawn[0])] * 4),
    )
    assert "1 picture occurs more than 6 times" in audit.notes[0]
    for target, part, count in (("one", "test", 3), ("two", "test", 4), ("one", "train", 10)):
        for source in ("one", "two"):
            assert len(near(audit, store, target, part, source, ["train"])) == count, (target, part, source)
    assert len(audit.pairs) < 19 * 18 // 2


@settings(max_examples=25, derandomize=True)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=7), min_size=1, max_size=3), st.integers(1, 40))
def test_a_thinned_crowd_pairs_every_face_with_the_same_parts(groups: list[list[int]], crowd: int) -> None:
    """groups: classes of equal faces, each face by its part; the first two classes are near each other."""
    part = np.array([place for group in groups for place in group])
    classes = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    firsts = np.searchsorted(classes, np.arange(len(groups)))
    pairs = firsts[:2].reshape(-1, 2) if len(groups) > 1 else np.empty((0, 2), np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "CROWD", crowd)
        found = near_duplicates._expand(pairs, np.full(len(pairs), 2), np.full(len(pairs), 0.97), classes, part, ())
    near = [place < 2 for place in classes]
    alike = [
        (a, b)
        for a, b in product(range(len(part)), repeat=2)
        if a != b and (classes[a] == classes[b] or (near[a] and near[b]))
    ]
    listed = [pair for a, b in found.pairs.tolist() for pair in ((a, b), (b, a))]
    assert set(listed) <= set(alike)
    assert len(listed) == len(set(listed))
    assert {(a, part[b]) for a, b in listed} == {(a, part[b]) for a, b in alike}


def test_several_processes_find_what_one_finds(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray], tmp_path: Path
) -> None:
    domains = prepared("a", train=drawn[:8]), prepared("b", test=[compressed(face) for face in drawn[:3]])
    one = made(*domains)
    two = audit_domains("mine", domains, tmp_path / "two", Comparisons(tmp_path / "other"), None, 2, quiet)
    for name in ("near-duplicates.csv", "audit.md", "worst-pairs.png"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes(), name


def test_progress_reaches_its_total(prepared: Prepared, drawn: list[np.ndarray], tmp_path: Path) -> None:
    heard: dict[str, list[tuple[int, int]]] = {}
    audit_domains(
        "mine",
        [prepared("a", train=drawn)],
        tmp_path / "audit",
        Comparisons(tmp_path / "comparisons"),
        None,
        1,
        lambda what, done, total: heard.setdefault(what, []).append((done, total)),
    )
    assert set(heard) == {"reading", "comparing"}
    for steps in heard.values():
        assert steps[0][1] == len(drawn)
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1] > 0
        assert steps == sorted(steps)
