"""The committed records of synth5 belong to the methods and images of this commit, and the pages agree with them."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from examples import FINGERPRINTS

import fergen_bench as fb
from conftest import ROOT
from fergen_bench.api.verify import verify
from fergen_bench.experiment.project import Project
from fergen_bench.records.frame import current, row_of
from fergen_bench.records.packed import PackedRecords
from fergen_bench.records.record import RunRecord
from fergen_bench.report.leaderboard import LeaderboardView
from fergen_bench.report.markdown import markdown
from fergen_bench.synth import DOMAINS

FOLDER = ROOT / "results" / "reference"


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    found, faults = PackedRecords(FOLDER).read()
    assert not faults
    return [record for record in current(found) if record.cells]


def scores(page: Path) -> list[tuple[str, ...]]:
    """The rows of the leaderboards on a page: the method and its four means."""
    return [row[:5] for row in rows(page)]


def rows(page: Path) -> list[tuple[str, ...]]:
    """The rows of the leaderboards on a page, with all of their cells."""
    found = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in page.read_text().splitlines()]
    return [row for row in found if len(row) > 5 and row[0] not in DOMAINS and "±" in row[1]]


def test_packed_results_are_sound_and_all_of_them_can_be_counted_again() -> None:
    found = verify(Project(ROOT, configured=False), FOLDER)
    assert found.faults == []
    assert len(found.recounted) == sum(bool(record.cells) for record in found.records) > 0


def test_packed_results_are_small_and_without_pages() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".jsonl", ".npz", ".md", ".json", ".csv"}
    assert sum(path.stat().st_size for path in files) <= 12e6
    rows = [line for path in FOLDER.rglob("*.jsonl") for line in path.read_bytes().splitlines() if b'"key"' in line]
    assert max(map(len, rows)) <= 2048


def test_every_packed_row_is_whole(records: list[RunRecord]) -> None:
    rows: dict[tuple[object, ...], set[tuple[object, int]]] = {}
    for entry in records:
        spec = entry.spec
        rows.setdefault(row_of(spec)[:4] + row_of(spec)[5:], set()).add(
            ((spec.sources, spec.adaptation_target), spec.seed)
        )
    for row, runs in rows.items():
        assert runs == set(product({training for training, _ in runs}, {seed for _, seed in runs})), row


def test_packed_records_were_made_with_the_methods_of_this_commit(records: list[RunRecord]) -> None:
    project = Project(ROOT, configured=False)
    used = {(entry.spec.method, entry.spec.version) for entry in records if entry.spec.exposure is None}
    assert used == {(name, project.method(name).version) for name, _ in used}


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


def test_the_committed_leaderboard_is_that_of_the_records(reference: list[LeaderboardView]) -> None:
    text = (FOLDER / "synth5" / "leaderboard.md").read_text()
    own = markdown(reference)
    assert text[: len(own) - 1] == own[:-1]  # after it come the scores on changed images


def test_the_records_are_of_the_faces_of_this_version(records: list[RunRecord]) -> None:
    assert all(set(entry.spec.targets.values()) <= set(FINGERPRINTS.values()) for entry in records)


def test_the_readme_shows_rows_of_the_committed_leaderboard() -> None:
    shown = scores(ROOT / "README.md")
    assert shown
    assert set(shown) <= set(scores(FOLDER / "synth5" / "leaderboard.md"))


def test_the_numbers_in_the_words_of_the_readme_are_findings() -> None:
    words = (ROOT / "README.md").read_text().partition("## Results on synth5")[2].partition("\n## ")[0]
    ranges = re.findall(r"[-+]?\d+\.\d to [-+]\d+\.\d", words.replace("\n", " "))
    page = (ROOT / "docs" / "findings.md").read_text()
    assert len(ranges) >= 3
    assert [text for text in ranges if text not in page] == []
