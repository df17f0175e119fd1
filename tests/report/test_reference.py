"""The committed records of synth5 belong to the methods and images of this commit, and the pages agree with them.

They are either the records of version 1, in two folders with a file per run, or packed records of version 2.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from examples import FINGERPRINTS

import fergen_bench as fb
from conftest import ROOT, Bench
from fergen_bench.api.verify import verify
from fergen_bench.experiment.project import Project
from fergen_bench.metric import accuracy
from fergen_bench.records import counting
from fergen_bench.records.frame import current, row_of
from fergen_bench.records.packed import PackedRecords, is_packed
from fergen_bench.records.record import RunRecord
from fergen_bench.report.data import superseded
from fergen_bench.report.leaderboard import LeaderboardView
from fergen_bench.report.markdown import markdown
from fergen_bench.synth import DOMAINS

FOLDER = ROOT / "results" / "reference"
BOARDS = (FOLDER / "last", FOLDER / "fair")


PACKED = is_packed(FOLDER)
early = pytest.mark.skipif(PACKED, reason="the committed results are packed")
packed = pytest.mark.skipif(not PACKED, reason="the committed results are not packed")


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    if PACKED:
        found, faults = PackedRecords(FOLDER).read()
        assert not faults
        return [record for record in current(found) if record.cells]
    found = []
    for board in BOARDS:
        loaded, faults = counting.load_all(board)
        assert not faults
        found += loaded
    return found


@early
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


@early
def test_they_were_made_with_the_methods_and_recipes_of_this_commit(records: list[RunRecord]) -> None:
    project = Project(ROOT, configured=False)
    networks = {"suite": {"backbone": "synth", "trunk": "synth-trunk"}}
    for entry in records:
        method = project.method(entry.spec.method)
        earlier = entry.spec.method == "linear_probe" and entry.spec.selection == "last"  # as the page states
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


@early
def test_their_files_are_named_by_their_keys(records: list[RunRecord]) -> None:
    for entry in records:
        board = FOLDER / ("last" if entry.spec.selection == "last" else "fair")
        assert entry.spec.path(board).is_file()


@early
def test_the_page_of_results_says_what_they_say() -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    expected = [row for board in BOARDS for row in scores(board / "leaderboard.md")]
    assert len(expected) >= 5 + 20
    assert sorted(expected) == sorted(scores(ROOT / "docs" / "results.md"))
    matrix = (FOLDER / "last" / "leaderboard.md").read_text().partition("### cafe: ")[2].partition("###")[0]
    for row in (line for line in matrix.splitlines() if line.startswith("|")):
        assert row in page


@early
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


@early
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


@early
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


@early
def test_the_folder_holds_no_pictures_of_faces_and_little_else() -> None:
    kinds = {path.suffix for path in Path(FOLDER).rglob("*") if path.is_file()}
    assert kinds <= {".json", ".md", ".csv", ".tex", ".html"}


# ------------------------------------------------------------------------------------------------------ packed results


@packed
def test_packed_results_are_sound_and_all_of_them_can_be_counted_again() -> None:
    found = verify(Project(ROOT, configured=False), FOLDER)
    assert found.faults == []
    assert len(found.recounted) == sum(bool(record.cells) for record in found.records) > 0


@packed
def test_packed_results_are_small_and_without_pages() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".jsonl", ".npz", ".md"}
    assert sum(path.stat().st_size for path in files) <= 12e6
    rows = [line for path in FOLDER.rglob("*.jsonl") for line in path.read_bytes().splitlines() if b'"key"' in line]
    assert max(map(len, rows)) <= 2048


@packed
def test_every_packed_row_is_whole(records: list[RunRecord]) -> None:
    rows: dict[tuple[object, ...], set[tuple[object, int]]] = {}
    for entry in records:
        spec = entry.spec
        rows.setdefault(row_of(spec)[:4] + row_of(spec)[5:], set()).add(
            ((spec.sources, spec.adaptation_target), spec.seed)
        )
    for row, runs in rows.items():
        assert runs == set(product({training for training, _ in runs}, {seed for _, seed in runs})), row


@packed
def test_packed_records_were_made_with_the_methods_of_this_commit(records: list[RunRecord]) -> None:
    project = Project(ROOT, configured=False)
    for entry in records:
        if entry.spec.exposure is None:
            assert entry.spec.version == project.method(entry.spec.method).version, entry.spec.title


@packed
def test_every_row_has_an_interval_and_a_standing(reference: list[LeaderboardView]) -> None:
    for view in reference:
        for row in view.rows:
            if row.means["unseen"].value == row.means["unseen"].value:
                assert row.means["unseen"].interval != "—", row.name
            if row.seeds > 1:
                assert row.standing in {"best", "tied", "behind"}, row.name


@pytest.fixture(scope="module")
def reference() -> list[LeaderboardView]:
    return fb.load_results("reference", "synth5", project=ROOT).views()


@packed
def test_the_committed_leaderboard_is_that_of_the_records(reference: list[LeaderboardView]) -> None:
    text = (FOLDER / "synth5" / "leaderboard.md").read_text()
    own = markdown(reference)
    assert text[: len(own) - 1] == own[:-1]  # after it come the scores on changed images


@packed
@pytest.mark.parametrize("page", ["docs/results.md", "README.md"])
def test_the_pages_show_rows_of_the_committed_leaderboard(page: str) -> None:
    shown = scores(ROOT / page)
    assert shown
    assert {row[:4] for row in shown} <= {row[:4] for row in scores(FOLDER / "synth5" / "leaderboard.md")}
