from __future__ import annotations

import pytest

from fergen_bench.wording import in_words, listed, many


@pytest.mark.parametrize(
    ("noun", "verb", "said"),
    [
        ("record", "", ("0 records", "1 record", "2 records")),
        ("record", "were", ("0 records were", "1 record was", "2 records were")),
        ("image", "are", ("0 images are", "1 image is", "2 images are")),
        ("run", "have", ("0 runs have", "1 run has", "2 runs have")),
        ("row", "differ", ("0 rows differ", "1 row differs", "2 rows differ")),
        ("class", "", ("0 classes", "1 class", "2 classes")),
        ("epoch", "", ("0 epochs", "1 epoch", "2 epochs")),
        ("batch", "", ("0 batches", "1 batch", "2 batches")),
        ("copy", "", ("0 copies", "1 copy", "2 copies")),
        ("key", "", ("0 keys", "1 key", "2 keys")),
        ("file of features", "", ("0 files of features", "1 file of features", "2 files of features")),
    ],
)
def test_a_number_agrees_with_its_noun_and_verb(noun: str, verb: str, said: tuple[str, str, str]) -> None:
    assert tuple(many(count, noun, verb) for count in (0, 1, 2)) == said


def test_a_part_agrees_with_the_whole() -> None:
    assert many(1, "run", "have", of=3) == "1 of 3 runs has"
    assert many(1, "run", of=1) == "1 of 1 run"
    assert many(1000, "face", of=20000) == "1,000 of 20,000 faces"


def test_many_names_are_cut_short() -> None:
    assert [listed("abcdef"[:count], 3) for count in range(7)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and d",
        "a, b, c and 2 more",
        "a, b, c and 3 more",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "none"),
        (True, "yes"),
        (False, "no"),
        (1234, "1,234"),
        ("a", "a"),
        (["a:3"], "a:3"),
        ({"b", "a"}, "a and b"),
        (("a", "b", "c"), "a, b and c"),
        ({"total": 2, "files": ["faces.csv:3", "faces.csv:4"]}, "total 2; files faces.csv:3 and faces.csv:4"),
    ],
)
def test_values_are_shown_in_words(value: object, said: str) -> None:
    assert in_words(value) == said
