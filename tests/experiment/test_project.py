from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import SPEC
from PIL import Image

from conftest import ROOT
from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import write_prepared
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project, find_project
from fergen_bench.experiment.protocol import read_protocol

METHOD = '''"""Mine."""
from dataclasses import dataclass
from fergen_bench import Method
@dataclass
class Mine(Method):
    x: int = 1
    def fit(self, source, ctx): ...
    def predict(self, images): ...
'''


def write(folder: Path, text: str) -> Project:
    (folder / "bench.toml").write_text(text)
    return find_project(folder)


def test_the_project_is_the_nearest_bench_toml_upwards(tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text("")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_project(deep).root == tmp_path
    assert find_project(deep).configured


def test_without_bench_toml_the_project_is_where_you_stand(tmp_path: Path) -> None:
    project = find_project(tmp_path)
    if not project.configured:
        assert project.root == tmp_path
        assert project.settings.suite == "synth5"
        assert project.results == tmp_path / "results"


def test_own_methods_and_protocols_come_before_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "protocols").mkdir()
    (tmp_path / "methods" / "cafe.py").write_text(METHOD)
    (tmp_path / "methods" / "_helper.py").write_text("")
    (tmp_path / "protocols" / "smoke.yaml").write_text("about: mine\n")
    project = write(tmp_path, "")
    assert project.method("cafe").about == "Mine."
    assert "_helper" not in project.methods()
    assert project.protocol_path("smoke").parent == tmp_path / "protocols"
    assert project.method("linear_probe").path == ROOT / "methods" / "linear_probe.py"


def test_methods_of_installed_packages_are_found_without_importing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, info = tmp_path / "their_package", tmp_path / "their_package-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "idea.py").write_text(METHOD + "raise SystemExit('imported')\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fergen_bench.methods]\ntheirs = their_package.idea:Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    method = Project(tmp_path, configured=False).method("theirs")
    assert (method.name, method.path) == ("theirs", package / "idea.py")


def test_an_installed_package_that_has_gone_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "gone-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gone\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fergen_bench.methods]\ngone = gone_package.idea:Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "gone" not in Project(tmp_path, configured=False).methods()


def test_weights_beside_bench_toml_are_found_from_a_subfolder(tmp_path: Path) -> None:
    text = '[domains.a]\npath = "x"\n[suites.mine]\ndomains = ["a"]\nbackbone = "synth/./w.pt"\n'
    assert write(tmp_path, text).suite("mine").backbone == f"synth/{tmp_path / 'w.pt'}"


@pytest.mark.parametrize(
    ("look_up", "message"),
    [
        (
            lambda p: p.method("cafee"),
            r"no method 'cafee' in .*methods or the shipped ones; did you mean cafe\? See: fergen-bench list",
        ),
        (lambda p: p.protocol_path("leave-nun"), r"no protocol 'leave-nun' .*did you mean leave-none\?"),
        (lambda p: p.suite("synth"), r"no suite 'synth'; did you mean synth5\?"),
        (lambda p: p.suite("qqq"), r"no suite 'qqq'; there are mine, synth5"),
        (lambda p: p.suite("mine"), r"suites\.mine: there is no table \[domains\.b\], nor a prepared .*; there is a\."),
    ],
)
def test_an_unknown_name_says_what_there_is(tmp_path: Path, look_up: object, message: str) -> None:
    project = write(tmp_path, '[domains.a]\npath = "x"\n[suites.mine]\ndomains = ["a", "b"]\n')
    with pytest.raises(BenchError, match=message):
        look_up(project)  # type: ignore[operator]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    project = write(tmp_path, '[domains.a]\npath = "nowhere"\n[suites.mine]\ndomains = ["a"]\n')
    with pytest.raises(BenchError, match=r"domains\.a\.path: there is no .*nowhere"):
        project.prepared(project.suite("mine"), ["a"])


def prepare(folder: Path, name: str, **about: object) -> None:
    columns = {"id": ["a", "b"], "expression": ["fear", "anger"], "split": ["train", "test"]}
    write_prepared(folder, name, [np.zeros((2, 48, 48, 3), np.uint8)], columns, about)


def test_a_dataset_under_another_name_keeps_what_is_known_of_it(tmp_path: Path) -> None:
    prepare(tmp_path / "data" / "mine", "mine", dataset="ferplus")
    prepare(tmp_path / "elsewhere", "theirs", dataset="mma")
    prepare(tmp_path / "data" / "web_faces", "web_faces", dataset="expw")
    prepare(tmp_path / "data" / "more", "more", dataset="expw")
    prepare(tmp_path / "data" / "lab", "lab", dataset="folder")
    names = '["mine", "theirs", "web_faces", "more", "lab"]'
    project = write(tmp_path, f'[domains.theirs]\npath = "elsewhere"\n[suites.all]\ndomains = {names}\n')
    assert project.dataset_of("mine") == "ferplus"
    assert project.dataset_of("theirs") == "mma"
    assert {frozenset(pair) for pair in project.suite("all").overlaps} == {
        frozenset(pair)
        for pair in (
            ("mine", "theirs"),
            ("theirs", "web_faces"),
            ("theirs", "more"),
            ("web_faces", "more"),  # two copies of one dataset
        )
    }


