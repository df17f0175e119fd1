"""The leakage audit: what is found, what is not, what is kept, and that the search does not compare all pairs."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fergen_bench.datasets import audit as audits
from fergen_bench.datasets import twins
from fergen_bench.datasets.audit import Audit, Refinement, audit_domains, load_audit
from fergen_bench.domain import EXPRESSIONS, Domain, write_prepared
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
def made(tmp_path: Path) -> Callable[..., Audit]:
    def make(*domains: Domain, **choices: Refinement) -> Audit:
        return audit_domains("mine", domains, tmp_path / "audit" / "mine", 1, quiet, **choices)

    return make


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
    assert [twin[:7] for twin in audit.twins] == [
        ("here", "test", "test-4", "here", "train", "train-0", "exact"),
        ("here", "train", "train-1", "there", "val", "val-0", "exact"),
        ("here", "train", "train-2", "there", "test", "test-0", "exact"),
    ]
    assert {(twin.distance, twin.similarity) for twin in audit.twins} == {(0, 1.0)}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_twin(
    change: str, prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    copies = [CHANGES[change](face) for face in drawn[:20]]
    audit = made(prepared("original", train=drawn), prepared("copy", test=copies))
    found = {(twin.id_a, twin.id_b) for twin in audit.twins}
    assert {twin.kind for twin in audit.twins} <= {"near", "exact"}
    wanted = {(f"test-{number}", f"train-{number}") for number in range(20)}
    assert not found - wanted
    assert len(found) >= 19  # the measured recall is above 0.98


def test_a_larger_original_and_its_small_copy(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    large = [resized(face, 100) for face in drawn[:10]]
    audit = made(prepared("large", train=large), prepared("small", test=[resized(face, 48) for face in large]))
    assert audit.count("large", "small") == 10


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
        assert made(prepared(name, train=faces[:6], test=faces[6:])).twins == ()


def test_no_two_rendered_faces_are_twins(made: Callable[..., Audit], web: Domain, film: Domain) -> None:
    assert made(web, film).twins == ()


def test_flat_faces_are_twins_only_where_they_are_equal(prepared: Prepared, made: Callable[..., Audit]) -> None:
    levels = [np.full((48, 48, 3), 30 * number, np.uint8) for number in range(1, 8)]
    audit = made(prepared("flat", train=levels, test=[levels[3]]))
    assert [(twin.id_a, twin.id_b, twin.kind) for twin in audit.twins] == [("test-0", "train-3", "exact")]
    assert "8 faces" in audit.notes[0]


def test_a_refinement_decides_which_candidates_are_twins(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    domains = prepared("copy", test=[compressed(face) for face in drawn[:4]]), prepared("original", train=drawn[:10])
    asked: set[tuple[int, ...]] = set()

    def similarity(pairs: np.ndarray) -> np.ndarray:
        assert pairs.shape[1:] == (2, 2)
        asked.update(tuple(pair) for pair in pairs.reshape(len(pairs), 4).tolist())
        return np.where(pairs[:, 0, 1] == 2, 0.5, 0.95)

    audit = made(*domains, refinement=Refinement("cosine of features", 0.9, similarity))
    assert {(0, row, 1, row) for row in range(4)} <= asked
    assert [(twin.id_a, twin.id_b) for twin in audit.twins] == [(f"test-{row}", f"train-{row}") for row in (0, 1, 3)]
    assert {twin.similarity for twin in audit.twins} == {0.95}
    assert (audit.refined_by, audit.thresholds["similarity"]) == ("cosine of features", 0.9)


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
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twins, "CROWD", 6)
    audit = made(
        prepared("one", train=[drawn[0]] * 10, test=[drawn[0]] * 3),
        prepared("two", train=[drawn[0]] * 2, test=[compressed(drawn[0])] * 4),
    )
    assert "1 picture stands more than 6 times" in audit.notes[0]
    for target, part, count in (("one", "test", 3), ("two", "test", 4), ("one", "train", 10)):
        for source in ("one", "two"):
            assert len(audit.twins_of(target, part, [source], ["train"])) == count, (target, part, source)
    assert len(audit.twins) < 19 * 18 // 2


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
    two = audit_domains("mine", domains, tmp_path / "two", 2, quiet)
    for name in ("audit.json", "twins.csv", "audit.md", "worst-pairs.png"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes(), name


def test_progress_comes_to_its_end(prepared: Prepared, drawn: list[np.ndarray], tmp_path: Path) -> None:
    heard: dict[str, list[tuple[int, int]]] = {}
    audit_domains(
        "mine",
        [prepared("a", train=drawn)],
        tmp_path / "audit",
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


def test_twins_of_a_target_in_its_sources(audit: Audit) -> None:
    assert audit.twins_of("mma", "test", ["rafdb"]) == {"test-0", "test-1"}
    assert audit.twins_of("mma", "test", ["rafdb", "mma"]) == {"test-0", "test-1", "test-2"}
    assert audit.twins_of("mma", "test", ["mma"], ("train",)) == frozenset()
    assert audit.twins_of("rafdb", "test", ["rafdb"]) == {"test-0"}
    assert audit.twins_of("rafdb", "train", ["mma"]) == {"train-1", "train-2", "train-3"}
    assert (audit.count("rafdb", "mma"), audit.count("mma", "rafdb")) == (2, 0)
    assert audit.count("mma", "rafdb", "train") == 3


def test_a_domain_goes_by_the_name_its_suite_gives_it(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    """Two folders that were prepared under one name are two domains."""
    first = prepared("rafdb", train=drawn[:3])
    one = Domain(first.folder.rename(first.folder.with_name("first")), "mine")
    two = Domain(prepared("rafdb", test=[drawn[0], drawn[9]]).folder, "theirs")
    audit = made(one, two)
    assert audit.covers({"mine": one.fingerprint, "theirs": two.fingerprint})
    assert audit.twins_of("theirs", "test", ["mine"]) == {"test-0"}


def test_an_audit_comes_back_from_its_folder(audit: Audit) -> None:
    again = load_audit(audit.folder)
    assert again == audit
    assert again is not None
    assert again.twins == audit.twins
    assert {(*overlap.a, *overlap.b): (overlap.exact, overlap.near) for overlap in again.overlaps} == {
        ("mma", "test", "mma", "val"): (1, 0),
        ("mma", "test", "rafdb", "train"): (1, 1),
        ("mma", "train", "rafdb", "train"): (3, 0),
        ("rafdb", "test", "rafdb", "train"): (1, 0),
    }
    page = (audit.folder / "audit.md").read_text()
    assert "| mma test | rafdb train | 1 | 1 | 2 of 4 (50.0%) | 2 of 10 (20.0%) |" in page
    assert "## Inside a split\n\nNo twins." in page


def test_the_csv_names_every_pair_in_order(audit: Audit) -> None:
    with (audit.folder / "twins.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    keys = [tuple(row.values())[:6] for row in rows]
    assert keys == sorted(keys)
    (near,) = [row for row in rows if row["kind"] == "near"]
    assert (near["id_a"], near["id_b"]) == ("test-1", "train-5")
    assert int(near["distance"]) <= twins.DISTANCE
    assert twins.CORRELATION <= float(near["similarity"]) < 1


def test_the_sheet_shows_near_pairs_side_by_side(audit: Audit, drawn: list[np.ndarray]) -> None:
    with Image.open(audit.folder / "worst-pairs.png") as sheet:
        pixels = np.asarray(sheet)
    face = np.asarray(Image.fromarray(drawn[5]).resize((96, 96), Image.Resampling.BICUBIC)).astype(int)
    left, right = pixels[4:100, 4:100].astype(int), pixels[4:100, 102:198].astype(int)
    assert np.abs(right - face).max() == 0
    assert 0 < np.abs(left - face).mean() < 12


def test_an_audit_covers_the_domains_it_saw_in_the_state_it_saw(audit: Audit) -> None:
    states = dict(audit.fingerprints)
    assert audit.covers(states)
    assert audit.covers({"mma": states["mma"]})
    assert not audit.covers({**states, "sfew": "0"})
    assert not audit.covers({**states, "mma": "0"})


def test_where_there_is_no_audit(tmp_path: Path) -> None:
    assert load_audit(tmp_path / "nowhere") is None


def test_a_new_audit_takes_the_place_of_the_old(
    audit: Audit, prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    made(prepared("other", train=drawn[:3]))
    assert {path.name for path in audit.folder.iterdir()} == {"audit.json", "twins.csv", "audit.md"}
    assert [path.name for path in audit.folder.parent.iterdir()] == ["mine"]


def test_an_interrupted_audit_leaves_the_old_one(audit: Audit, prepared: Prepared, drawn: list[np.ndarray]) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "comparing" and done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_domains("mine", [prepared("other", train=drawn)], audit.folder, 1, interrupt)
    assert load_audit(audit.folder) == audit
    assert [path.name for path in audit.folder.parent.iterdir()] == ["mine"]


# ---------------------------------------------------------------------------------------------------------- bad input


def test_a_domain_that_was_not_audited_is_no_clean_one(audit: Audit) -> None:
    with pytest.raises(BenchError, match=r"does not cover sfew; make it again with fergen-bench data audit"):
        audit.twins_of("sfew", "test", ["mma"])
    with pytest.raises(BenchError, match="does not cover sfew"):
        audit.count("sfew", "mma")


def test_a_folder_of_something_else_is_not_overwritten(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray], tmp_path: Path
) -> None:
    precious = tmp_path / "audit" / "mine" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("…")
    with pytest.raises(BenchError, match="holds something that is no audit"):
        made(prepared("a", train=drawn[:2]))
    assert precious.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "overlaps": [{}]}'])
def test_a_damaged_audit_is_refused(audit: Audit, content: str) -> None:
    (audit.folder / "audit.json").write_text(content)
    with pytest.raises(BenchError, match=r"audit\.json: cannot be read .*make it again"):
        load_audit(audit.folder)


def test_an_audit_of_another_format_is_refused(audit: Audit) -> None:
    path = audit.folder / "audit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(BenchError, match="is of format 99, not 1; make it again"):
        load_audit(audit.folder)


@pytest.mark.parametrize(
    "content", ["", "id\n", ",".join(audits.Twin._fields) + "\na,b\n", ",".join(audits.Twin._fields) + "\n" + "x," * 8]
)
def test_a_damaged_list_of_twins_is_refused(audit: Audit, content: str) -> None:
    (audit.folder / "twins.csv").write_text(content)
    loaded = load_audit(audit.folder)
    assert loaded is not None
    with pytest.raises(BenchError, match=r"twins\.csv: cannot be read .*make it again"):
        loaded.twins_of("mma", "test", ["rafdb"])


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


def test_reading_an_audit_loads_neither_numpy_nor_pillow(audit: Audit) -> None:
    code = (
        "import sys; from pathlib import Path; from fergen_bench.datasets.audit import load_audit; "
        f"print(load_audit(Path({str(audit.folder)!r})).count('rafdb', 'mma'), "
        "{'numpy', 'PIL', 'torch'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "2 set()"
