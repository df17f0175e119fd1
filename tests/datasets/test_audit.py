"""The leakage audit: what is found, what is not, what is kept, and that the search does not compare all pairs."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import write_prepared
from fergen_bench.datasets import audit as audits
from fergen_bench.datasets import near_duplicates as twins
from fergen_bench.datasets.audit import Audit, Comparison, Comparisons, Refinement, audit_domains
from fergen_bench.error import BenchError
from fergen_bench.synth.render import render
from fergen_bench.synth.scene import Scene, sample_identity
from fergen_bench.synth.worlds import WORLDS, compose

Prepared = Callable[..., Domain]


def quiet(what: str, done: int, total: int) -> None:
    assert 0 <= done <= total


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """prepared("web", train=[...], test=[...]): a domain of these faces; their ids are train-0, train-1, …"""

    def make(name: str, **splits: list[np.ndarray]) -> Domain:
        faces = [face for members in splits.values() for face in members]
        ids = [f"{split}-{number}" for split, members in splits.items() for number in range(len(members))]
        columns = {
            "id": ids,
            "expression": [EXPRESSIONS[number % 7] for number in range(len(ids))],
            "split": [split for split, members in splits.items() for _ in members],
        }
        return Domain(write_prepared(tmp_path / "domains" / name, name, [np.stack(faces)], columns, {}))

    return make


@pytest.fixture
def store(tmp_path: Path) -> Comparisons:
    return Comparisons(tmp_path / "comparisons")


@pytest.fixture
def made(tmp_path: Path, store: Comparisons) -> Callable[..., Audit]:
    def make(*domains: Domain, **choices: Refinement) -> Audit:
        return audit_domains(
            "mine", domains, tmp_path / "audit" / "mine", store, tmp_path / "kept", 1, quiet, **choices
        )

    return make


def near(
    audit: Audit, store: Comparisons, target: str, part: str, source: str, parts: Sequence[str] = ("train", "val")
) -> set[str]:
    """Ids of the target's faces that have a near-duplicate in the source."""
    states = {state.name: state.fingerprint for state in audit.states}
    comparison = Comparisons(store.folder).find(states[target], states[source])  # as another process reads it
    assert comparison is not None
    return set(comparison.near(states[target], part, parts).values())


@pytest.fixture(scope="module")
def drawn(web: Domain) -> list[np.ndarray]:
    """Forty different faces."""
    return [np.array(web.faces[row]) for row in web.rows("train")[:40]]


def resized(face: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.BICUBIC))


def compressed(face: np.ndarray, quality: int = 40) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(face).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


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


