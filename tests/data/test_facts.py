"""Every record and every table name their data, and tables with different data contain a note."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from examples import SPEC, finished
from PIL import Image
from test_wild5 import RUN

from conftest import Bench
from fergen_bench.data.facts import DataFacts, facts_of
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import verdict
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project
from fergen_bench.records import frame as frames
from fergen_bench.records import store
from fergen_bench.records.record import RunRecord
from fergen_bench.report import comparison as comparing
from fergen_bench.report import data, tables

VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")


def make_ferplus(root: Path, train: int = 6, test: int = 3) -> None:
    """Write images of every expression with nine votes for it, and one in train and one in test without a majority."""
    root.mkdir()
    draw = np.random.default_rng(0)
    with (root / "fer2013.csv").open("w", newline="") as images, (root / "fer2013new.csv").open("w", newline="") as new:
        pixels, labels = csv.writer(images), csv.writer(new)
        pixels.writerow(("emotion", "pixels", "Usage"))
        labels.writerow(("Usage", "Image name", *VOTES))
        number = 0
        for usage, count in (("Training", train), ("PrivateTest", test)):
            for label, name in enumerate(EXPRESSIONS):
                for place in range(count + (label == 0)):
                    number += 1
                    face = np.clip(30 * label + draw.integers(0, 30, 48 * 48), 0, 255)
                    scattered = {name: 4, EXPRESSIONS[1]: 3, EXPRESSIONS[2]: 3}
                    votes = scattered if place == count else {name: 9}
                    pixels.writerow((0, " ".join(map(str, face)), usage))
                    labels.writerow((usage, f"fer{number:07d}.png", *(votes.get(column, 0) for column in VOTES)))


def make_lab(root: Path, faces: int = 4) -> None:
    """Write coloured images with a box each, and their table."""
    root.mkdir()
    lines = ["image,label,split,left,top,width,height"]
    for split in ("train", "test"):
        for label, name in enumerate(EXPRESSIONS):
            for place in range(faces):
                file = f"{split}-{name}-{place}.png"
                Image.new("RGB", (80, 80), (20 * label, 100 + place, 30)).save(root / file)
                lines.append(f"{file},{name},{split},20,20,40,40")
    (root / "faces.csv").write_text("\n".join(lines))


@pytest.fixture(autouse=True)
def _small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept copies with few images, which otherwise raise."""
    monkeypatch.setattr(verdict, "LEAST", 0.0)


@pytest.fixture
def lab(project: Project, bench: Bench) -> Bench:
    """Prepare a suite of an incomplete FERPlus by argmax8 and of boxes with a margin in BGR."""
    make_ferplus(project.root / "fer")
    make_lab(project.root / "own")
    for line in (
        "ferplus fer --label-rule argmax8",
        "csv own/faces.csv --name lab --margin 0.1 --emulate-bgr --size 48 --labels glee=happiness,contempt=",
    ):
        result = bench("data", "prepare", *line.split())
        assert result.code == 0, result.err
    toml = project.root / "bench.toml"
    suite = '[suites.mine]\ndomains = ["ferplus", "lab"]\nbackbone = "synth"\ntrunk = "synth-trunk"\nrecipe = "small"\n'
    toml.write_text(toml.read_text() + suite)
    return bench


def run(bench: Bench, *options: str) -> None:
    result = bench(*RUN, "--suite", "mine", *options)
    assert result.code == 0, result.err


def records(project: Project) -> Iterator[RunRecord]:
    for path in sorted((project.results / "runs").glob("*/*/*.json")):
        yield store.load(path)


DIFFERS = "train has 43 faces where 28,392 are expected; val is missing; test has 22 faces where 3,544 are expected"


