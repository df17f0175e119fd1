"""The suite of five real datasets from end to end, on folders in the layouts of their owners, with rendered faces in
them.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Bench
from fergen_bench import datasets
from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import verdict
from fergen_bench.experiment.project import Project, find_project
from fergen_bench.records import counting, listing
from fergen_bench.synth import DOMAINS

TRAIN, TEST = 6, 3  # faces per expression
CAPITALS = ("Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral")


class Deck:
    """Rendered faces, handed out one after the other."""

    def __init__(self, domain: Domain) -> None:
        self._domain, self._next = domain, [0] * len(EXPRESSIONS)

    def deal(self, label: int, size: tuple[int, int], grey: bool = False) -> Image.Image:
        members = np.flatnonzero(self._domain.labels == label)
        face = np.asarray(self._domain.faces[members[self._next[label] % len(members)]])
        self._next[label] += 1
        image = Image.fromarray(face).resize(size)
        return image.convert("L") if grey else image


def numbered() -> Iterator[tuple[str, int, int]]:
    """(split, label, number) of every face of a dataset; numbers go through."""
    number = 0
    for split, count in (("train", TRAIN), ("test", TEST)):
        for label in range(len(EXPRESSIONS)):
            for _ in range(count):
                number += 1
                yield split, label, number


def saved(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def make_rafdb(root: Path, deck: Deck) -> None:
    lines, places = [], {"train": 0, "test": 0}
    for split, label, _ in numbered():
        places[split] += 1
        name = f"train_{places[split]:05d}" if split == "train" else f"test_{places[split]:04d}"
        saved(deck.deal(label, (100, 100)), root / "basic/Image/aligned" / f"{name}_aligned.jpg")
        lines.append(f"{name}.jpg {label + 1}")
    (root / "basic/EmoLabel").mkdir()
    (root / "basic/EmoLabel/list_patition_label.txt").write_text("\n".join(lines))


def make_ferplus(root: Path, deck: Deck) -> None:
    root.mkdir()
    votes = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
    with (root / "fer2013.csv").open("w", newline="") as images, (root / "fer2013new.csv").open("w", newline="") as new:
        pixels, labels = csv.writer(images), csv.writer(new)
        pixels.writerow(("emotion", "pixels", "Usage"))
        labels.writerow(("Usage", "Image name", *votes))
        for split, label, number in numbered():
            usage = "Training" if split == "train" else "PrivateTest"
            face = np.asarray(deck.deal(label, (48, 48), grey=True)).ravel()
            pixels.writerow((0, " ".join(map(str, face)), usage))
            labels.writerow((usage, f"fer{number:07d}.png", *(10 * (name == EXPRESSIONS[label]) for name in votes)))


def make_affectnet(root: Path, deck: Deck) -> None:
    native = {name: place for place, name in enumerate(("neutral", "happiness", "sadness", "surprise", "fear"))}
    native |= {"disgust": 5, "anger": 6}
    for split, label, number in numbered():
        folder = root / ("train_set" if split == "train" else "val_set")
        saved(deck.deal(label, (224, 224)), folder / "images" / f"{number}.jpg")
        (folder / "annotations").mkdir(exist_ok=True)
        np.save(folder / "annotations" / f"{number}_exp.npy", np.array(str(native[EXPRESSIONS[label]])))


def make_sfew(root: Path, deck: Deck) -> None:
    for split, label, number in numbered():
        part = "Train/Train_Aligned_Faces" if split == "train" else "Val/Val_Aligned_Faces"
        name = f"AboutABoy_{number:09d}_{number:08d}.png"
        saved(deck.deal(label, (143, 181)), root / part / CAPITALS[label] / name)


def make_mma(root: Path, deck: Deck) -> None:
    for split, label, number in numbered():
        folder = CAPITALS[label].lower()
        saved(deck.deal(label, (48, 48), grey=True), root / "MMAFEDB" / split / folder / f"{number}.jpg")


MAKERS = {"rafdb": make_rafdb, "ferplus": make_ferplus, "affectnet": make_affectnet, "sfew": make_sfew, "mma": make_mma}


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder with a copy of each dataset, each with faces of another domain."""
    root = tmp_path_factory.mktemp("copies")
    for (name, make), domain in zip(MAKERS.items(), DOMAINS, strict=True):
        make(root / name, Deck(Domain(cache / "domains" / "synth5-tiny-v2" / domain)))
    return root


