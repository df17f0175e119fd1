"""The committed records of synth5 belong to the methods and images of this commit, and the pages agree with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import FINGERPRINTS

from conftest import ROOT, Bench
from fergen_bench.experiment.project import Project
from fergen_bench.metric import accuracy
from fergen_bench.records import counting
from fergen_bench.records.frame import current
from fergen_bench.records.record import RunRecord
from fergen_bench.report.data import superseded
from fergen_bench.synth import DOMAINS

FOLDER = ROOT / "results" / "reference"
BOARDS = (FOLDER / "last", FOLDER / "fair")


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    found = []
    for board in BOARDS:
        loaded, faults = counting.load_all(board)
        assert not faults
        found += loaded
    return found


def test_every_row_is_whole(records: list[RunRecord]) -> None:
    rows: dict[tuple[str, str, float], set[tuple[str, int]]] = {}
    for entry in records:
        assert [cell.target for cell in entry.cells] == list(DOMAINS)
        assert all(cell.count == 1000 for cell in entry.cells)
        row = entry.spec.label, entry.spec.selection, entry.spec.fraction
        rows.setdefault(row, set()).add((*entry.spec.sources, entry.spec.seed))
    for method in ("cafe", "linear_probe", "full_finetune"):
        assert {(method, "last", 1.0), (method, "source-val", 0.5)} <= set(rows)
    for label, runs in rows.items():
        assert runs == {(source, seed) for source in DOMAINS for seed in (0, 1, 2)}, label


def test_they_were_made_with_the_methods_and_recipes_of_this_commit(records: list[RunRecord]) -> None:
    project = Project(ROOT, configured=False)
    networks = {"suite": {"backbone": "synth", "trunk": "synth-trunk"}}
    for entry in records:
        method = project.method(entry.spec.method)
        earlier = entry.spec.method == "linear_probe" and entry.spec.selection == "last"  # the page says so
        earlier |= entry.spec.numerics == 1 and entry.spec.method in {"lp_ft", "tip_adapter"}
        assert entry.spec.version == (1 if earlier else method.version), entry.spec.title
        defaults = {
            name: networks["suite"][name] if value == "suite" else value
            for name, value in method.defaults("small").items()
        }
        if entry.spec.numerics == 1:
            for later in ("sampling", "logit_adjustment", "criterion"):  # parameters since numerics 2
                defaults.pop(later, None)
        assert entry.spec.defaults == defaults, entry.spec.title


def test_their_files_are_named_by_their_keys(records: list[RunRecord]) -> None:
    for entry in records:
        board = FOLDER / ("last" if entry.spec.selection == "last" else "fair")
        assert entry.spec.path(board).is_file()


def test_the_page_of_results_says_what_they_say() -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    expected = [row for board in BOARDS for row in scores(board / "leaderboard.md")]
    assert len(expected) >= 5 + 20
    assert sorted(expected) == sorted(scores(ROOT / "docs" / "results.md"))
    matrix = (FOLDER / "last" / "leaderboard.md").read_text().partition("### cafe: ")[2].partition("###")[0]
    for row in (line for line in matrix.splitlines() if line.startswith("|")):
        assert row in page


def test_the_readme_shows_some_of_it() -> None:
    shown = rows(ROOT / "README.md")
    assert 0 < len(shown) <= 6
    fair = {(*row[:4], row[6]) for row in rows(FOLDER / "fair" / "leaderboard.md")}  # with "against the best"
    assert {row[:5] for row in shown} <= fair


def scores(page: Path) -> list[tuple[str, ...]]:
    """The rows of the leaderboards on a page: the method and its four means."""
    return [row[:5] for row in rows(page)]


def rows(page: Path) -> list[tuple[str, ...]]:
    """The rows of the leaderboards on a page, with all of their cells."""
    found = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in page.read_text().splitlines()]
    return [row for row in found if len(row) > 5 and row[0] not in DOMAINS and "±" in row[1]]


def test_they_are_of_version_1_and_leave_the_tables_beside_a_record_of_version_2(records: list[RunRecord]) -> None:
    assert not set(FINGERPRINTS.values()) & {state for entry in records for state in entry.spec.targets.values()}
    board = [entry for entry in records if entry.spec.selection == "last"]
    learned = {name: FINGERPRINTS[name] for name in board[0].spec.sources}
    spec = replace(board[0].spec, targets=FINGERPRINTS, fingerprints=learned)
    cells = tuple(replace(cell, fingerprint=FINGERPRINTS[cell.target]) for cell in board[0].cells)
    newer = replace(board[0], spec=spec, cells=cells, started="2027-01-01T00:00:00+00:00")
    assert current([*board, newer]) == [newer]
    left_out = superseded([*board, newer], [newer])
    assert sum(map(len, left_out.values())) == len(board)
    assert all("left out" in reason for reason in left_out)


@pytest.mark.slow
def test_a_row_comes_out_again(bench: Bench, project: Project, records: list[RunRecord]) -> None:
    """Faces of version 1 differ by a grey level here and there, and accuracies by a little."""
    result = bench(
        "run", "--suite", "synth5", "--method", "linear_probe", "--seeds", "0", "--sources", "film", "--no-track"
    )
    assert result.code == 0, result.err
    (again,), _ = counting.load_all(project.results / "runs")
    (stored,) = (
        entry
        for entry in records
        if (entry.spec.method, entry.spec.sources) == ("linear_probe", ("film",))
        and (entry.spec.seed, entry.spec.selection) == (0, "last")
    )
    for cell in again.cells:
        other = stored.cell(cell.target)
        assert other is not None
        assert accuracy(np.array(cell.confusion)) == pytest.approx(accuracy(np.array(other.confusion)), abs=0.01)


def test_the_folder_holds_no_pictures_of_faces_and_little_else() -> None:
    kinds = {path.suffix for path in Path(FOLDER).rglob("*") if path.is_file()}
    assert kinds <= {".json", ".md", ".csv", ".tex", ".html"}