def test_records_tables_and_verify_say_what_the_data_are(lab: Bench, project: Project) -> None:
    run(lab)
    for entry in records(project):
        ferplus, own = entry.data["ferplus"], entry.data["lab"]
        assert (ferplus.dataset, ferplus.layout, ferplus.complete) == ("ferplus", "ferplus-csv", False)
        assert ferplus.differs == DIFFERS
        assert (ferplus.label_rule, ferplus.label_source) == ("argmax8", "fer2013new")
        assert (ferplus.size, ferplus.crop, ferplus.bgr) == ((48, 48), "", False)
        assert (ferplus.counts, ferplus.scored, ferplus.scored_faces) == ({"train": 43, "test": 22}, "test", 22)
        assert (own.dataset, own.complete, own.crop, own.margin, own.bgr) == ("csv", None, "box", 0.1, True)
        assert own.label_map == {"glee": "happiness", "contempt": ""}
        assert own.counts == {"train": 28, "test": 28}
    shown = lab("report", "--suite", "mine")
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert any(line.startswith("ferplus ferplus ferplus-csv differs argmax8 48 px 43 22") for line in lines)
    assert "48 px, box + 10 %, BGR" in shown.out
    assert f"ferplus differs from the dataset that its owner distributes: {DIFFERS}" in shown.out
    assert "lab has its colour channels reversed (BGR)" in shown.out
    assert "lab csv csv — 2 mapped 48 px, box + 10 %, BGR 28 28" in lines
    report = project.results / "report"
    row = "| ferplus | ferplus | ferplus-csv | differs | argmax8 of fer2013new | 48 px | 43 | 22 |"
    assert row in (report / "leaderboard.md").read_text()
    frame = pd.read_csv(report / "data.csv", keep_default_na=False).set_index("domain")
    assert frame.loc["ferplus", ["complete", "differs", "label_rule"]].tolist() == ["False", DIFFERS, "argmax8"]
    assert frame.loc["ferplus", ["width", "train", "val", "test", "scored"]].tolist() == [48, 43, 0, 22, 22]
    assert frame.loc["lab", ["crop", "margin", "colours", "complete"]].tolist() == ["box", 0.1, "BGR", ""]
    assert frame.loc["lab", "label_map"] == "glee=happiness; contempt="
    page = (report / "index.html").read_text()
    assert '<td class="left">argmax8 of fer2013new</td><td class="left">48 px</td><td>43</td><td>22</td>' in page
    assert "48 px, box + 10 %, BGR" in page
    latex = (report / "leaderboard.tex").read_text()
    assert "Data: ferplus: argmax8 of fer2013new, incomplete copy; lab: glee=happiness, contempt left out" in latex
    assert (
        "% Data of ferplus: ferplus, ferplus-csv, differs, argmax8 of fer2013new, 48 px, train 43, scored 22" in latex
    )
    sound = lab("verify", "results")
    assert sound.code == 0, sound.out
    assert "ferplus has the" not in sound.out


def test_labels_by_two_rules_never_share_a_table_in_silence(lab: Bench, project: Project) -> None:
    run(lab, "--set", "max_iterations=50")
    assert lab("data", "prepare", "ferplus", "fer", "--label-rule", "majority").code == 0
    kept = "label rule: argmax8; faces: train 43, test 22, and in the newest record label rule: majority; faces:"
    run(lab, "--sources", "ferplus")
    shown = lab("report", "--suite", "mine")
    said = " ".join(shown.err.split())
    assert f"1 record on ferplus is left out ({kept} train 42, test 21)" in said
    assert f"1 score on the target ferplus is left out ({kept} train 42, test 21)" in said
    assert "to have this on the present data, give the command that made it once more" in said
    assert " majority " in shown.out
    assert "argmax8" not in shown.out
    assert "1 record on ferplus is left out" in (project.results / "report" / "index.html").read_text()
    compared = lab(
        "compare", "linear_probe", "linear_probe (max_iterations=50)", "--suite", "mine", "--sources", "ferplus"
    )
    assert compared.code == 2
    assert "'linear_probe (max_iterations=50)' cannot be compared: 1 record on ferplus is left out" in compared.err
    found = lab("verify", "results", "--all").out
    assert "mine: ferplus has the label rule argmax8 in the records and majority here" in " ".join(found.split())


def test_records_of_early_versions_have_the_facts_of_the_same_faces_here(lab: Bench, project: Project) -> None:
    run(lab)
    for entry in records(project):
        store.save(replace(entry, data={}), project.results / "runs")
    assert " argmax8 " in lab("report", "--suite", "mine").out
    assert "2 records lack facts about the data" in lab("verify", "results", "--all").out
    assert lab("data", "prepare", "ferplus", "fer", "--label-rule", "majority").code == 0
    shown = lab("report", "--suite", "mine")
    assert shown.code == 0
    assert "not recorded" in shown.out
    assert "argmax8" not in shown.out


