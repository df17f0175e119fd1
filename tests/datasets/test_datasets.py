"""The generic class-folder reader, on faces drawn by the embedded renderer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Bench
from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import dataset
from fergen_bench.datasets.prepare import prepare_dataset
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project, find_project

NAMES = {
    "surprise": "Suprise",
    "fear": "Afraid",
    "disgust": "disgusted",
    "happiness": "HA",
    "sadness": "sad",
    "anger": "Angry",
    "neutral": "NE",
}


@pytest.fixture
def folder(tmp_path: Path, web: Domain) -> Path:
    """Class folders without splits: ten faces of each expression, of five people."""
    root = tmp_path / "faces"
    for label, name in enumerate(EXPRESSIONS):
        place = root / NAMES[name]
        place.mkdir(parents=True)
        members = np.flatnonzero(web.labels == label)
        for number in range(10):
            face = Image.fromarray(np.asarray(web.faces[members[number % len(members)]]))
            face.save(place / f"p{number % 5}_{number}.png")
    return root


def prepared(folder: Path, tmp_path: Path, **settings: object) -> Domain:
    target = tmp_path / "prepared"
    chosen = DomainSettings(path=folder, **settings)  # type: ignore[arg-type]
    prepare_dataset("mine", dataset("folder", "test"), chosen, target, 1, lambda done, total: None)
    return Domain(target)


def test_class_folders_by_their_usual_names(folder: Path, tmp_path: Path, web: Domain) -> None:
    domain = prepared(folder, tmp_path)
    assert domain.about["counts"]["train"] == dict.fromkeys(EXPRESSIONS, 8)
    assert domain.about["counts"]["test"] == dict.fromkeys(EXPRESSIONS, 2)
    assert domain.about["size"] == [64, 64]
    first = np.flatnonzero(domain.ids == "Suprise/p0_0.png")[0]
    np.testing.assert_array_equal(domain.faces[first], web.faces[np.flatnonzero(web.labels == 0)[0]])


def test_the_same_folder_gives_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    one, two = prepared(folder, tmp_path / "1"), prepared(folder, tmp_path / "2")
    assert one.fingerprint == two.fingerprint
    assert prepared(folder, tmp_path / "3", split_seed=1).fingerprint != one.fingerprint


def test_subjects_are_never_split(folder: Path, tmp_path: Path) -> None:
    domain = prepared(folder, tmp_path, subject=r"^(p\d)_", test_share=0.4)
    train, test = (set(domain.subjects[domain.rows(part)]) for part in ("train", "test"))
    assert test
    assert not train & test


def test_given_splits_are_kept(folder: Path, tmp_path: Path) -> None:
    for part in ("train", "Valid", "test"):
        for name in NAMES.values():
            (tmp_path / "split" / part / name).mkdir(parents=True)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        part = ("train", "Valid", "test")[number % 3]
        path.rename(tmp_path / "split" / part / path.parent.name / path.name)
    domain = prepared(tmp_path / "split", tmp_path)
    assert {part: sum(counts.values()) for part, counts in domain.about["counts"].items()} == {
        "train": 24,
        "val": 23,
        "test": 23,
    }


@pytest.mark.parametrize(
    ("sizes", "setting", "expected"),
    [((100, 100), None, 100), ((100, 90), None, 224), ((300, 300), None, 224), ((100, 100), 48, 48)],
)
def test_faces_keep_a_small_common_size(
    folder: Path, tmp_path: Path, sizes: tuple[int, int], setting: int | None, expected: int
) -> None:
    for place, path in enumerate(sorted(folder.rglob("*.png"))):
        Image.open(path).resize((sizes[place % 2], sizes[0])).save(path)
    assert prepared(folder, tmp_path, size=setting).about["size"] == [expected, expected]


def test_grey_and_transparent_images_become_rgb(folder: Path, tmp_path: Path) -> None:
    path = folder / "HA" / "p0_0.png"
    Image.open(path).convert("L").save(path)
    other = folder / "HA" / "p1_1.png"
    Image.open(other).convert("RGBA").save(other)
    domain = prepared(folder, tmp_path)
    grey = domain.faces[np.flatnonzero(domain.ids == "HA/p0_0.png")[0]]
    assert (grey[..., 0] == grey[..., 2]).all()


def test_own_names_are_mapped_or_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "HA").rename(folder / "joy")
    (folder / "NE").rename(folder / "contempt")
    domain = prepared(folder, tmp_path, labels={"joy": "happiness", "contempt": ""})
    assert domain.about["counts"]["train"]["happiness"] == 8
    assert domain.about["counts"]["train"]["neutral"] == 0


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "joy").mkdir(), r"faces/joy: 'joy' is not a known expression; expected surprise, fear"),
        (lambda f: empty(f / "HA"), r"faces/HA: this class folder does not contain images"),
        (
            lambda f: (f / "HA" / "p0_0.png").write_bytes(b"text"),
            r"1 file is missing or cannot be read(.|\n)*faces/HA/p0_0\.png: not an image of a known",
        ),
        (lambda f: cut_short(f / "HA" / "p0_0.png"), r"p0_0\.png: image file is truncated"),
        (lambda f: (f / "train").mkdir(), r"faces/Afraid: this folder lies next to train, but is not a split"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, tmp_path: Path, spoil: object, message: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(BenchError, match=message):
        prepared(folder, tmp_path)
    assert not (tmp_path / "prepared").exists()


def test_the_error_of_an_empty_folder_lists_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchError, match="class folders are missing; expected surprise, fear"):
        prepared(tmp_path / "empty", tmp_path)


def test_a_name_without_a_subject_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"the pattern subject = 'x\(\\\\d\)' does not find a subject"):
        prepared(folder, tmp_path, subject=r"x(\d)")


def test_prepare_describe_and_run_from_the_command_line(folder: Path, project: Project, bench: Bench) -> None:
    result = bench("data", "prepare", "folder", str(folder), "--name", "mine")
    assert result.code == 0, result.err
    lines = '[suites.mine]\ndomains = ["mine"]\n# fergen-bench run --suite mine --method linear_probe\n'
    assert f"\nTo use it, write into bench.toml:\n\n{lines}" in result.err
    few = "warning: the test split, which is scored, has fewer than 20 faces of surprise (2), fear (2)"
    assert few in result.out
    described = bench("data", "describe", "data/mine")
    assert described.code == 0
    assert few in described.out
    checked = bench("data", "check", "mine")
    assert checked.code == 0
    assert few in checked.out
    assert "ok:" not in checked.out
    text = (project.root / "bench.toml").read_text()
    tables = f'[domains.raw]\npath = "{folder}"\n'
    suite = '[suites.pair]\ndomains = ["mine", "raw"]\nbackbone = "synth"\ntrunk = "synth-trunk"\nrecipe = "small"\n'
    (project.root / "bench.toml").write_text(text + tables + suite)
    result = bench("run", "--suite", "pair", "--method", "linear_probe", "--seeds", "0", "--jobs", "0", "--no-track")
    assert result.code == 0, result.err
    assert "pair · leave-none" in result.err
    assert "synthetic" not in result.err
    assert "pair (real faces)" in bench("report").out
    lab = find_project(project.root)
    folders = lab.prepared(lab.suite("pair"), ["mine", "raw"])
    assert Domain(folders["mine"]).fingerprint == Domain(folders["raw"]).fingerprint
    # A file that is added is noticed.
    (folder / "HA" / "p9_9.png").write_bytes((folder / "HA" / "p0_0.png").read_bytes())
    assert lab.prepared(lab.suite("pair"), ["raw"])["raw"] != folders["raw"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--name web1!", r"--name: 'web1!' cannot be a name"),
        ("--name a --labels joy=glee", r"--labels: joy is mapped to 'glee', which is not one of"),
        ("--name a --labels joy", r"--labels: 'joy' is not a pair; write name=value"),
        ("--name a --labels joy=happiness,joy=", r"--labels: 'joy=' occurs twice"),
        ("--name web", r"--name: 'web' is a domain that comes with the package"),
        ("--name a --to .", r"has other content. Choose an empty place with --to"),
    ],
)
def test_prepare_refuses(folder: Path, bench: Bench, arguments: str, message: str) -> None:
    result = bench("data", "prepare", "folder", str(folder), *arguments.split())
    assert result.code == 2
    assert re.search(message, result.err), result.err


def test_an_unknown_label_is_advised_in_the_options_of_the_command(folder: Path, bench: Bench) -> None:
    (folder / "HA").rename(folder / "joy")
    result = bench("data", "prepare", "folder", str(folder), "--name", "a")
    assert result.code == 2
    assert "Map it with --labels joy=happiness, or --labels joy= to leave it out" in result.err
    assert "labels = {" not in result.err
    result = bench("data", "prepare", "folder", str(folder), "--name", "a", "--labels", "joy=happiness")
    assert result.code == 0, result.err


def test_a_pattern_that_finds_one_person_is_refused(folder: Path, project: Project, bench: Bench) -> None:
    result = bench("data", "prepare", "folder", str(folder), "--name", "a", "--subject", "^(p)")
    assert result.code == 2
    assert "the test split would be empty: the pattern subject = '^(p)' finds 1 subject in 70 faces" in result.err
    assert not (project.root / "data" / "a").exists()
    result = bench("data", "prepare", "folder", str(folder), "--name", "a", "--subject", r"^(p\d)_")
    assert result.code == 0, result.err
    assert "subjects: 5" in result.out


def test_prepare_prints_the_use_of_a_domain(folder: Path, project: Project, bench: Bench) -> None:
    def prepare(name: str, *options: str) -> str:
        result = bench("data", "prepare", "folder", str(folder), "--name", name, *options)
        assert result.code == 0, result.err
        return result.err

    prepare("one")
    said = prepare("two", "--to", "else/two")
    text, toml = said.partition("write into bench.toml:\n")[2], project.root / "bench.toml"
    toml.write_text(toml.read_text() + text)
    suite = find_project(project.root).suite("mine")
    assert suite.domains == ("two", "one")
    assert text.rstrip().endswith("# fergen-bench run --suite mine --method linear_probe")
    assert prepare("one").endswith("one can be used now, in mine.\n")
    assert '[suites.mine2]\ndomains = ["three", "two", "one"]\n' in prepare("three")
    assert 'bench.toml: the table [domains.two] names other data. To use this, write path = "data/two"' in prepare(
        "two"
    )


def test_a_misspelt_domain_is_recognised_among_the_prepared_ones(folder: Path, bench: Bench) -> None:
    assert bench("data", "prepare", "folder", str(folder), "--name", "lablist").code == 0
    result = bench("data", "describe", "lablst")
    assert result.code == 2
    assert "no domain 'lablst', and no prepared folder of that name; did you mean lablist?" in result.err


@pytest.mark.parametrize(("name", "known"), [("RAF-DB", "rafdb"), ("MMAFEDB", "mma"), ("FER2013+", "ferplus")])
def test_a_dataset_by_the_name_that_people_write_is_suggested(name: str, known: str) -> None:
    with pytest.raises(BenchError, match=rf"is not a known dataset; did you mean {known}\?"):
        dataset(name, "data prepare")