def test_what_a_prepared_folder_cannot_become_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path / "bgr", "bgr", dataset="rafdb", emulate_bgr=True)
    text = '[domains.bgr]\npath = "bgr"\nsize = 48\nemulate_bgr = {}\n[suites.mine]\ndomains = ["bgr"]\n'
    project = write(tmp_path, text.format("true"))
    assert project.prepared(project.suite("mine"), ["bgr"]) == {"bgr": tmp_path / "bgr"}
    project = write(tmp_path, text.format("false"))
    with pytest.raises(BenchError, match=r"domains\.bgr\.emulate_bgr would do nothing: .*bgr is prepared already"):
        project.prepared(project.suite("mine"), ["bgr"])


def test_images_that_a_table_names_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any directory; changes of these files are noticed, and changes of their neighbours are not."""
    for number, name in enumerate(EXPRESSIONS * 5):
        place = tmp_path / "images" / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (number, 0, 0)).save(place)
        with (tmp_path / "faces.csv").open("a") as file:
            file.write("image,label\n" * (number == 0) + f"{number}.png,{name}\n")
    table = '[domains.mine]\ndataset = "csv"\npath = "faces.csv"\nimages = "images"\n'
    project = write(tmp_path, table + '[suites.mine]\ndomains = ["mine"]\n')
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    first = project.prepared(project.suite("mine"), ["mine"])
    (tmp_path / "images" / "beside.png").write_text("")
    assert project.prepared(project.suite("mine"), ["mine"]) == first
    Image.new("RGB", (20, 20), (0, 200, 0)).save(tmp_path / "images" / "3.png")
    again = project.prepared(project.suite("mine"), ["mine"])
    assert again != first
    assert Domain(again["mine"]).faces[3, 0, 0].tolist() == [0, 200, 0]


def test_links_that_lead_nowhere_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "faces" / "happy").mkdir(parents=True)
    (tmp_path / "faces" / "happy" / "1.png").symlink_to(tmp_path / "faces" / "nowhere.png")
    for name in ("one", "two"):  # and links round and round have an end
        (tmp_path / "faces" / name).symlink_to(".")
    project = write(tmp_path, '[domains.mine]\npath = "faces"\n[suites.mine]\ndomains = ["mine"]\n')
    assert not project.is_prepared(project.suite("mine"), ["mine"])


def test_a_prepared_domain_is_found_again(cache: Path) -> None:
    project = Project(cache.parents[1], configured=False)
    before = (cache / "domains" / "synth5-tiny-v2" / "web" / "domain.json").stat().st_mtime_ns
    folder = project.prepared(project.suite("synth5-tiny"), ["web"])["web"]
    assert (folder / "domain.json").stat().st_mtime_ns == before


def test_hidden_files_are_no_methods_protocols_or_domains(tmp_path: Path) -> None:
    """macOS writes ._NAME for every file on a foreign disk."""
    plain = find_project(tmp_path).names()
    for folder, name in (("methods", "._mine.py"), ("protocols", "._mine.yaml"), ("data/.lab.old", "domain.json")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        \xff")
    assert find_project(tmp_path).names() == plain


@pytest.mark.parametrize("ending", ["yaml", "yml", "YML"])
def test_both_usual_endings_of_yaml_are_protocols(tmp_path: Path, ending: str) -> None:
    (tmp_path / "protocols").mkdir()
    path = tmp_path / "protocols" / f"gates.{ending}"
    path.write_text("about: gates\n", encoding="utf-8-sig")
    project = Project(tmp_path, configured=False)
    assert project.protocol_path("gates") == path
    assert read_protocol(path).about == "gates"


def test_two_files_of_one_protocol_are_refused(tmp_path: Path) -> None:
    (tmp_path / "protocols").mkdir()
    for ending in ("yaml", "yml"):
        (tmp_path / "protocols" / f"gates.{ending}").write_text("about: gates\n", encoding="utf-8")
    with pytest.raises(BenchError, match=r"gates\.yml: gates\.yaml has the same name; remove one"):
        Project(tmp_path, configured=False).protocol_path("gates")


def test_a_misspelt_ending_is_named(tmp_path: Path) -> None:
    for folder, name in (("protocols", "gates.yaml.txt"), ("methods", "mine.txt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    project = Project(tmp_path, configured=False)
    with pytest.raises(BenchError, match=r"gates\.yaml\.txt is there: rename it to gates\.yaml\."):
        project.protocol_path("gates")
    with pytest.raises(BenchError, match=r"mine\.txt is there: rename it to mine\.py\."):
        project.method("mine")


def test_the_part_that_a_profile_scores(tmp_path: Path) -> None:
    about = find_project(tmp_path).scored_parts("sfew")
    run = replace(SPEC, sources=("rafdb",))
    assert run.scored_part("sfew", about) == "test"
    assert replace(run, profile="cafe").scored_part("sfew", about) == "train"
    assert replace(run, profile="cafe", sources=("sfew",)).scored_part("sfew", about) == "test"


def test_what_weights_were_trained_on_is_declared_by_known_names(tmp_path: Path) -> None:
    text = '[pretraining]\n"w.pth" = ["ms-celeb-1m", "affectnet"]\n'
    (tmp_path / "bench.toml").write_text(text)
    assert find_project(tmp_path).settings.pretraining == {"w.pth": ["ms-celeb-1m", "affectnet"]}
    (tmp_path / "bench.toml").write_text(text.replace("affectnet", "afectnet"))
    with pytest.raises(BenchError, match=r"bench.toml:2: pretraining: 'afectnet' is neither a dataset .*affectnet"):
        assert find_project(tmp_path).settings
