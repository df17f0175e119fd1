"""The claim of a number: unseen only after a comparison, near-duplicates left out, the same number everywhere."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import Bench
from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import write_prepared
from fergen_bench.experiment.project import Project, find_project
from fergen_bench.records import listing, store
from fergen_bench.records.counting import load_all
from fergen_bench.records.frame import cells_frame
from fergen_bench.records.record import RunRecord
from fergen_bench.report import comparison, notes, statistics

RUN = ("run", "--method", "nearest_prototype", "--seeds", "0", "--jobs", "0", "--no-track")
SUITE = """
[suites.{name}]
domains = [{domains}]
backbone = "synth"
trunk = "synth-trunk"
recipe = "small"
"""


def prepare(folder: Path, web: Domain, rows: np.ndarray, test: int, planted: np.ndarray | None = None) -> None:
    """A domain of some faces of web, of which the last `test` are scored; the first of these are replaced."""
    faces = np.array(web.faces[np.sort(rows)])
    labels = web.labels[np.sort(rows)]
    if planted is not None:
        faces[len(rows) - test : len(rows) - test + len(planted)] = planted
    splits = ["train"] * (len(rows) - test) + ["test"] * test
    columns = {
        "id": [f"{split}-{place}" for place, split in enumerate(splits)],
        "expression": [EXPRESSIONS[label] for label in labels],
        "split": splits,
    }
    write_prepared(folder, folder.name, [faces], columns, {})


@pytest.fixture
def lab(project: Project, web: Domain) -> Project:
    """Two domains of different faces; the first two test faces of `two` are training faces of `one`, one of them a
    little darker.
    """
    rows = np.arange(len(web.labels))
    train = np.array(web.faces[rows[:2]])
    train[1] = (train[1] * 0.85).astype(np.uint8)
    prepare(project.root / "one", web, rows[:150], 50)
    prepare(project.root / "two", web, rows[150:300], 50, train)
    text = (project.root / "bench.toml").read_text()
    text += '[domains.one]\npath = "one"\n[domains.two]\npath = "two"\n'
    text += SUITE.format(name="pair", domains='"one", "two"') + SUITE.format(name="turned", domains='"two", "one"')
    (project.root / "bench.toml").write_text(text)
    return find_project(project.root)


def unseen(lab: Project, name: str = "unseen") -> float:
    table = pd.read_csv(lab.results / "report" / "leaderboard.csv")
    return float(table[name].iloc[0])


def expected(lab: Project, without: int) -> float:
    """The unseen mean from stored predictions, without the first faces of two."""
    records, _ = listing.read_all(lab.results / "runs")
    scores = []
    for entry in records:
        for target, said in store.RecordFile.open(entry.spec.path(lab.results / "runs")).predictions().items():
            if target not in entry.spec.sources:
                right = said.logits.argmax(1) == said.labels
                scores.append(100 * right[without if target == "two" else 0 :].mean())
    assert len(scores) == 2
    return float(np.mean(scores))


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_from_not_audited_to_left_out_and_the_notebook_says_what_the_report_says(lab: Project, bench: Bench) -> None:
    first = bench(*RUN, "--suite", "pair", "--no-audit")
    assert first.code == 0, first.err
    assert "not audited: one, two were never compared for near-duplicates" in first.err
    assert first.err.count("(not audited)") == 2
    shown = flat(bench("report", "--suite", "pair", "--matrices").out)
    assert "Not audited: 2 of 2 unseen cells" in shown
    assert "fergen-bench data audit --suite pair" in shown
    page, tex = ((lab.results / "report" / name).read_text() for name in ("leaderboard.md", "leaderboard.tex"))
    assert page.count(", not audited |") == 2
    assert "Not audited: 2 of 2 unseen cells" in tex.partition("begin{tabular}")[0]
    assert "not audited" in (lab.results / "report" / "index.html").read_text()
    assert (unseen(lab, "unseen_not_audited"), unseen(lab, "unseen_cells")) == (2, 2)
    assert unseen(lab) == pytest.approx(expected(lab, 0), abs=1e-3)

    again = bench(*RUN, "--suite", "pair")  # two of fifty faces are below 5 %
    assert (
        "audited one, two, which were never compared for near-duplicates: 2 pairs of images were found (" in again.err
    )
    assert "(other crops of a picture cannot be found)" in again.err
    assert "1 record was counted again" in again.err
    shown = flat(bench("report", "--suite", "pair", "--matrices").out)
    assert "ot audited" not in shown
    assert "(-2)" in shown
    assert unseen(lab) == pytest.approx(expected(lab, 2), abs=1e-3)
    assert unseen(lab, "near_duplicates_left_out") == 2
    bench("report", "--suite", "pair", "--include-near-duplicates")
    assert unseen(lab) == pytest.approx(expected(lab, 0), abs=1e-3)

    bench("report", "--suite", "pair")
    records, faults = load_all("results/runs")
    cells = cells_frame(records)
    assert faults == []
    assert cells[cells.relation == "unseen"].accuracy.mean() == pytest.approx(unseen(lab), abs=1e-3)
    assert cells.accuracy.mean() == pytest.approx(unseen(lab, "all"), abs=1e-3)
    assert load_all(lab.results / "runs") == (records, faults)


def test_a_report_after_a_later_audit_under_another_suite_counts_the_same(lab: Project, bench: Bench) -> None:
    assert bench(*RUN, "--suite", "pair", "--no-audit").code == 0
    shown = bench("data", "audit", "--suite", "turned")
    assert shown.code == 0
    assert "note: Crops of a picture to 92 % of its side or less are not found" in flat(shown.out)
    files = {path: path.read_bytes() for path in (lab.results / "runs").rglob("*.json")}
    bench("report", "--suite", "pair")
    assert unseen(lab) == pytest.approx(expected(lab, 2), abs=1e-3)
    assert {path: path.read_bytes() for path in files} == files
    for path in (lab.results / "runs").rglob("*.npz"):
        path.unlink()
    shown = flat(bench("report", "--suite", "pair", "--matrices").out)
    assert "Not counted again: 1 cell of nearest_prototype" in shown
    assert "make them with: fergen-bench run --suite pair --method nearest_prototype --rerun" in shown


def test_a_changed_domain_makes_its_audit_stale(lab: Project, bench: Bench, web: Domain) -> None:
    assert bench(*RUN, "--suite", "pair").code == 0
    shutil.rmtree(lab.root / "two")
    prepare(lab.root / "two", web, np.arange(151, 301), 50)
    assert bench(*RUN, "--suite", "pair", "--no-audit").code == 0
    shown = flat(bench("report", "--suite", "pair", "--matrices").out)
    assert "Stale audit: faces or labels of two changed since they were compared; compare them again with: " in shown
    assert bench("data", "audit", "--suite", "pair").code == 0
    assert "Stale" not in bench("report", "--suite", "pair").out


def test_one_folder_under_two_names_is_seen_and_the_progress_says_why_there_is_no_mean(
    lab: Project, bench: Bench
) -> None:
    with (lab.root / "bench.toml").open("a") as file:
        file.write('[domains.same]\npath = "one"\n' + SUITE.format(name="twice", domains='"one", "same"'))
    result = bench(*RUN, "--suite", "twice")
    assert result.err.count("unseen — (its targets are seen)") == 2, result.err
    shown = flat(bench("report", "--suite", "twice", "--matrices").out)
    assert "seen (the same faces): source and target are one domain under two names" in shown
    assert "No unseen mean: all 2 cells between domains are seen" in shown
    alone = bench(*RUN, "--suite", "pair", "--sources", "one", "--targets", "one")
    assert "unseen — (no other domain is scored)" in alone.err


def test_a_comparison_pairs_what_both_have_and_names_what_is_unbalanced(lab: Project, bench: Bench) -> None:
    assert bench(*RUN, "--suite", "pair").code == 0
    (one, two), _ = load_all("results/runs")

    def other(entry: RunRecord, seed: int, method: str) -> RunRecord:
        return replace(entry, spec=replace(entry.spec, seed=seed, method=method))

    first = [other(entry, seed, "a") for seed in (0, 1) for entry in (one, two)]
    second = [other(one, 0, "b"), other(two, 0, "b"), other(one, 1, "b")]
    cells = cells_frame([*first, *second])
    rows = [cells[cells.method.str.startswith(name)] for name in "ab"]
    found = comparison.compare(*rows, statistics.Evidence(), "accuracy")
    assert found.seeds == 1
    source = "+".join(one.spec.sources)
    assert found.unbalanced == (
        f"seed 1 has 1 of 2 sources ({source}), 1 of 2 unseen cells",
        f"left out, since the first row alone has it: {'+'.join(two.spec.sources)}, seed 1",
    )
    assert found.unseen.value == pytest.approx(0)


def test_each_source_and_target_counts_the_same_however_many_seeds_it_has() -> None:
    def row(source: str, seed: int, value: float) -> dict[str, object]:
        return {"source": source, "target": "t", "adapted_to": "", "seed": seed, "key": f"{source}{seed}", "x": value}

    zero = pd.DataFrame([row("a", 0, 0), row("a", 1, 0), row("b", 0, 0)])
    some = pd.DataFrame([row("a", 0, 2), row("a", 1, 4), row("b", 0, 9)])
    assert statistics.Evidence().difference(zero, some, "x").value == pytest.approx(6)  # not 5


def test_marks_fit_between_numbers() -> None:
    shown = {
        "not audited": "?",
        "not audited, 2 left out": "?\n(-2)",
        "1,234 left out, one class": "(-1,234)\none class",
        "seen, 12 near-duplicates": "seen\n12",
        "seen (declared)": "seen*",
        "1 near-duplicate scored": "(+1)",
    }
    assert {mark: notes.short_mark(mark) for mark in shown} == shown