def test_equal_faces_are_exact_twins_across_domains_and_splits(
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
    assert {(twin.distance, twin.similarity) for twin in audit.pairs} == {(0, 1.0)}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_twin(
    change: str, prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    copies = [CHANGES[change](face) for face in drawn[:20]]
    audit = made(prepared("original", train=drawn), prepared("copy", test=copies))
    found = {(twin.id_a, twin.id_b) for twin in audit.pairs}
    assert {twin.kind for twin in audit.pairs} <= {"near", "exact"}
    wanted = {(f"test-{number}", f"train-{number}") for number in range(20)}
    assert not found - wanted
    assert len(found) >= 19  # the measured recall is above 0.98


def test_a_larger_original_and_its_small_copy(
    prepared: Prepared, made: Callable[..., Audit], store: Comparisons, drawn: list[np.ndarray]
) -> None:
    large = [resized(face, 100) for face in drawn[:10]]
    audit = made(prepared("large", train=large), prepared("small", test=[resized(face, 48) for face in large]))
    assert len(near(audit, store, "small", "test", "large")) == 10


def test_different_people_in_one_pose_with_one_expression_are_no_twins(
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
        faces = list(render(Scene(columns, scene.draws), 64).permute(0, 2, 3, 1).numpy())
        first, second = (twins.reduced(np.stack(faces))[rows] for rows in np.array([*combinations(range(12), 2)]).T)
        assert twins.correlation(first, second).max() > 0.8  # they are alike; that is what makes the test one
        assert made(prepared(name, train=faces[:6], test=faces[6:])).pairs == ()


def test_no_two_rendered_faces_are_twins(made: Callable[..., Audit], web: Domain, film: Domain) -> None:
    assert made(web, film).pairs == ()


def test_flat_faces_are_twins_only_where_they_are_equal(prepared: Prepared, made: Callable[..., Audit]) -> None:
    levels = [np.full((48, 48, 3), 30 * number, np.uint8) for number in range(1, 8)]
    audit = made(prepared("flat", train=levels, test=[levels[3]]))
    assert [(twin.id_a, twin.id_b, twin.kind) for twin in audit.pairs] == [("test-0", "train-3", "exact")]
    assert "8 faces" in audit.notes[0]


def test_a_refinement_decides_which_candidates_are_twins(
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
    assert [(twin.id_a, twin.id_b) for twin in audit.pairs] == [(f"test-{row}", f"train-{row}") for row in (0, 1, 3)]
    assert {twin.similarity for twin in audit.pairs} == {0.95}
    assert audit.hows == (("cosine of features", 0.9, twins.DISTANCE),)


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
    for clean in combinations(range(len(twins.bands())), twins.CLEAN):
        pairs, distance, omitted = twins.close_pairs(codes, clean)
        assert omitted == 0
        found += [(*sorted(pair), bits) for pair, bits in zip(pairs.tolist(), distance.tolist(), strict=True)]
    wanted = {
        (i, j, bits)
        for i, j in combinations(range(len(codes)), 2)
        if (bits := int(np.bitwise_count(codes[i] ^ codes[j]))) <= twins.DISTANCE
    }
    assert len(found) == len(set(found))
    assert set(found) == wanted
    assert len(wanted) > 300


def test_a_crowded_bucket_is_bounded_and_the_audit_says_so(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "REACH", 4)
    noise = np.random.default_rng(0).integers(0, 3, (12, *drawn[0].shape))
    audit = made(prepared("one", train=[(drawn[0] // 2 + more).astype(np.uint8) for more in noise]))
    (note,) = audit.notes
    assert "comparisons were not made" in note
    assert audit.overlaps[0].near > 20
    assert note in (audit.folder / "audit.md").read_text()


def test_of_a_crowd_every_face_keeps_its_twins_in_every_split(
    prepared: Prepared,
    made: Callable[..., Audit],
    store: Comparisons,
    drawn: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(twins, "CROWD", 6)
    audit = made(
        prepared("one", train=[drawn[0]] * 10, test=[drawn[0]] * 3),
        prepared("two", train=[drawn[0]] * 2, test=[compressed(drawn[0])] * 4),
    )
    assert "1 picture stands more than 6 times" in audit.notes[0]
    for target, part, count in (("one", "test", 3), ("two", "test", 4), ("one", "train", 10)):
        for source in ("one", "two"):
            assert len(near(audit, store, target, part, source, ["train"])) == count, (target, part, source)
    assert len(audit.pairs) < 19 * 18 // 2


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=7), min_size=1, max_size=3), st.integers(1, 40))
def test_listed_or_thinned_every_face_has_the_same_twins_in_the_same_parts(groups: list[list[int]], crowd: int) -> None:
    """groups: classes of equal faces, each face by its part; the first two classes are near each other."""
    part = np.array([place for group in groups for place in group])
    classes = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    firsts = np.searchsorted(classes, np.arange(len(groups)))
    pairs = firsts[:2].reshape(-1, 2) if len(groups) > 1 else np.empty((0, 2), np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twins, "CROWD", crowd)
        found = twins._expanded(pairs, np.full(len(pairs), 2), np.full(len(pairs), 0.97), classes, part, ())
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


def test_progress_comes_to_its_end(prepared: Prepared, drawn: list[np.ndarray], tmp_path: Path) -> None:
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


# -------------------------------------------------------------------------------------------------------- what is kept


@pytest.fixture
def audit(prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]) -> Audit:
    """rafdb: a test face stands in train. mma: three faces of its train, and two of its test, are of rafdb's train;
    one of its test is in its own val.
    """
    return made(
        prepared("rafdb", train=drawn[:10], test=[drawn[0], *drawn[10:13]]),
        prepared(
            "mma",
            train=[*drawn[1:4], *drawn[20:23]],
            val=drawn[23:25],
            test=[drawn[4], compressed(drawn[5]), drawn[23], drawn[30]],
        ),
    )


def test_near_duplicates_of_a_target_in_its_sources(audit: Audit, store: Comparisons) -> None:
    assert near(audit, store, "mma", "test", "rafdb") == {"test-0", "test-1"}
    assert near(audit, store, "mma", "test", "mma") == {"test-2"}
    assert near(audit, store, "mma", "test", "mma", ("train",)) == set()
    assert near(audit, store, "rafdb", "test", "rafdb") == {"test-0"}
    assert near(audit, store, "rafdb", "train", "mma") == {"train-1", "train-2", "train-3"}
    assert near(audit, store, "rafdb", "test", "mma") == set()
    assert near(audit, store, "rafdb", "train", "mma", ("test",)) == {"train-4", "train-5"}


def test_a_domain_goes_by_the_name_its_suite_gives_it(
    prepared: Prepared, made: Callable[..., Audit], store: Comparisons, drawn: list[np.ndarray]
) -> None:
    """Two folders that were prepared under one name are two domains."""
    first = prepared("rafdb", train=drawn[:3])
    one = Domain(first.folder.rename(first.folder.with_name("first")), "mine")
    two = Domain(prepared("rafdb", test=[drawn[0], drawn[9]]).folder, "theirs")
    audit = made(one, two)
    assert near(audit, store, "theirs", "test", "mine") == {"test-0"}
    assert [(row.domain_a, row.domain_b) for row in audit.pairs] == [("mine", "theirs")]


def test_what_an_audit_says(audit: Audit) -> None:
    assert {(*overlap.a, *overlap.b): (overlap.exact, overlap.near) for overlap in audit.overlaps} == {
        ("mma", "test", "mma", "val"): (1, 0),
        ("mma", "test", "rafdb", "train"): (1, 1),
        ("mma", "train", "rafdb", "train"): (3, 0),
        ("rafdb", "test", "rafdb", "train"): (1, 0),
    }
    page = (audit.folder / "audit.md").read_text()
    assert "| mma test | rafdb train | 1 | 1 | 2 of 4 (50.0%) | 2 of 10 (20.0%) |" in page
    assert "## Inside a split\n\nNo near-duplicates." in page


def test_a_comparison_comes_back_from_its_file(audit: Audit, store: Comparisons) -> None:
    again = Comparisons(store.folder)
    states = [state.fingerprint for state in audit.states]
    for pair in audits.pairs_of(states):
        assert again.find(*pair) == again.find(*reversed(pair)) == store.find(*pair) is not None
    assert again.faults == []


def test_five_domains_under_another_name_or_with_one_more_compare_only_what_is_new(
    prepared: Prepared, store: Comparisons, drawn: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains = [prepared(name, train=drawn[at : at + 4], test=[drawn[30 + at]]) for at, name in enumerate("abcd")]
    read: list[str] = []
    sketch = twins._sketch
    monkeypatch.setattr(twins, "_sketch", lambda block: (read.append(block.folder.name), sketch(block))[1])

    def audited(suite: str, *chosen: Domain) -> Audit:
        fresh = Comparisons(store.folder)
        return audit_domains(suite, chosen, tmp_path / "audit" / suite, fresh, tmp_path / "kept", 1, quiet)

    first = audited("four", *domains)
    assert (first.compared, first.known) == (10, 0)
    assert sorted(read) == ["a", "b", "c", "d"]
    again = audited("renamed", *reversed(domains))
    assert (again.compared, again.known) == (0, 10)
    assert set(again.pairs) == set(first.pairs)
    assert (again.folder / "near-duplicates.csv").read_bytes() == (first.folder / "near-duplicates.csv").read_bytes()
    new = prepared("new", train=[drawn[1], drawn[20]], test=[compressed(drawn[2])])
    more = audited("five", domains[0], domains[1], domains[2], new)
    assert (more.compared, more.known) == (4, 6)  # the new one with each of the others, and with itself
    assert sorted(read) == ["a", "b", "c", "d", "new"]  # faces are read once
    whole = audit_domains(
        "five",
        [domains[0], domains[1], domains[2], new],
        tmp_path / "whole",
        Comparisons(tmp_path / "elsewhere"),
        None,
        1,
        quiet,
    )
    assert more.pairs == whole.pairs  # of equal faces in three domains too
    assert {(row.domain_a, row.domain_b) for row in more.pairs} >= {
        ("a", "b"),
        ("a", "new"),
        ("b", "new"),
        ("c", "new"),
    }


def test_another_rule_compares_again(prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]) -> None:
    domains = prepared("a", train=drawn[:3]), prepared("b", test=[compressed(drawn[0]), drawn[5]])
    assert len(made(*domains).pairs) == 1
    strict = made(*domains, refinement=Refinement("nothing is alike", 0.5, lambda opened, pairs: np.zeros(len(pairs))))
    assert (strict.compared, strict.pairs) == (3, ())


def test_a_domain_in_another_state_makes_an_audit_stale(
    audit: Audit, prepared: Prepared, store: Comparisons, drawn: list[np.ndarray]
) -> None:
    known = {state.name: state.fingerprint for state in audit.states}
    again = prepared("mma", train=drawn[:3])
    assert store.find(again.fingerprint, known["rafdb"]) is None
    assert store.stale("mma", again.fingerprint)
    assert not store.stale("mma", known["mma"])
    assert not store.stale("sfew", again.fingerprint)


def test_two_names_of_one_domain_are_compared_once(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    one = prepared("one", train=drawn[:3], test=[drawn[0]])
    audit = made(one, Domain(one.folder, "two"))
    assert (audit.compared, len(audit.pairs)) == (1, 1)
    assert audit.notes == ("two has the same faces and labels as one, and was compared once with it",)


def test_the_csv_names_every_pair_in_order(audit: Audit) -> None:
    with (audit.folder / "near-duplicates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    keys = [tuple(row.values())[:6] for row in rows]
    assert keys == sorted(keys)
    (alike,) = [row for row in rows if row["kind"] == "near"]
    assert (alike["id_a"], alike["id_b"]) == ("test-1", "train-5")
    assert int(alike["distance"]) <= twins.DISTANCE
    assert twins.CORRELATION <= float(alike["similarity"]) < 1


def test_the_sheet_shows_near_pairs_side_by_side(audit: Audit, drawn: list[np.ndarray]) -> None:
    with Image.open(audit.folder / "worst-pairs.png") as sheet:
        pixels = np.asarray(sheet)
    face = np.asarray(Image.fromarray(drawn[5]).resize((96, 96), Image.Resampling.BICUBIC)).astype(int)
    left, right = pixels[4:100, 4:100].astype(int), pixels[4:100, 102:198].astype(int)
    assert np.abs(right - face).max() == 0
    assert 0 < np.abs(left - face).mean() < 12


def test_a_new_audit_takes_the_place_of_the_old(
    audit: Audit, prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    made(prepared("other", train=drawn[:3]))
    assert {path.name for path in audit.folder.iterdir()} == {"near-duplicates.csv", "audit.md"}
    assert [path.name for path in audit.folder.parent.iterdir()] == ["mine"]


def test_an_interrupted_audit_leaves_the_old_one(
    audit: Audit, prepared: Prepared, store: Comparisons, drawn: list[np.ndarray]
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "comparing" and done > 5:
            raise KeyboardInterrupt

    before = (audit.folder / "audit.md").read_bytes()
    files = sorted(store.folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        audit_domains("mine", [prepared("other", train=drawn)], audit.folder, store, None, 1, interrupt)
    assert (audit.folder / "audit.md").read_bytes() == before
    assert [path.name for path in audit.folder.parent.iterdir()] == ["mine"]
    assert sorted(store.folder.iterdir()) == files


def test_damaged_sketches_are_made_again(
    prepared: Prepared, store: Comparisons, drawn: list[np.ndarray], tmp_path: Path
) -> None:
    domain, kept = prepared("a", train=drawn[:4], test=[drawn[0]]), tmp_path / "kept"
    first = audit_domains("mine", [domain], tmp_path / "one", store, kept, 1, quiet)
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    again = audit_domains("mine", [domain], tmp_path / "two", Comparisons(tmp_path / "fresh"), kept, 1, quiet)
    assert again.pairs == first.pairs != ()


# ---------------------------------------------------------------------------------------------------------- bad input


def test_a_folder_of_something_else_is_not_overwritten(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray], tmp_path: Path
) -> None:
    precious = tmp_path / "audit" / "mine" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("…")
    with pytest.raises(BenchError, match="holds something that is no audit"):
        made(prepared("a", train=drawn[:2]))
    assert precious.exists()


def spoilt(comparison: Comparison, store: Comparisons, text: str) -> Comparisons:
    states = comparison.a.fingerprint, comparison.b.fingerprint
    (store.folder / f"{states[0]}-{states[1]}.json").write_text(text)
    return Comparisons(store.folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99}', '{"format": 1, "a": [{}]}']
)
def test_a_damaged_comparison_counts_as_not_made_and_is_made_again(
    content: str, prepared: Prepared, made: Callable[..., Audit], store: Comparisons, drawn: list[np.ndarray]
) -> None:
    domain = prepared("a", train=drawn[:2], test=[drawn[0]])
    made(domain)
    states = domain.fingerprint, domain.fingerprint
    (whole,) = [comparison for comparison in [store.find(*states)] if comparison is not None]
    fresh = spoilt(whole, store, content)
    assert fresh.find(*states) is None
    (fault,) = fresh.faults
    assert "this comparison cannot be read" in fault
    assert fault.endswith("so its domains count as not audited; make it again with fergen-bench data audit")
    assert audit_domains("mine", [domain], store.folder.parent / "again", fresh, None, 1, quiet).compared == 1
    assert Comparisons(store.folder).find(*states) == whole


@pytest.mark.parametrize(
    ("was", "now"), [('"test", 0,', '"test", 7,'), ('"test", 0,', '"tset", 0,'), ('"a": {"name"', '"a": {"nome"')]
)
def test_a_comparison_of_faces_that_its_domains_do_not_have_is_refused(
    was: str, now: str, prepared: Prepared, made: Callable[..., Audit], store: Comparisons, drawn: list[np.ndarray]
) -> None:
    domain = prepared("a", train=drawn[:2], test=[drawn[0]])
    made(domain)
    whole = store.find(domain.fingerprint, domain.fingerprint)
    assert whole is not None
    path = store.folder / f"{domain.fingerprint}-{domain.fingerprint}.json"
    assert was in path.read_text()
    assert (
        spoilt(whole, store, path.read_text().replace(was, now)).find(whole.a.fingerprint, whole.b.fingerprint) is None
    )


def test_faces_and_labels_that_do_not_match_are_refused(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    domain = prepared("short", train=drawn[:3])
    labels = domain.folder / "labels.csv"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(BenchError, match=r"labels\.csv: these are not the labels .* 2 rows.*; prepare it again"):
        made(Domain(domain.folder))


def test_a_full_disk_is_one_sentence(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audits, "_write", full)
    with pytest.raises(BenchError, match="the audit cannot be made: No space left on device"):
        made(prepared("a", train=drawn[:2]))


def test_reading_a_comparison_loads_neither_numpy_nor_pillow(audit: Audit, store: Comparisons) -> None:
    mma, rafdb = (next(s.fingerprint for s in audit.states if s.name == name) for name in ("mma", "rafdb"))
    code = (
        "import sys; from pathlib import Path; from fergen_bench.datasets.audit import Comparisons; "
        f"found = Comparisons(Path({str(store.folder)!r})).find({mma!r}, {rafdb!r}); "
        f"print(sorted(found.near({mma!r}, 'test', ['train'])), {{'numpy', 'PIL', 'torch'}} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[0, 1] set()"
