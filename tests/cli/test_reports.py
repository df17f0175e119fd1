"""`fergen-bench report` and `choose`: remarks, choices, and records in unexpected places."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import SPEC, finished, litter

from conftest import Bench
from fergen_bench.api import prepared
from fergen_bench.cli import reports
from fergen_bench.cli.templates import method_template
from fergen_bench.data.prepared import write_prepared
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import read_protocol
from fergen_bench.records.counting import load_all
from fergen_bench.records.record import Cell
from fergen_bench.records.store import save


def test_a_report_names_expressions_that_a_source_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"id": ["a", "b"], "expression": ["anger", "neutral"], "split": ["train", "test"]}
    write_prepared(tmp_path / "web", "web", [np.zeros((2, 8, 8, 3), np.uint8)], columns, {"profile": "official"})
    monkeypatch.setattr(prepared, "folder", lambda project, suite, name: tmp_path / name)
    said = prepared.lacking(Project(tmp_path, configured=False), [finished(replace(SPEC, sources=("web",)))])
    assert len(said) == 1
    assert "the source web has no training images of surprise, fear, disgust, happiness, sadness, neutral" in said[0]


def test_parameters_are_chosen_without_targets(project: Project, bench: Bench) -> None:
    (project.root / "methods").mkdir()
    (project.root / "methods" / "tiny.py").write_text(method_template("tiny", "gradient"))
    refused = bench("choose")
    assert refused.code == 2
    assert "no run on synth5-tiny has a score on held-out images of its source" in refused.err
    arguments = ("--sources", "film", "--set", "epochs=1", "--jobs", "0", "--no-track")
    assert bench("run", "--method", "tiny", "--protocol", "learning-rate", *arguments).code == 0
    records = [json.loads(path.read_text()) for path in (project.results / "runs").glob("*/*/*.json")]
    assert len(records) == len(read_protocol(project.protocol_path("learning-rate")).variants)
    assert all(record["cells"] == [] for record in records)
    for command in (("report",), ("report", "--selection", "source-val"), ("compare", "tiny", "tiny (epochs=1)")):
        refused = bench(*command)
        assert refused.code == 2
        said = "these runs scored no target. Compare them with: fergen-bench choose --suite synth5-tiny"
        assert said in refused.err, refused.err
    shown = bench("choose").out
    assert re.search(r"tiny +[\d.]+ .*\n +epochs=1 *\n +learning_rate=0.001", shown)
    assert "film" in shown
    assert "last epoch, 50% of the data" in shown
    assert "left out" not in shown
    assert re.search(r"tiny, (highest|best): learning_rate=0.00\d+", shown)
    assert re.search(r"Only \d\d held-out faces", shown)
    runs = project.results / "runs"
    one, other, *_ = load_all(runs)[0]
    shutil.rmtree(runs)
    save(one, runs)
    save(replace(other, spec=replace(other.spec, seed=1)), runs)
    assert "were not trained on the same sources and seeds, so none is compared" in bench("choose").out


def test_missing_and_existing_records_are_named(project: Project, bench: Bench) -> None:
    for suite in ("one", "two"):
        save(finished(replace(SPEC, suite=suite)), project.results / "runs")
    for command in (("report",), ("compare", "cafe", "scn"), ("choose",)):
        refused = bench(*command)
        assert (refused.code, "name one: --suite one or two" in refused.err) == (2, True), refused.err
    for command in ("report", "choose"):
        refused = bench(command, "--suite", "one", "-m", "caffe")
        assert refused.code == 2
        assert "no records of 'caffe' on one; did you mean cafe?" in refused.err


def right(share: int) -> list[list[int]]:
    """A confusion with so many of 7,000 faces right, as many of each expression."""
    return [[share // 7 if row == column else (1000 - share // 7) // 6 for column in range(7)] for row in range(7)]


def test_copies_of_record_files_change_no_number(project: Project, bench: Bench) -> None:
    runs = project.results / "runs"
    for method, base in (("cafe", 1120), ("scn", 2800)):
        for seed in (0, 1):
            spec = replace(SPEC, method=method, seed=seed)
            cells = [Cell("a", "f1", "source", right(6720)), Cell("b", "f2", "unseen", right(base + 504 * seed))]
            save(finished(spec, cells=tuple(cells), started=f"2026-01-01T0{seed}:00:00+00:00"), runs)
    before = bench("report", "--to", str(project.root / "before"))
    assert re.search(r"cafe .*19\.6", before.out), before.out
    strays = litter(SPEC.path(runs))
    for command in (
        ("report", "--to", str(project.root / "after")),
        ("compare", "cafe", "scn"),
        ("choose",),
        ("verify", str(project.results)),
        ("sync",),
    ):
        said = bench(*command)
        text = " ".join((said.out + said.err).split())
        assert text.count(f"{strays} files are not records in their own places") == 1, (command, text)
        if command[0] == "report":
            assert re.search(r"cafe .*19\.6", said.out), said.out
        if command[0] == "sync":
            assert "4 of 4 records" in said.err
    one, other = ((project.root / folder / "leaderboard.csv").read_bytes() for folder in ("before", "after"))
    assert one == other


def test_a_report_shows_that_it_reads_records(project: Project, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def busy(console: object, what: str) -> AbstractContextManager[None]:
        shown.append(what)
        return nullcontext()

    monkeypatch.setattr(reports, "busy", busy)
    assert bench("report").code == 2  # there are no records
    assert shown == ["reading records"]
