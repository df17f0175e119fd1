"""The filter of reports and comparisons: what it leaves, what it refuses, and where it is named."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest
from examples import SPEC
from running import FOLLOW, MINE
from sample_predictions import matrix

import fergen_bench as fb
from conftest import Bench
from fergen_bench.api.options import table
from fergen_bench.cli.reports import compare, report
from fergen_bench.experiment.project import Project

ROOT = Path(__file__).parents[2]


@pytest.fixture
def halves(project: Project) -> Project:
    """Return a project with records of two methods, three sources, two seeds and two shares of the data."""
    for method, skill in (("good", 0.7), ("poor", 0.55)):
        for fraction in (1.0, 0.5):
            matrix(project.results / "runs", method, skill, suite="s", fraction=fraction)
    return project


def test_each_option_is_a_flag_of_both_commands_and_a_keyword() -> None:
    names = [one.name for one in fields(fb.RecordFilter)]
    for command in (report, compare):
        assert [parameter.name for parameter in command.params if parameter.name in names] == names
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert table(fb.RecordFilter, "report").replace("`fb.report`", "`fb.load_results`") in page


def test_every_value_of_a_filter_leaves_its_records(halves: Project) -> None:
    found = fb.load_results("results", "s", seeds=1, fraction=0.5, sources=["b", "a"], targets=["a", "b"])
    specs = [record.spec for record in found.records]
    assert {(spec.seed, spec.fraction, *spec.sources) for spec in specs} == {(1, 0.5, "a"), (1, 0.5, "b")}
    assert set(found.cells.target) == {"a", "b"}
    text = "fraction 50%, seed 1, sources b and a, targets a and b"
    assert found.only.text == text
    assert f"only {text}: 4 of 24 records" in found.notes
    (view,) = found.views()
    assert view.title.endswith(f"; only {text}")
    assert found.leaderboard().only.tolist() == [text, text]
    whole = fb.load_results("results", "s")
    assert whole.filtered(seeds=1, fraction=0.5, sources=["b", "a"], targets=["a", "b"]).only == found.only
    assert whole.leaderboard().only.tolist() == [""] * 4
    assert not any(note.startswith("only ") for note in whole.notes)


def test_a_filter_does_not_make_superseded_records_current(halves: Project) -> None:
    newer = replace(SPEC, suite="s", method="good", seed=0, sources=("a",), targets={}, relations={})
    matrix(halves.results / "runs", "good", 0.7, seeds=1, suite="s", version=2)
    assert newer.method in {record.spec.method for record in fb.load_results("results", "s").records}
    assert fb.load_results("results", "s", fraction=1.0).filtered(methods="good").records[0].spec.version == 2
    with pytest.raises(fb.BenchError, match="seeds: no record of s has 7"):
        fb.load_results("results", "s", seeds=7)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"seeds": [0, 9]}, r"--seeds: no record of s has 9\. There are: 0, 1\."),
        ({"fraction": 0.3}, r"--fraction: no record of s has 0\.3\. There are: 0\.5, 1\.0\."),
        ({"sources": "d"}, r"--sources: no record of s has 'd'"),
        ({"targets": "d"}, r"--targets: no record of s has 'd'"),
        ({"protocol": "leave-non"}, "leave-non"),
        ({"selection": "best"}, "selection: 'best' is not a selection"),
    ],
)
def test_a_value_that_no_record_has_is_named(halves: Project, filters: dict[str, object], message: str) -> None:
    with pytest.raises(fb.BenchError, match=message):
        fb.load_results("results", "s", **filters)
    records = fb.load_results("results", "s").records
    finished = replace(records[0], spec=replace(records[0].spec, sources=()))
    with pytest.raises(fb.BenchError, match=r"has 'zzz'; there are a, b and c\."):
        fb.RecordFilter(sources=("zzz",)).chosen([*records, finished], halves, "s")
    with pytest.raises(TypeError, match=r"load_results\(\) has no keyword 'seed'; did you mean seeds\?"):
        fb.load_results("results", "s", seed=0)


def test_the_command_line_names_the_filter_in_every_output(halves: Project, bench: Bench) -> None:
    told = "only fraction 50%, seed 0"
    said = bench("compare", "poor", "good", "--suite", "s", "--fraction", "0.5", "--seeds", "0")
    assert said.code == 0, said.err
    assert told in " ".join(said.out.split())
    assert f"{told}: 6 of 24 records" in " ".join(said.err.split())
    refused = bench("report", "--suite", "s", "--seeds", "4")
    assert (refused.code, "--seeds: no record of s has 4" in refused.err) == (2, True)


def test_a_report_names_its_filter_in_every_file(halves: Project, bench: Bench) -> None:
    said = bench("report", "--suite", "s", "--sources", "a", "-m", "good", "--fraction", "1")
    assert said.code == 0, said.err
    assert "Report of s, only good; only fraction 100%, source a: " in " ".join(said.out.split())
    folder = halves.results / "report"
    for name in ("index.html", "leaderboard.md"):
        assert "only fraction 100%, source a" in (folder / name).read_text(), name
    assert r"only fraction 100\%, source a" in (folder / "leaderboard.tex").read_text()
    assert pd.read_csv(folder / "leaderboard.csv").only.tolist() == ["fraction 100%, source a"]


def test_a_protocol_leaves_the_runs_that_it_plans_whichever_made_them(results: fb.Results, project: Project) -> None:
    (project.root / "protocols").mkdir()
    text = "about: x\nsources: [web]\nseeds: [5]\nmethod: linear_probe\n"
    (project.root / "protocols" / "mine.yaml").write_text(text)
    found = fb.load_results("results", protocol="mine")
    assert [(record.spec.method, record.spec.sources) for record in found.records] == [("linear_probe", ("web",))]
    assert {record.spec.protocol for record in found.records} == {"leave-none"}
    assert len(fb.load_results("results", protocol="leave-none").records) == len(results.records)
    with pytest.raises(fb.BenchError, match="no record of synth5-tiny has all of: protocol mine, source film"):
        fb.load_results("results", protocol="mine", sources="film")


def test_a_protocol_leaves_online_runs_and_the_runs_that_they_start_from(project: Project, bench: Bench) -> None:
    for folder in ("methods", "protocols"):
        (project.root / folder).mkdir()
    (project.root / "methods" / "mine.py").write_text(MINE)
    (project.root / "methods" / "follow.py").write_text(FOLLOW)
    text = "about: x\nsources: [web]\nseeds: [0]\nmethod: follow\nvariants: {a: {}, b: {stream: sorted}}\n"
    (project.root / "protocols" / "online-here.yaml").write_text(text)
    quick = {"seeds": [0], "jobs": 0, "track": False}
    fb.run(methods=["mine"], sources=["web", "film"], keep_models=True, **quick)  # the base, by another protocol
    fb.run(methods=["mine"], sources=["web"], parameters={"shift": 2.0}, **quick)
    fb.run(methods=["follow"], sources=["web"], parameters={"stream_batch": 8}, **quick)
    fb.run(protocol="online-here", jobs=0, track=False)
    found = fb.load_results("results", protocol="online-here")
    assert sorted(record.spec.title for record in found.records) == [
        "follow (stream=sorted) on web, seed 0",
        "follow on web, seed 0",
        "mine on web, seed 0",
    ]
    table = found.leaderboard()
    assert table.groupby("online").method.agg(list).to_dict() == {
        False: ["mine"],
        True: ["follow", "follow (stream=sorted)"],
    }
    said = bench("report", "--protocol", "online-here")
    assert said.code == 0, said.err
    assert "adapted online to the unlabelled test images" in " ".join(said.out.split())
    assert "Bases: mine, for follow" in said.out
    assert "follow (stream_batch=8)" not in said.out