def test_facts_that_a_fingerprint_contradicts_are_a_fault(lab: Bench, project: Project) -> None:
    run(lab)
    first, second = records(project)
    wrong = replace(first.data["lab"], size=(64, 64), counts={"train": 28, "test": 27})
    store.save(replace(first, data={**first.data, "lab": wrong}), project.results / "runs")
    result = lab("verify", "results", "--all")
    said = " ".join(result.out.split())
    assert result.code == 1
    assert "28 faces are scored of lab, and the part has 27" in said
    assert "fault: mine: lab has the size 64 × 64 in the records and 48 × 48 here" in said
    stranger = replace(second, data={"elsewhere": DataFacts()})
    path = store.save(stranger, project.results / "runs")
    with pytest.raises(BenchError, match="facts about 'elsewhere', which is not one of its domains"):
        store.load(path)


def test_a_rendered_suite_takes_one_line(bench: Bench, project: Project) -> None:
    result = bench("run", "--method", "linear_probe", "--seeds", "0", "--sources", "web", "--no-track", "--jobs", "0")
    assert result.code == 0, result.err
    out = bench("report").out
    assert out.count("Data") == 1
    assert "Data: rendered, version 2, 64 px; 200 to 400 faces to train on, 100 scored\n" in out
    assert json.loads(next((project.results / "runs").glob("*/*/*.json")).read_text())["data"]["web"]["layout"]


def test_a_rule_without_published_counts_is_not_called_complete() -> None:
    about = {"whole": True, "expected": {}, "size": [48, 48], "counts": {}, "verdict": "9 faces"}
    assert facts_of(about).complete is None
    assert facts_of({**about, "expected": {"train": {}}}).complete is True


def entry(facts: DataFacts, **changes: Any) -> RunRecord:
    """Return a record of a run that was trained and scored on a domain x in a state of its own."""
    state = facts.label_rule
    spec = replace(SPEC, sources=("x",), fingerprints={"x": state}, targets={"x": state}, relations={"x": "source"})
    return finished(replace(spec, **changes), data={"x": facts})


MAJORITY = DataFacts("ferplus", "ferplus-csv", True, label_rule="majority", size=(48, 48), counts={"test": 7})
ARGMAX8 = replace(MAJORITY, label_rule="argmax8")


def test_rows_of_two_label_rules_are_not_compared() -> None:
    entries = [entry(MAJORITY), entry(ARGMAX8, profile="cafe", method="scn")]
    boards = list(tables.with_data(tables.boards(frames.cells_frame(entries), "accuracy"), entries))
    one, other = comparing.find_rows(boards, "cafe (gate=sigmoid)", "scn (gate=sigmoid)")
    said = (
        r"run on different data of x \(label rule: majority, and in the other row label rule: argmax8\); run both on "
        r"one of them, or leave the domain out with --sources and --targets"
    )
    with pytest.raises(BenchError, match=said):
        comparing.require_same_data(one, other, entries)
    comparing.require_same_data(one, one, entries)


def test_two_label_rules_of_one_dataset_side_by_side_are_said() -> None:
    both = {"x": data.Described("1", MAJORITY, (7,)), "y": data.Described("2", ARGMAX8, (7,))}
    (note,) = data.cautions(both)
    assert note == (
        "2 label rules of ferplus stand side by side (x: majority; y: argmax8): these domains are different targets"
    )
    assert data.cautions({**both, "y": both["x"]}) == []


def test_versions_and_domains_that_differ_are_told_apart_among_what_is_left_out() -> None:
    new = {"started": "2026-02-01T00:00:00+00:00"}
    fresh = replace(entry(MAJORITY, seed=2), **new)
    given = [entry(ARGMAX8), entry(ARGMAX8, seed=1), entry(MAJORITY, version=0), fresh]
    found = data.superseded(given, frames.current(given))
    assert {why.partition("; to have")[0]: len(left) for why, left in found.items()} == {
        "2 records on x are left out (label rule: argmax8, and in the newest record label rule: majority): "
        "cafe (gate=sigmoid) 2": 2,
        "1 record is left out, since newer ones have other defaults, versions, numerics or weights: "
        "cafe (gate=sigmoid) 1": 1,
    }
    unknown = [replace(given[0], data={}), fresh]
    (why,) = data.superseded(unknown, frames.current(unknown))
    assert why.startswith("1 record on x is left out (other faces or labels): cafe (gate=sigmoid) 1; to have")