@pytest.fixture
def configured(project: Project, copies: Path) -> Project:
    """A project that names the copies in its bench.toml."""
    toml = project.root / "bench.toml"
    tables = "".join(f'[domains.{name}]\npath = "{copies / name}"\n' for name in MAKERS)
    toml.write_text(toml.read_text() + tables)
    return find_project(project.root)


@pytest.fixture(autouse=True)
def _small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copies here hold 63 faces of thousands, which else are refused."""
    monkeypatch.setattr(verdict, "LEAST", 0.0)


RUN = ("run", "--method", "linear_probe", "--backbone", "synth", "--seeds", "0", "--jobs", "0", "--no-track")


def test_every_dataset_of_the_suite_has_a_reader() -> None:
    assert tuple(MAKERS) == datasets.WILD5
    assert all(datasets.dataset(name, "test").name == name for name in datasets.NAMES)


@pytest.mark.slow
def test_the_whole_matrix_from_the_owners_layouts(configured: Project, bench: Bench) -> None:
    result = bench(*RUN, "--suite", "wild5", "--no-audit")  # the drawn images of a copy have near-duplicates
    assert result.code == 0, result.err
    assert "synthetic" not in result.err
    records, faults = counting.load_all(configured.results / "runs")
    assert not faults
    assert sorted(entry.spec.sources[0] for entry in records) == sorted(MAKERS)
    for entry in records:
        assert [cell.target for cell in entry.cells] == list(MAKERS)
        counts = {cell.target: (cell.count, cell.relation, cell.excluded) for cell in entry.cells}
        assert all(cell.count == TEST * len(EXPRESSIONS) for cell in entry.cells), (entry.spec.sources, counts)
    shown = bench("report", "--suite", "wild5", "--matrices").out
    assert "wild5 (real faces)" in shown
    assert "Faces scored: rafdb 21, ferplus 21" in shown
    assert "seen*" in shown
    assert "seen*: the suite declares that source and target share images" in shown
    page = (configured.results / "report" / "leaderboard.md").read_text()
    assert page.count("seen (declared)") == 2  # FERPlus and MMA, in both directions


def test_labels_and_pixels_come_through(configured: Project, copies: Path) -> None:
    suite = configured.suite("wild5")
    folders = configured.prepared(suite, suite.domains)
    for name, folder in folders.items():
        domain = Domain(folder)
        assert domain.about["dataset"] == name
        counts = domain.about["counts"]
        assert counts == {"train": dict.fromkeys(EXPRESSIONS, TRAIN), "test": dict.fromkeys(EXPRESSIONS, TEST)}, name
    assert Domain(folders["rafdb"]).about["size"] == [100, 100]
    assert Domain(folders["ferplus"]).about["size"] == [48, 48]
    assert Domain(folders["sfew"]).about["size"] == [224, 224]


def test_the_cafe_profile_scores_sfew_on_its_training_faces(configured: Project, bench: Bench) -> None:
    chosen = ("--sources", "rafdb,sfew", "--targets", "rafdb,sfew")
    result = bench(*RUN, "--suite", "wild5-cafe", *chosen)
    assert result.code == 0, result.err
    assert "profile cafe: sfew is scored on its 42 train images" in result.err
    records, _ = counting.load_all(configured.results / "runs")
    counts = {(entry.spec.sources[0], cell.target): cell.count for entry in records for cell in entry.cells}
    assert counts == {("rafdb", "rafdb"): 21, ("rafdb", "sfew"): 42, ("sfew", "rafdb"): 21, ("sfew", "sfew"): 21}
    shown = bench("report", "--suite", "wild5-cafe").out
    assert "sfew 21 or 42" in shown
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "rafdb raf-official differs 100 px, aligned 42 21" in lines
    assert "sfew sfew-official differs 224 px, aligned 42 21 or 42" in lines


def test_a_prepared_dataset_needs_no_table(project: Project, bench: Bench, copies: Path) -> None:
    result = bench(*RUN, "--suite", "wild5", "--sources", "sfew", "--targets", "sfew")
    assert result.code == 2
    assert "the suite wild5 needs sfew" in result.err
    assert "fergen-bench data prepare sfew PATH" in result.err
    result = bench("data", "prepare", "sfew", str(copies / "sfew"))
    assert result.code == 0, result.err
    result = bench(*RUN, "--suite", "wild5", "--sources", "sfew", "--targets", "sfew")
    assert result.code == 0, result.err


def test_another_dataset_does_not_take_its_place(project: Project, bench: Bench, copies: Path) -> None:
    assert bench("data", "prepare", "sfew", str(copies / "sfew")).code == 0
    taken = bench("data", "prepare", "mma", str(copies / "mma"), "--to", "data/sfew")
    assert taken.code == 2
    assert "data/sfew: contains sfew. Remove it, or choose another place" in taken.err
    posing = bench("data", "prepare", "mma", str(copies / "mma"), "--name", "rafdb")
    assert posing.code == 2
    assert "--name: rafdb is the name of another dataset" in posing.err
    result = bench(*RUN, "--suite", "wild5", "--sources", "sfew", "--targets", "sfew")
    said = "sfew differs from the dataset that its owner distributes: train has 42 faces where 891 are expected"
    assert said in result.err


def test_what_is_no_part_of_a_dataset_does_not_take_its_name(
    project: Project, bench: Bench, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "LEAST", 0.5)
    wrong = (
        "this is not SFEW 2.0: train has 42 faces where 891 are expected; test has 21 faces where 431 are expected, "
        "and no split has half of its faces and some"
    )
    refused = bench("data", "prepare", "sfew", str(copies / "sfew"))
    assert refused.code == 2
    assert f"{copies / 'sfew'}: {wrong} of every expression" in refused.err
    assert refused.err.endswith("or choose another name for the domain, such as --name my-sfew\n")
    assert not (project.root / "data" / "sfew").exists()
    shutil.copytree(copies / "sfew", project.root / "wrong", copy_function=shutil.copyfile)  # never prepared before
    toml = project.root / "bench.toml"
    toml.write_text(toml.read_text() + '[domains.sfew]\npath = "wrong"\n')
    ran = bench(*RUN, "--suite", "wild5", "--sources", "sfew", "--targets", "sfew")
    assert ran.code == 2
    assert wrong in ran.err
    assert 'such as [domains.my-sfew] with dataset = "sfew"' in ran.err
    prepared = bench("data", "prepare", "sfew", str(copies / "sfew"), "--name", "my-sfew")
    assert prepared.code == 0, prepared.err
    assert "warning: prepared, but this is not SFEW 2.0 as its owner distributes it: train has 42 faces" in prepared.err
    assert "wild5" not in prepared.err


def test_an_incomplete_copy_is_prepared_and_can_be_used_in_wild5_with_a_warning(
    project: Project, bench: Bench, copies: Path
) -> None:
    result = bench("data", "prepare", "sfew", str(copies / "sfew"))
    assert result.code == 0, result.err
    assert "warning: prepared, but this is not SFEW 2.0 as its owner distributes it" in result.err
    assert "Every run and report repeats this. Expected counts: docs/datasets.md" in result.err
    assert result.err.endswith("\nsfew can be used now, in wild5 and wild5-cafe.\n")
    assert "[suites" not in result.err
    said = " ".join(result.out.split())
    assert "add some" not in said
    assert "its owner's copy has 56 of surprise, 46 of fear, 23 of disgust" in said
    assert "complete this one, or trust no score of these expressions" in said
    assert "the train split, which is scored, has fewer than 20 faces of surprise (6)" in said  # by the profile cafe
    assert said.count("does not have more") == 0  # its owner's classes of train are not known


def test_a_suite_that_is_suggested_has_few_domains_of_different_datasets(
    project: Project, bench: Bench, copies: Path
) -> None:
    for name in ("rafdb", "ferplus"):
        assert bench("data", "prepare", name, str(copies / name)).code == 0
    for number in range(12):
        shutil.copytree(project.root / "data" / "ferplus", project.root / "data" / f"copy{number:02d}")
    own = copies / "mma" / "MMAFEDB"
    result = bench("data", "prepare", "folder", str(own), "--name", "lab")
    assert result.code == 0, result.err
    assert "\n[suites.mine]\n# ferplus is one of 13 domains of ferplus; it can be replaced by copy00" in result.err
    assert '\ndomains = ["lab", "ferplus", "rafdb"]\n' in result.err
    assert "add some, or trust no score of these expressions" in " ".join(result.out.split())


def test_a_suggested_suite_has_the_fullest_domain_of_a_dataset_and_names_the_others(
    project: Project, bench: Bench, copies: Path
) -> None:
    whole = copies / "rafdb"
    assert bench("data", "prepare", "rafdb", str(whole), "--name", "raf_whole").code == 0
    assert (
        bench(
            "data",
            "prepare",
            "rafdb",
            str(whole),
            "--name",
            "raf_few",
            "--labels",
            "1=surprise,2=,3=disgust,4=happiness,5=sadness,6=anger,7=neutral",
        ).code
        == 0
    )
    result = bench("data", "prepare", "folder", str(copies / "mma" / "MMAFEDB"), "--name", "lab")
    comment = "# raf_whole is one of 2 domains of rafdb; it can be replaced by raf_few\n"
    assert f'\n[suites.mine]\n{comment}domains = ["lab", "raf_whole"]\n' in result.err
    result = bench("data", "prepare", "rafdb", str(whole), "--name", "raf_last")
    assert 'replaced by raf_few and raf_whole\ndomains = ["raf_last", "lab"]\n' in result.err


def test_bgr_is_another_domain(project: Project, bench: Bench, copies: Path) -> None:
    assert bench("data", "prepare", "rafdb", str(copies / "rafdb")).code == 0
    extra = ("--name", "raf_bgr", "--emulate-bgr")
    assert bench("data", "prepare", "rafdb", str(copies / "rafdb"), *extra).code == 0
    rgb, bgr = (Domain(project.root / "data" / name) for name in ("rafdb", "raf_bgr"))
    np.testing.assert_array_equal(rgb.faces[..., ::-1], bgr.faces)
    assert rgb.fingerprint != bgr.fingerprint


def test_check_says_what_is_there_and_fails_for_copies_that_are_not_whole(configured: Project, bench: Bench) -> None:
    result = bench("data", "check", "rafdb", "mma")
    assert result.code == 1
    assert "rafdb  rafdb, layout" in result.out
    assert "error: train has 42 faces where 12,271 are expected" in result.out
    found = json.loads(bench("data", "check", "--json", "--quick", "sfew").out)
    assert found[0]["dataset"] == "sfew"
    assert found[0]["found"]["train"]["fear"] == TRAIN
    assert found[0]["failed"] is True


def test_near_duplicates_are_left_out_and_a_declared_pair_stays_seen(
    configured: Project, bench: Bench, copies: Path
) -> None:
    """RAF-DB's fourth test face stands in MMA's training faces too; FERPlus shares none with MMA in these copies."""
    settings = configured.root / "bench.toml"
    settings.write_text(f"seen_share = 0.1\n{settings.read_text()}")  # 1 of 21 faces is less
    twin = sorted((copies / "rafdb/basic/Image/aligned").glob("test_*"))[3]
    chosen = ("--suite", "wild5", "--sources", "mma", "--targets", "rafdb,ferplus,mma")
    planted = copies / "mma/MMAFEDB/train/surprise/planted.jpg"
    Image.open(twin).resize((48, 48)).convert("L").save(planted)
    try:
        first = bench(*RUN, *chosen, "--no-audit")
        assert first.code == 0, first.err
        assert "not audited: mma, rafdb, ferplus were never compared for near-duplicates" in first.err
        assert "(1 target not audited)" not in first.err
        assert "(not audited)" in first.err
        shown = re.sub(r"\s+", " ", bench("report", "--suite", "wild5", "--matrices").out)
        assert "Not audited: 1 of 1 unseen cell" in shown
        assert "compare them with: fergen-bench data audit --suite wild5" in shown
        result = bench("data", "audit", "--suite", "wild5", "--domains", "rafdb,ferplus,mma")
        assert result.code == 0, result.err
        shown = re.sub(r"\s+", " ", bench("report", "--suite", "wild5", "--matrices").out)
        assert "ot audited" not in shown
        assert "(-1): 1 face" not in shown
        assert "(-n): n faces left out" in shown
        assert "seen*" in shown
        page = (configured.results / "report" / "leaderboard.md").read_text()
        assert "1 left out" in page
        (entry,), _ = listing.read_all(configured.results / "runs")
        assert [cell.count for cell in entry.cells] == [21, 21, 21]  # a report writes no record
        again = bench(*RUN, *chosen)
        assert "1 record was counted again from stored predictions, without near-duplicates" in again.err
        assert "Nothing to do" in again.err
        (entry,), _ = listing.read_all(configured.results / "runs")
        assert [cell.count for cell in entry.cells] == [20, 21, 21]
        assert bench(*RUN, *chosen, "--include-near-duplicates").code == 0
        (entry,), _ = listing.read_all(configured.results / "runs")
        assert [cell.count for cell in entry.cells] == [21, 21, 21]
    finally:
        planted.unlink()
