"""The audit of a suite: its counts, its list of pairs and its contact sheet."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import Prepared, compressed, near, quiet

from fergen_bench.data.domain import Domain
from fergen_bench.datasets import audit as audits
from fergen_bench.datasets import near_duplicates, sketches
from fergen_bench.datasets.audit import Audit, audit_domains
from fergen_bench.datasets.comparisons import Comparisons
from fergen_bench.error import BenchError

# ------------------------------------------------------------------------------------------------------- what is stored


def test_a_domain_goes_by_the_name_its_suite_gives_it(
    prepared: Prepared, made: Callable[..., Audit], store: Comparisons, drawn: list[np.ndarray]
) -> None:
    """Two folders that were prepared under one name are two domains."""
    first = prepared("rafdb", train=drawn[:3])
    one = Domain(first.folder.rename(first.folder.with_name("first")), "mine")
    two = Domain(prepared("rafdb", test=[drawn[0], drawn[9]]).folder, "theirs")
    audit = made(one, two)
    assert near(audit, store, "theirs", "test", "mine") == {"test-0"}
    assert [(row.domain_a, row.domain_b) for row in audit.pairs] == [("mine", "theirs")]


def test_the_text_of_an_audit(audit: Audit) -> None:
    assert {(*overlap.a, *overlap.b): (overlap.exact, overlap.near) for overlap in audit.overlaps} == {
        ("mma", "test", "mma", "val"): (1, 0),
        ("mma", "test", "rafdb", "train"): (1, 1),
        ("mma", "train", "rafdb", "train"): (3, 0),
        ("rafdb", "test", "rafdb", "train"): (1, 0),
    }
    page = (audit.folder / "audit.md").read_text()
    assert "| mma test | rafdb train | 1 | 1 | 2 of 4 (50.0%) | 2 of 10 (20.0%) |" in page
    assert "## Inside a split\n\nNo near-duplicates." in page


def test_a_crop_is_not_found_and_the_text_says_so(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    cropped = [np.asarray(Image.fromarray(face[:54, :54]).resize((64, 64))) for face in drawn[:4]]
    found = made(prepared("one", train=drawn[:4]), prepared("two", test=cropped))
    assert found.pairs == ()
    page = (found.folder / "audit.md").read_text()
    assert "Crops of a picture to 92 % of its side or less are not found" in page


def test_five_domains_under_another_name_or_with_one_more_compare_only_what_is_new(
    prepared: Prepared, store: Comparisons, drawn: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains = [prepared(name, train=drawn[at : at + 4], test=[drawn[30 + at]]) for at, name in enumerate("abcd")]
    read: list[str] = []
    sketch = sketches._sketch
    monkeypatch.setattr(sketches, "_sketch", lambda block: (read.append(block.folder.name), sketch(block))[1])

    def audited(suite: str, *chosen: Domain) -> Audit:
        fresh = Comparisons(store.folder)
        return audit_domains(suite, chosen, tmp_path / "audit" / suite, fresh, tmp_path / "kept", 1, quiet)

    first = audited("four", *domains)
    assert (first.compared, first.known) == (10, 0)
    assert sorted(read) == ["a", "b", "c", "d"]
    again = audited("renamed", *reversed(domains))
    assert (again.compared, again.known) == (0, 10)
    assert set(again.pairs) == set(first.pairs)
    assert (again.folder / "near-duplicates.csv").read_bytes() == (first.folder / "near-duplicates.csv").read_bytes()
    new = prepared("new", train=[drawn[1], drawn[20]], test=[compressed(drawn[2])])
    more = audited("five", domains[0], domains[1], domains[2], new)
    assert (more.compared, more.known) == (4, 6)  # the new one with each of the others, and with itself
    assert sorted(read) == ["a", "b", "c", "d", "new"]  # faces are read once
    whole = audit_domains(
        "five",
        [domains[0], domains[1], domains[2], new],
        tmp_path / "whole",
        Comparisons(tmp_path / "elsewhere"),
        None,
        1,
        quiet,
    )
    assert more.pairs == whole.pairs  # of equal faces in three domains too
    assert {(row.domain_a, row.domain_b) for row in more.pairs} >= {
        ("a", "b"),
        ("a", "new"),
        ("b", "new"),
        ("c", "new"),
    }


def test_two_names_of_one_domain_are_compared_once(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    one = prepared("one", train=drawn[:3], test=[drawn[0]])
    audit = made(one, Domain(one.folder, "two"))
    assert (audit.compared, len(audit.pairs)) == (1, 1)
    assert audit.notes == ("two has the same images and labels as one; the two were compared as one",)


def test_the_csv_names_every_pair_in_order(audit: Audit) -> None:
    with (audit.folder / "near-duplicates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    keys = [tuple(row.values())[:6] for row in rows]
    assert keys == sorted(keys)
    (alike,) = [row for row in rows if row["kind"] == "near"]
    assert (alike["id_a"], alike["id_b"]) == ("test-1", "train-5")
    assert int(alike["distance"]) <= near_duplicates.DISTANCE
    assert near_duplicates.CORRELATION <= float(alike["similarity"]) < 1


def test_the_sheet_shows_near_pairs_side_by_side(audit: Audit, drawn: list[np.ndarray]) -> None:
    with Image.open(audit.folder / "worst-pairs.png") as sheet:
        pixels = np.asarray(sheet)
    face = np.asarray(Image.fromarray(drawn[5]).resize((96, 96), Image.Resampling.BICUBIC)).astype(int)
    left, right = pixels[4:100, 4:100].astype(int), pixels[4:100, 102:198].astype(int)
    assert np.abs(right - face).max() == 0
    assert 0 < np.abs(left - face).mean() < 12


def test_a_new_audit_takes_the_place_of_the_old(
    audit: Audit, prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray]
) -> None:
    made(prepared("other", train=drawn[:3]))
    assert {path.name for path in audit.folder.iterdir()} == {"near-duplicates.csv", "audit.md"}
    assert [path.name for path in audit.folder.parent.iterdir()] == ["mine"]


def test_an_interrupted_audit_leaves_the_old_one(
    audit: Audit, prepared: Prepared, store: Comparisons, drawn: list[np.ndarray]
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "comparing" and done > 5:
            raise KeyboardInterrupt

    before = (audit.folder / "audit.md").read_bytes()
    files = sorted(store.folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        audit_domains("mine", [prepared("other", train=drawn)], audit.folder, store, None, 1, interrupt)
    assert (audit.folder / "audit.md").read_bytes() == before
    assert [path.name for path in audit.folder.parent.iterdir()] == ["mine"]
    assert sorted(store.folder.iterdir()) == files


# ---------------------------------------------------------------------------------------------------------- bad input


def test_a_folder_of_something_else_is_not_overwritten(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray], tmp_path: Path
) -> None:
    precious = tmp_path / "audit" / "mine" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("…")
    with pytest.raises(BenchError, match="has other content than an audit"):
        made(prepared("a", train=drawn[:2]))
    assert precious.exists()


def test_a_full_disk_is_one_sentence(
    prepared: Prepared, made: Callable[..., Audit], drawn: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audits, "_write", full)
    with pytest.raises(BenchError, match="the audit cannot be written: No space left on device"):
        made(prepared("a", train=drawn[:2]))
