"""The agreement of a single annotator with the label, computed by hand and on the official votes."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fergen_bench.data.facts import ANNOTATOR, facts_of
from fergen_bench.data.prepared import read_about
from fergen_bench.datasets.annotators import agreement, by_part
from fergen_bench.datasets.prepare import prepare
from fergen_bench.datasets.reader import Face, Listing
from fergen_bench.datasets.settings import DomainSettings, LabelRule
from fergen_bench.datasets.votes import COLUMNS, Votes, ballots, label_of, vote_columns


def votes(**of: int) -> Votes:
    return tuple(of.get(column, 0) for column in COLUMNS)


ALL = votes(happiness=10)
SPLIT = votes(happiness=7, neutral=3)
CLOSE = votes(happiness=4, neutral=3, anger=1, fear=1, unknown=1)


def test_a_vote_agrees_with_the_label_of_the_others() -> None:
    assert agreement([ALL], "majority") == 1.0
    # Without one of the seven, 6 of 9 are happiness; without one of the three, 7 of 9 are.
    assert agreement([SPLIT], "majority") == 7 / 10
    assert agreement([ALL, SPLIT, SPLIT], "majority") == 24 / 30


def test_votes_whose_others_have_no_label_do_not_count() -> None:
    # Without one happiness, 3 and 3 remain after single votes are removed: no majority. Without one neutral it is
    # 4 of 6. Without one of the three single votes it is 4 of 7. So 6 votes count, and none of these is happiness.
    assert label_of(CLOSE, "majority") == "happiness"
    assert agreement([CLOSE], "majority") == 0.0
    # By argmax10, of 3 and 3 neutral is first: the four disagree, as the other six do.
    assert agreement([CLOSE], "argmax10") == 0.0
    assert agreement([votes(contempt=10)], "majority") is None
    assert agreement([], "majority") is None


def test_a_vote_for_another_emotion_is_a_disagreement() -> None:
    assert agreement([votes(happiness=8, contempt=2)], "majority") == 8 / 10
    assert agreement([votes(happiness=8, unknown=1, NF=1)], "majority") == 8 / 10


def columns(parts: Mapping[str, list[Votes]]) -> dict[str, list[str]]:
    rows = [{"split": part, **vote_columns(one)} for part, several in parts.items() for one in several]
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_each_part_has_its_own_share() -> None:
    found = by_part(columns({"train": [ALL], "test": [SPLIT]}), "majority")
    assert found == {"version": ANNOTATOR, "train": 1.0, "test": 0.7}
    assert by_part(columns({"test": [SPLIT]}), None) == {}
    assert by_part({"split": ["test"], "votes_happiness": ["3"]}, "majority") == {}


def test_a_prepared_domain_has_the_share_of_its_scored_images(tmp_path: Path) -> None:
    """The votes of an unreadable image do not count."""
    faces = []
    for number, (part, one) in enumerate((("train", ALL), ("test", SPLIT), ("test", ALL), ("test", SPLIT))):
        file = tmp_path / f"{number}.png"
        Image.fromarray(np.full((48, 48), 40 * number, np.uint8)).save(file)
        faces.append(Face(file.name, part, "happiness", "happiness", file=file, extra=vote_columns(one)))
    (tmp_path / "3.png").write_bytes(b"not an image")
    settings = DomainSettings(path=tmp_path, allow_missing=True)
    listing = Listing(faces=faces, about={"label_rule": "majority"})
    folder = prepare("votes", listing, {}, settings, tmp_path / "prepared", 1, lambda done, total: None)
    about = read_about(folder)
    assert about["single_annotator"] == {"version": ANNOTATOR, "train": 1.0, "test": 0.85}
    assert facts_of(about, is_target=True).annotator == 0.85
    assert facts_of(about).annotator is None  # it is not scored
    old = {**about, "single_annotator": {"version": ANNOTATOR + 1, "test": 0.85}}
    assert facts_of(old, is_target=True).annotator is None
    assert facts_of({**about, "single_annotator": {}}, is_target=True).annotator is None


@pytest.mark.parametrize(
    ("rule", "faces", "share"),
    [("majority", 3137, 77.80), ("argmax10", 3519, 71.09), ("argmax8", 3544, 70.73), ("probability", 3480, 71.61)],
)
def test_the_official_votes_have_the_documented_shares(
    tmp_path: Path, rule: LabelRule, faces: int, share: float
) -> None:
    """docs/datasets.md states these numbers."""
    if not (folder := os.environ.get("FERGEN_LABELS")):
        pytest.skip("FERGEN_LABELS names no folder with fer2013new.csv.gz")
    (tmp_path / "votes.csv").write_bytes(gzip.decompress((Path(folder) / "fer2013new.csv.gz").read_bytes()))
    scored = [
        ballot.votes
        for ballot in ballots(tmp_path / "votes.csv")
        if ballot.split == "test" and ballot.name and label_of(ballot.votes, rule) in COLUMNS[:7]
    ]
    found = agreement(scored, rule)
    assert found is not None
    assert (len(scored), round(100 * found, 2)) == (faces, share)
