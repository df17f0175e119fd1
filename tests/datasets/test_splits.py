"""Test splits that are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.reader import Face, Listing
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.datasets.splits import draw_test_split
from fergen_bench.error import BenchError


def test_a_drawn_split_keeps_subjects_whole() -> None:
    faces = [Face(f"{n}", "", EXPRESSIONS[n % 7], "", subject=f"p{n // 7}") for n in range(70)]
    listing = Listing(faces)
    draw_test_split(listing, DomainSettings(path=Path(), test_share=0.3))
    made = listing.faces
    assert listing.split_drawn
    assert [(face.id, face.expression) for face in made] == [(face.id, face.expression) for face in faces]
    test = {face.subject for face in made if face.split == "test"}
    assert len(test) == 3
    assert not test & {face.subject for face in made if face.split == "train"}


@pytest.mark.parametrize(
    ("people", "settings", "message"),
    [
        (
            1,
            {"subject": "^([^_]+)_"},
            r"lab: the test split would be empty: the pattern subject = '\^\(\[\^_\]\+\)_' "
            r"finds 1 subject in 70 faces, and a subject may not be in both splits. Write one that distinguishes",
        ),
        (1, {}, "the test split would be empty: there is 1 subject in 70 faces, .* splits. Divide the faces into"),
        (7, {"test_share": 0.99}, "the train split would be empty: there are 7 subjects .* test_share = 0.99, or"),
    ],
)
def test_a_generated_split_without_faces_is_refused(people: int, settings: dict[str, Any], message: str) -> None:
    faces = [Face(f"{n}", "", EXPRESSIONS[n % 7], "", subject=f"p{n % people}") for n in range(70)]
    with pytest.raises(BenchError, match=message):
        draw_test_split(Listing(faces), DomainSettings(path=Path("lab"), **settings))
