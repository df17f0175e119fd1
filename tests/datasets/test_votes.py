"""The rules that turn ten votes into a label."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.ferplus import EXPECTED, _split_of_number
from fergen_bench.datasets.settings import LabelRule
from fergen_bench.datasets.votes import COLUMNS, Ballot, ballots, label_of, part_ballots
from fergen_bench.error import BenchError

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
PARTS = {
    "train": ("Training", "FER2013Train"),
    "val": ("PublicTest", "FER2013Valid"),
    "test": ("PrivateTest", "FER2013Test"),
}


# ----------------------------------------------------------------------------------------------------------- real files


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Ballot]]:
    """The official files of votes."""
    if not (folder := os.environ.get("FERGEN_LABELS")):
        pytest.skip("FERGEN_LABELS names no folder with fer2013new.csv.gz and ferplus_label_*.csv.gz")
    target = tmp_path_factory.mktemp("labels")
    for packed in Path(folder).glob("*.csv.gz"):
        (target / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    parts = {"train": "train", "val": "valid", "test": "test"}
    return {
        "fer2013new": list(ballots(target / "fer2013new.csv")),
        "label.csv": [
            ballot
            for split, word in parts.items()
            for ballot in part_ballots(target / f"ferplus_label_{word}.csv", split)
        ],
    }


@pytest.mark.parametrize(
    ("source", "rule", "eight", "seven"),
    [
        ("fer2013new", "majority", (25060, 3199, 3153), (24941, 3186, 3137)),
        ("fer2013new", "probability", (27956, 3505, 3505), (27796, 3482, 3480)),
        ("fer2013new", "multi-target", (27671, 3472, 3472), (27526, 3454, 3449)),
        ("fer2013new", "argmax10", (28389, 3553, 3546), (28224, 3529, 3519)),
        ("fer2013new", "argmax8", (28559, 3579, 3573), (28392, 3554, 3544)),
        ("label.csv", "majority", (25045, 3191, 3137), (24925, 3175, 3122)),
        ("label.csv", "argmax10", (28385, 3555, 3545), (28217, 3529, 3517)),
        ("label.csv", "argmax8", (28556, 3579, 3573), (28386, 3552, 3543)),
    ],
)
def test_every_rule_yields_the_published_number_of_faces(
    real: dict[str, list[Ballot]], source: str, rule: LabelRule, eight: tuple[int, ...], seven: tuple[int, ...]
) -> None:
    found = Counter((ballot.split, label_of(ballot.votes, rule)) for ballot in real[source])
    for split, of_eight, of_seven in zip(PARTS, eight, seven, strict=True):
        emotions = sum(found[split, name] for name in COLUMNS[:8])
        assert (emotions, emotions - found[split, "contempt"]) == (of_eight, of_seven)
        if (source, rule) in EXPECTED:
            assert {name: found[split, name] for name in EXPRESSIONS} == EXPECTED[source, rule][split]


def test_why_real_faces_fall_out_of_the_majority(real: dict[str, list[Ballot]]) -> None:
    named = [ballot for ballot in real["fer2013new"] if ballot.name]
    found = Counter((ballot.split, label_of(ballot.votes, "majority")) for ballot in named)
    assert [found[split, ""] for split in PARTS] == [3423, 367, 410]
    assert [found[split, "unknown"] + found[split, "NF"] for split in PARTS] == [78, 13, 11]
    assert [found[split, "contempt"] for split in PARTS] == [119, 13, 16]
    nameless = Counter(ballot.split for ballot in real["fer2013new"] if not ballot.name)
    assert [nameless[split] for split in PARTS] == [148, 10, 15]


def test_the_real_rows_of_one_name_are_fewer_files(real: dict[str, list[Ballot]]) -> None:
    kept = [(b.split, b.name) for b in real["fer2013new"] if label_of(b.votes, "majority") in EXPRESSIONS]
    assert [sum(split == part for part, _ in set(kept)) for split in PARTS] == [24938, 3186, 3137]


def test_the_number_in_a_name_determines_its_part(real: dict[str, list[Ballot]]) -> None:
    for ballot in (ballot for rows in real.values() for ballot in rows if ballot.name):
        assert _split_of_number(int(ballot.name[3:10])) == ballot.split


# ---------------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        # votes, then majority, probability, multi-target, argmax8, argmax10
        ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0), ("", "neutral", "neutral", "neutral", "neutral")),
        ((5, 1, 0, 1, 1, 1, 1, 0, 0, 0), ("neutral",) * 5),  # single votes are struck out
        (
            (5, 5, 0, 0, 0, 0, 0, 0, 0, 0),
            ("", "neutral", "neutral", "neutral", "neutral"),
        ),  # half is not more than half
        ((0, 0, 0, 0, 0, 0, 0, 0, 0, 10), ("NF",) * 5),
        ((0, 0, 0, 4, 0, 0, 0, 0, 6, 0), ("unknown", "unknown", "unknown", "sadness", "unknown")),
        ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), ("", "", "", "neutral", "neutral")),
        ((2, 2, 2, 2, 2, 0, 0, 0, 0, 0), ("", "", "", "neutral", "neutral")),  # too many columns
        ((0, 0, 0, 0, 0, 0, 2, 8, 0, 0), ("contempt",) * 5),
    ],
)
def test_rules_on_votes(votes: tuple[int, ...], expected: tuple[str, ...]) -> None:
    rules: list[LabelRule] = ["majority", "probability", "multi-target", "argmax8", "argmax10"]
    assert tuple(label_of(votes, rule) for rule in rules) == expected


CSV_TEXT = st.text(alphabet=st.one_of(st.sampled_from('0123456789,,,"\n\n;. ferpng'), st.characters(codec="utf-8")))


@settings(max_examples=60, derandomize=True)
@given(text=CSV_TEXT, header=st.sampled_from(["", HEADER + "\n"]), row=st.sampled_from(["", "Training,a.png,1,2"]))
def test_any_text_as_votes_gives_ballots_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str, header: str, row: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_votes.csv"
    path.write_text(header + row + text, encoding="utf-8")
    for parse in (ballots, lambda file: part_ballots(file, "test")):
        with suppress(BenchError):
            assert all(len(ballot.votes) == 10 for ballot in parse(path))
