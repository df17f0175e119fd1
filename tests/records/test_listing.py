"""Lists of records, without copies and files in other places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

from examples import SPEC, finished, litter

from fergen_bench.records import store
from fergen_bench.records.listing import is_in_place, read_all


def test_one_torn_record_does_not_hide_the_others(tmp_path: Path) -> None:
    store.save(finished(), tmp_path)
    torn = store.save(finished(replace(SPEC, seed=1)), tmp_path)
    torn.write_text("{")
    records, faults = read_all(tmp_path)
    assert records == [finished()]
    assert [str(torn) in fault for fault in faults] == [True]


def test_only_records_in_their_own_place_count(tmp_path: Path) -> None:
    path = store.save(finished(), tmp_path)
    other = store.save(finished(replace(SPEC, seed=1)), tmp_path)
    strays = litter(path)
    records, faults = read_all(tmp_path)
    assert records == [finished(), finished(replace(SPEC, seed=1))]
    assert len(faults) == 1
    assert f"{strays} files are not records in their own places and are ignored: " in faults[0]
    assert f" and {strays - 3} more; delete or move them" in faults[0]
    # A file in a record's place that cannot be read is another matter.
    other.write_text("{")
    assert [str(other) in fault for fault in read_all(tmp_path)[1]] == [True, False]


def test_a_record_in_a_place_with_accents_counts(tmp_path: Path) -> None:
    """Whichever way a file system writes them."""
    for form in ("NFC", "NFD"):
        runs = tmp_path / form / normalize(form, "Büro")
        store.save(finished(), runs)
        there = tmp_path / form / normalize("NFC", "Büro")
        assert is_in_place(finished(), next(runs.glob("*/*/*.json")), there)
    assert read_all(runs) == ([finished()], [])
